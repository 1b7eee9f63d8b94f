"""gVisor: starting a sandbox under `runsc`, and telling whether this process already runs in one, as in its pod."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

CAPABILITIES = (
    "CAP_SYS_ADMIN",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_KILL",
    "CAP_SYS_CHROOT",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_SETPCAP",
)
"""What the keeper needs of gVisor's own kernel to build the inner wall. Candidates hold none of them."""
POD_WALLS = frozenset({"mount", "net", "ipc", "pid", "root"})
"""Parts of the inner wall that must stand in a pod. Beyond them lie the pod's credentials, network and Argo's files."""
SYSLOG_ACTION_READ_ALL = 3
FIRST_MESSAGE = re.compile(rb"<6>\[ *0\.000000\] Starting gVisor\.\.\.\n")


def surrounds_us() -> bool:
    """Whether the kernel below this process is gVisor's.

    Asked of the kernel itself: gVisor answers syslog(2) to everybody with a log of its own that begins with
    `FIRST_MESSAGE` (its pkg/sentry/kernel/syslog.go). No environment variable or file is believed. Linux refuses the
    call to a process without privilege; its own log begins with its version, and whoever may write to that log cannot
    date a line back to 0.000000.
    """
    buffer = ctypes.create_string_buffer(64)
    length: int = ctypes.CDLL(None).klogctl(SYSLOG_ACTION_READ_ALL, buffer, len(buffer))
    return length > 0 and FIRST_MESSAGE.match(buffer.raw) is not None


def command(keeper: list[str], root: Path, folder: Path, platform: str) -> list[str] | None:
    """The command that runs the keeper in a sandbox of its own, its bundle written to `folder`; None without runsc."""
    runsc = shutil.which("runsc")
    if runsc is None:
        return None
    (folder / "config.json").write_text(json.dumps(_bundle(keeper, root)))
    # Caller's cgroup: runsc would make its own at the root of each controller, out of the caller's limits.
    options = ["--ignore-cgroups", "--network=none", f"--platform={platform}", "--root", str(folder / "state")]
    if os.geteuid() != 0:
        options.append("--rootless")
    return [runsc, *options, "run", "--bundle", str(folder), folder.name]


def _bundle(keeper: list[str], root: Path) -> dict[str, Any]:
    """The OCI runtime bundle: read-only root, empty environment, no network (runtime-spec 1.0.2)."""
    sets = {name: list(CAPABILITIES) for name in ("bounding", "effective", "permitted")}
    user = {"uid": 0, "gid": 0}
    namespaces = [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")]
    return {
        "ociVersion": "1.0.2",
        "process": {"user": user, "args": keeper, "env": [], "cwd": "/", "capabilities": sets, "noNewPrivileges": True},
        "root": {"path": str(root), "readonly": True},
        "hostname": "sandbox",
        "mounts": [{"destination": "/proc", "type": "proc"}, {"destination": "/tmp", "type": "tmpfs"}],
        "linux": {"namespaces": namespaces},
    }
