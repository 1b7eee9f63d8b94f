"""The minimal root: this Python without third-party packages, and nothing else of the machine.

Built once per interpreter and kept in the cache folder, or made with a container image and kept in that (`share/leti`
of the interpreter's prefix); the sandbox mounts it read-only. A candidate finds the standard library in it, four device
files and an empty /tmp.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import shutil
import struct
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
    "_tkinter*",  # brings the X11 libraries
    "_test*",
    "_ctypes_test*",
    "xxlimited*",
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
    """The root for the running Python: the image's, or the cache's, built if neither has one.

    Raises ResourceError or SandboxUnavailable.
    """
    harness = Path(__file__).parent / "inside"
    name = f"root-{_digest(harness)}"
    shipped = shipped_in(Path(sys.base_prefix)) / name
    return shipped if shipped.is_dir() else build_in(cache_folder(), name)


def shipped_in(prefix: Path) -> Path:
    """Where an image keeps the root of the interpreter with this prefix."""
    return prefix / "share" / "leti"


def build_in(folder: Path, name: str | None = None) -> Path:
    """Build the root for the running Python in a folder, unless it is there. Raises ResourceError."""
    harness = Path(__file__).parent / "inside"
    root = folder / (name or f"root-{_digest(harness)}")
    if root.is_dir():
        return root
    try:
        folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix="root-", dir=folder))
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
        raise ResourceError(f"cannot build the sandbox's root in {folder}: {error}; set XDG_CACHE_HOME") from error
    return root


def _digest(harness: Path) -> str:
    """Changes with the interpreter and with the harness; not with times, which images do not keep."""
    parts = [sys.version, str(interpreter()), str(interpreter().stat().st_size)]
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
    copy_python(root)
    # The root is read-only in use: what is not compiled now would be compiled again by every candidate that imports it.
    compileall.compile_dir(root, quiet=2, stripdir=root, prependdir="/")


def copy_python(root: Path) -> None:
    """Copy the interpreter, its standard library and the shared libraries of both to the same paths below `root`."""
    library = Path(sysconfig.get_paths()["stdlib"])
    shutil.copytree(library, inside(root, library), ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    extensions = [path for path in (inside(root, library) / "lib-dynload").glob("*.so") if path.is_file()]
    copy_files(root, {interpreter(), *libraries([interpreter(), *extensions])})


def copy_files(root: Path, files: set[Path]) -> None:
    """Copy what the paths name, links followed, to the same paths below `root`."""
    for path in sorted(files):
        inside(root, path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path.resolve(), inside(root, path))


def inside(root: Path, path: Path) -> Path:
    """The place below `root` of an absolute path."""
    return root / str(path).lstrip("/")


def libraries(binaries: list[Path]) -> set[Path]:
    """The loader, and every shared library that it finds for the binaries. Raises SandboxUnavailable.

    The loader itself is asked (ld.so(8), `--list`): `ldd` is a shell script around it, and images have no shell.
    """
    loader = _loader(interpreter())
    found = {loader}
    for binary in binaries:
        try:
            listing = subprocess.run([loader, "--list", binary], capture_output=True, text=True, check=False).stdout
        except OSError as error:
            raise SandboxUnavailable(f"cannot run {loader} to find Python's libraries: {error}") from error
        found |= {Path(word) for word in listing.split() if word.startswith("/") and Path(word).is_file()}
    return found


def _loader(binary: Path) -> Path:
    """The program interpreter that an ELF file of 64 bits names (elf(5), PT_INTERP)."""
    data = binary.read_bytes()
    if data[:5] != b"\x7fELF\x02":
        raise SandboxUnavailable(f"{binary} is no 64-bit ELF program; run leti with a CPython built for this Linux")
    start, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    for number in range(count):
        kind, offset, length = _segment(data, start + number * size)
        if kind == 3:
            return Path(os.fsdecode(data[offset : offset + length].rstrip(b"\0")))
    raise SandboxUnavailable(f"{binary} is linked statically; run leti with an ordinary CPython")


def _segment(data: bytes, at: int) -> tuple[int, int, int]:
    """Type, offset and size in the file of a program header."""
    kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", data, at)
    return kind, offset, length
