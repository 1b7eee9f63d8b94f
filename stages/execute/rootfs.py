"""The minimal root: this Python without third-party packages, and nothing else of the machine.

Built once per interpreter and kept in the cache folder; the sandbox mounts it read-only. A candidate finds the standard
library in it, three device files and an empty /tmp.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from stages.contract.errors import ResourceError, SandboxUnavailable

HOME = "/leti"
"""Where the harness lies in the root."""
LEFT_OUT = (
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "config-*",
)
DEVICES = ("null", "zero", "random", "urandom")


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/leti`, or `~/.cache/leti`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "leti"


def interpreter() -> Path:
    """The real interpreter, behind the links of a virtual environment."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (Path(sys.base_prefix) / "bin" / name, Path(getattr(sys, "_base_executable", sys.executable))):
        if path.exists():
            return path.resolve()
    return Path(sys.executable).resolve()


def minimal_root() -> Path:
    """The root for the running Python, built if the cache has none. Raises ResourceError or SandboxUnavailable."""
    harness = Path(__file__).parent / "inside"
    root = cache_folder() / f"root-{_digest(harness)}"
    if root.is_dir():
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix="root-", dir=root.parent))
        try:
            _build(building, harness)
            building.chmod(0o755)
            building.rename(root)
        except OSError:
            if not root.is_dir():
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise ResourceError(f"cannot build the sandbox's root in {root.parent}: {error}; set XDG_CACHE_HOME") from error
    return root


def _digest(harness: Path) -> str:
    """Changes with the interpreter and with the harness."""
    parts = [sys.version, str(interpreter()), str(interpreter().stat().st_mtime_ns)]
    parts += [path.name + path.read_text() for path in sorted(harness.glob("*.py"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _build(root: Path, harness: Path) -> None:
    for folder in ("tmp", "proc", "sys", "dev/shm"):
        (root / folder).mkdir(parents=True)
    for device in DEVICES:
        (root / "dev" / device).touch()
    package = root / HOME.strip("/") / "stages" / "execute"
    shutil.copytree(harness, package / "inside", ignore=shutil.ignore_patterns("__pycache__"))
    for parent in (package, package.parent):
        (parent / "__init__.py").touch()
    library = Path(sysconfig.get_paths()["stdlib"])
    shutil.copytree(library, _inside(root, library), ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    extensions = [path for path in (library / "lib-dynload").glob("*.so") if path.is_file()]
    for path in {interpreter(), *_libraries([interpreter(), *extensions])}:
        target = _inside(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path.resolve(), target)


def _inside(root: Path, path: Path) -> Path:
    return root / str(path).lstrip("/")


def _libraries(binaries: list[Path]) -> set[Path]:
    """The shared libraries that the loader would take, by ldd."""
    try:
        listing = subprocess.run(["ldd", *map(str, binaries)], capture_output=True, text=True, check=False).stdout
    except OSError as error:
        raise SandboxUnavailable(f"cannot run ldd to find Python's libraries: {error}; install libc-bin") from error
    words = listing.split()
    return {Path(word) for word in words if word.startswith("/") and not word.endswith(":") and Path(word).is_file()}
