"""Lay the root of the `execute` image: what the stage loads, and nothing else. No shell, no other program, no pip.

    python images/install/root.py TARGET

Run by the Dockerfile's builder in an environment that has the distributions below, and by the tests in theirs. The
files lie at the paths they have here, so that what runs is what was tested: this interpreter with its standard library,
the distributions with all they require, leti's packages of the stage, the shared libraries that the loader finds for
all of these, the candidates' root (`stages.execute.rootfs`), and what the C library reads below /etc.
"""

from __future__ import annotations

import compileall
import importlib.metadata as metadata
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from stages.execute import rootfs

DISTRIBUTIONS = ("boto3", "pydantic", "pyflakes")
PACKAGES = ("stages/__init__.py", "stages/entrypoint.py", "stages/contract", "stages/execute", "stages/tasks")
LEFT_OUT = ("__pycache__", "*.jsonl")
"""Of the packages: caches, and rows of benchmarks, for they hold answers and the evaluators read none."""
USER = 10001
ETC = {
    "passwd": f"root:x:0:0:root:/:/nologin\nleti:x:{USER}:{USER}:leti:/scratch/home:/nologin\n",
    "group": f"root:x:0:\nleti:x:{USER}:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
EMPTY = ("proc", "sys", "dev", "etc", "tmp", "scratch", "var/run/argo", "usr/local/bin")
SERVICES = re.compile(r"botocore/data/(?!(s3|sts|sso|sso-oidc|s3control|signin)/)[^/]+/")
"""botocore describes four hundred services; these are the ones a store and its credentials need."""
REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)[^;]*(;.*)?$")


def lay(target: Path) -> None:
    """Make `target` the image's root. Raises FileExistsError where it is not empty."""
    for folder in EMPTY:
        (target / folder).mkdir(parents=True, exist_ok=True)
    (target / "tmp").chmod(0o1777)
    for name, text in ETC.items():
        (target / "etc" / name).write_text(text)
    rootfs.copy_python(target)
    site = Path(sysconfig.get_paths()["stdlib"]) / "site-packages"
    _copy_distributions(rootfs.inside(target, site))
    _copy_packages(Path(__file__).parents[2], rootfs.inside(target, site))
    binaries = [path for path in rootfs.inside(target, site).rglob("*.so*") if path.is_file()]
    rootfs.copy_files(target, rootfs.libraries(binaries))
    _record_packages(target)
    _compile(target)
    rootfs.build_in(rootfs.inside(target, rootfs.shipped_in(Path(sys.base_prefix))))
    for name in ("python", "python3"):
        (target / "usr/local/bin" / name).unlink(missing_ok=True)
        (target / "usr/local/bin" / name).symlink_to(rootfs.interpreter())


def required(roots: tuple[str, ...]) -> Iterator[metadata.Distribution]:
    """The distributions and everything that they require here, each once."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name not in seen:
            seen.add(name)
            distribution = metadata.distribution(name)
            yield distribution
            waiting += [requirement for requirement in map(_needed, distribution.requires or []) if requirement]


def _needed(requirement: str) -> str | None:
    """The name in a requirement that applies here; extras are not asked for, other markers are about this Python."""
    match = REQUIREMENT.match(requirement)
    if match is None:
        raise ValueError(f"requirement {requirement!r}: not understood")
    marker = match[2] or ""
    if "extra" in marker:
        return None
    old = re.search(r"python_version\s*<\s*['\"]3\.(\d+)", marker)
    return None if old and int(old[1]) <= sys.version_info.minor else match[1]


def _copy_distributions(site: Path) -> None:
    """Copy their files below site-packages: neither scripts nor caches, and of botocore the services in use."""
    for distribution in required(DISTRIBUTIONS):
        for file in distribution.files or []:
            name = file.as_posix()
            if name.startswith("..") or "__pycache__" in name or SERVICES.match(name):
                continue
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(distribution.locate_file(file)), site / name)


def _copy_packages(source: Path, site: Path) -> None:
    for name in PACKAGES:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, site / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            shutil.copy2(source / name, site / name)


def _record_packages(target: Path) -> None:
    """Leave Debian's records of the libraries' packages, one file each, where image scanners look for them."""
    if shutil.which("dpkg-query") is None:
        return
    status = target / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    libraries = [path.relative_to(target) for path in target.glob("lib*/**/*.so*") if path.is_file()]
    names = [f"*/{library.name}" for library in libraries]
    for line in _answer("dpkg-query", "--search", *names).splitlines():
        package, _, path = line.partition(": ")
        if Path(path).name in {library.name for library in libraries} and "lib" in Path(path).parts[:3]:
            record = _answer("dpkg-query", "--status", package)
            (status / package.partition(":")[0]).write_text(record)


def _answer(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _compile(target: Path) -> None:
    """Compile everything once, checked against nothing: a registry that mends file times must not undo it."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(target, quiet=2, force=True, stripdir=target, prependdir="/", invalidation_mode=mode)


if __name__ == "__main__":
    lay(Path(sys.argv[1]))
