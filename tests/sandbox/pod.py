"""A pod as Kubernetes starts it for `execute`: an OCI bundle of the image's root, run by the real runsc.

Uid 10001 without a capability and with no_new_privs, read-only root, /tmp and /scratch in memory, no network, Argo's
folder mounted, no runsc inside. The root is laid by the script that lays the image's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.execute import rootfs
from tests.conftest import ROOT

USER = 10001
SECRET = "canary-9d2e81"
ENVIRONMENT = {
    "PATH": "/usr/local/bin",
    "HOME": "/scratch/home",
    "XDG_CACHE_HOME": "/scratch/cache",
    "LETI_SCRATCH": "/scratch",
    "LETI_LOG": "json",
    "AWS_SECRET_ACCESS_KEY": SECRET,
}


def lay_root(target: Path) -> Path:
    """The root of the `execute` image, of this interpreter and this environment."""
    command = [sys.executable, "images/install/root.py", str(target)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    (target / "store").mkdir()
    return target


class Pod:
    """One container in one sandbox."""

    def __init__(self, root: Path, folder: Path, store: Path) -> None:
        self.root = root
        self.folder = folder
        self.argo = folder / "argo"
        self.argo.mkdir(parents=True)
        (self.argo / "template").write_text(SECRET)
        (self.argo / "template").chmod(0o444)
        self.argo.chmod(0o777)
        self.store = store

    def run(self, *command: str, platform: str = "systrap", timeout: float = 200.0) -> subprocess.CompletedProcess[str]:
        """Run a command as the pod's main process."""
        (self.folder / "config.json").write_text(json.dumps(self._config(command)))
        options = ["--ignore-cgroups", "--network=none", f"--platform={platform}", "--root", str(self.folder / "state")]
        if os.geteuid() != 0:
            options.append("--rootless")
        line = ["runsc", *options, "run", "--bundle", str(self.folder), f"pod-{os.getpid()}-{id(self)}"]
        return subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False, env=dict(os.environ))

    def _config(self, command: tuple[str, ...]) -> dict[str, Any]:
        process = {
            "user": {"uid": USER, "gid": USER},
            "args": list(command),
            "env": [f"{name}={value}" for name, value in ENVIRONMENT.items()],
            "cwd": "/",
            "noNewPrivileges": True,
        }
        return {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": str(self.root), "readonly": True},
            "hostname": "leti-execute",
            "mounts": [
                {"destination": "/proc", "type": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
                _memory("/tmp"),
                _memory("/scratch"),
                _bind(self.argo, "/var/run/argo"),
                _bind(self.store, "/store"),
            ],
            "linux": {"namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")]},
        }


def interpreter() -> str:
    """The pod's Python, at the path it has here."""
    return str(rootfs.interpreter())


def _memory(path: str) -> dict[str, Any]:
    return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": ["rw", "mode=1777"]}


def _bind(source: Path, path: str) -> dict[str, Any]:
    return {"destination": path, "type": "bind", "source": str(source), "options": ["rbind", "rw"]}
