"""Starting a sandbox: the keeper under gVisor's `runsc`, or as a plain process behind the inner wall alone.

In a pod of a gVisor runtime class there is no `runsc` and no need of one: gVisor is below this process already, and the
keeper starts as its child, behind an inner wall that must be complete.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

from stages.contract.errors import SandboxUnavailable
from stages.execute import gvisor, rootfs
from stages.execute.inside import wall, wire
from stages.execute.limits import Limits

SandboxKind = Literal["gvisor", "process"]
START_SECONDS = 60.0
PYTHON_FLAGS = ("-I", "-S", "-B")
PREFIX = "leti-sandbox-"
ABANDONED_SECONDS = 3600
FIRST_USER = 1 << 20
"""Candidates run as users from here on: no account of the machine, and other ones for every sandbox of it."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a sandbox is, for the record."""

    kind: SandboxKind
    platform: str
    """gVisor's platform; "pod" for the gVisor that this process runs in itself, "host" for the process sandbox."""
    walls: tuple[str, ...]
    """Parts of the inner wall that stand: namespaces, `root` of its own, `uid` of its own."""
    start_seconds: float

    def __str__(self) -> str:
        """For people: what it runs on and which walls stand."""
        return f"{self.kind} ({self.platform}; {', '.join(self.walls) or 'no inner wall'})"


def _locked_file(folder: Path) -> IO[bytes]:
    """The sandbox's standard error. Its lock says that the folder is in use; it appears under its name only locked."""
    file = open(folder / "starting", "w+b")  # noqa: SIM115
    fcntl.flock(file, fcntl.LOCK_EX)
    (folder / "starting").rename(folder / "stderr")
    return file


def _sweep() -> None:
    """Remove the folders of sandboxes whose judge was killed: nobody holds their lock any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if not any(folder.iterdir()):
                if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                    folder.rmdir()
                continue
            with open(folder / "stderr", "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


class Sandbox:
    """One keeper and the pipes to it. Constructing begins its start, `wait` ends it; both raise SandboxUnavailable."""

    def __init__(self, kind: SandboxKind, limits: Limits, *, slot: int, share: bool, platform: str) -> None:
        started = time.monotonic()
        self.kind = kind
        self.platform = "host" if kind == "process" else "pod" if gvisor.surrounds_us() else platform
        _sweep()
        self.folder = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        self.errors = _locked_file(Path(self.folder.name))
        try:
            self.process = self._start(self._command(limits, slot, share), kind)
        except BaseException:
            self._discard()
            raise
        self.started = started

    def _start(self, command: list[str], kind: SandboxKind) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=self.errors, env={}, cwd="/", start_new_session=True
            )
        except OSError as error:
            raise SandboxUnavailable(f"cannot run {command[0]}: {error}; {_remedy(kind)}") from error

    def wait(self) -> Description:
        """Until the sandbox is ready. Raises SandboxUnavailable where it does not come up."""
        walls = self._first_word(self.kind)
        missing = gvisor.POD_WALLS.difference(walls)
        if self.platform == "pod" and missing:
            raise SandboxUnavailable(
                f"the pod's gVisor refuses a part of the inner wall: {', '.join(sorted(missing))} (of it stand "
                f"{walls}); update the node's gVisor"
            )
        if "pid" not in walls:
            # Candidates see this process and are of its user: close its memory and its environment to them.
            wall.Kernel().prctl(wall.PR_SET_DUMPABLE, 0)
        return Description(self.kind, self.platform, tuple(walls), time.monotonic() - self.started)

    @property
    def requests(self) -> IO[bytes]:
        """Jobs go in here."""
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def verdicts(self) -> IO[bytes]:
        """Verdicts come out here."""
        assert self.process.stdout is not None
        return self.process.stdout

    def _command(self, limits: Limits, slot: int, share: bool) -> list[str]:
        root = rootfs.minimal_root()
        under_runsc = self.platform not in ("host", "pod")
        config = {
            "python": str(rootfs.interpreter()), "flags": PYTHON_FLAGS, "limits": asdict(limits), "share": share,
            "home": rootfs.HOME if under_runsc else str(Path(__file__).parents[2]),
            "home_in_root": rootfs.HOME, "root": "/" if under_runsc else str(root),
            "uid": FIRST_USER + slot * 8, "gvisor": self.kind == "gvisor",
        }  # fmt: skip
        start = (
            f"import sys; sys.path.append({config['home']!r}); from stages.execute.inside.__main__ import main; main()"
        )
        keeper = [str(config["python"]), *PYTHON_FLAGS, "-c", start, "keeper", json.dumps(config)]
        if not under_runsc:
            return keeper
        command = gvisor.command(keeper, root, Path(self.folder.name), self.platform)
        if command is None:
            raise SandboxUnavailable(f"runsc is not on the PATH; {_remedy('gvisor')}")
        return command

    def _first_word(self, kind: SandboxKind) -> list[str]:
        deadline = time.monotonic() + START_SECONDS
        while not select.select([self.verdicts], [], [], 0.1)[0]:
            if time.monotonic() > deadline:
                raise SandboxUnavailable(
                    f"the {kind} sandbox did not start within {START_SECONDS:g} s; {_remedy(kind)}"
                )
        try:
            message, _ = wire.read_frame(self.verdicts.fileno())
        except (wire.Closed, wire.Malformed):
            raise SandboxUnavailable(
                f"the {kind} sandbox did not start: {self._last_words()}; {_remedy(kind)}"
            ) from None
        walls: list[str] = message["ready"]
        return walls

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(2)
        self.errors.seek(0)
        lines = self.errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else f"exit status {self.process.poll()}"

    def close(self) -> None:
        """End it: the keeper ends when its input does; what does not end is killed."""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._discard()

    def _discard(self) -> None:
        self.errors.close()
        self.folder.cleanup()


def _remedy(kind: SandboxKind) -> str:
    if kind == "gvisor":
        return (
            "install runsc (Debian: apt-get install runsc), run the pod under a gVisor runtime class, or choose the "
            "sandbox `process`"
        )
    return "see what the machine forbids, or choose the sandbox `gvisor`"
