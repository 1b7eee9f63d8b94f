"""A Ceph cluster of one machine: a monitor, an OSD with its disk in a file, and a gateway that speaks S3.

    python -m tests.interop.ceph FOLDER

brings one up until it is interrupted, and prints what to set to reach it. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import HTTPError

import boto3

PROGRAMS = ("ceph-mon", "ceph-osd", "radosgw", "ceph", "radosgw-admin", "monmaptool")
PACKAGES = "ceph-mon ceph-osd ceph-common radosgw"
"""Debian's packages with the programs."""
PATIENCE = 180.0
"""Seconds that a daemon or a command may take; on a quiet machine it takes a few."""
DISK_BYTES = 3 << 30
"""Of the OSD, in a file that takes up what is written to it."""
CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
run dir = {folder}
admin socket =
log file = {folder}/$name.log
log to stderr = false
err to stderr = false
crash dir = {folder}
mon data = {folder}/mon
mon data avail crit = 1
mon allow pool size one = true
mon max pg per osd = 2000
osd data = {folder}/osd
osd objectstore = bluestore
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd memory target = 1073741824
bluestore block size = {disk}
rgw data = {folder}
rgw frontends = beast endpoint=127.0.0.1:{gateway}
"""


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Ceph:
    """A context manager; `url` is the endpoint of its gateway, which knows the one user of `account`."""

    def __init__(self, folder: Path, account: Mapping[str, str]) -> None:
        self.folder, self.account = folder, account
        self._port, self._gateway = _free_port(), _free_port()
        self.url = f"http://127.0.0.1:{self._gateway}"
        self._names = itertools.count()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._fsid = str(uuid.uuid4())
        text = CONFIGURATION.format(
            fsid=self._fsid, port=self._port, folder=folder, gateway=self._gateway, disk=DISK_BYTES
        )
        for name in ("mon", "osd"):
            (folder / name).mkdir(parents=True)
        (folder / "ceph.conf").write_text(text)

    def __enter__(self) -> Ceph:
        try:
            self._bring_up()
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_down()

    def start(self, daemon: str) -> None:
        """Start `mon`, `osd` or `radosgw`."""
        lines = {"mon": "ceph-mon -f -i a", "osd": "ceph-osd -f -i 0", "radosgw": "radosgw -f -n client.rgw"}
        last_will = ["setpriv", "--pdeathsig", "KILL"]  # whoever kills us kills it
        nowhere = subprocess.DEVNULL
        self._processes[daemon] = subprocess.Popen(
            last_will + self._line(lines[daemon]), stdin=nowhere, stdout=nowhere, stderr=nowhere
        )

    def send(self, daemon: str, number: signal.Signals) -> None:
        """Send a daemon a signal; one that is killed is dead on return."""
        self._processes[daemon].send_signal(number)
        if number == signal.SIGKILL:
            self._processes[daemon].wait()

    def ask(self, line: str) -> str:
        """Return what a command of Ceph's prints."""
        done = subprocess.run(self._line(line), capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode:
            raise RuntimeError(f"{line}: {done.stderr}")
        return done.stdout

    def wait(self) -> None:
        """Return when the gateway serves."""
        started = time.monotonic()
        while not _serves(self.url):
            if time.monotonic() - started > PATIENCE:
                raise RuntimeError(f"the gateway does not answer; {self.folder} has the logs")
            time.sleep(0.1)

    def make_bucket(self, *, is_versioned: bool = False) -> str:
        """Return the name of a new, empty bucket."""
        name, client = f"bucket-{next(self._names)}", self.client()
        client.create_bucket(Bucket=name)
        if is_versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        client.close()
        return name

    def client(self) -> Any:
        """Return boto3's client, for the user."""
        keys = {"aws_" + name: self.account["AWS_" + name.upper()] for name in ("access_key_id", "secret_access_key")}
        return boto3.Session(**keys, region_name="us-east-1").client("s3", endpoint_url=self.url)  # type: ignore[call-overload]

    def _bring_up(self) -> None:
        folder = self.folder
        self.ask(f"monmaptool --create --addv a [v2:127.0.0.1:{self._port}] --fsid {self._fsid} {folder}/monmap")
        self.ask(f"ceph-mon --mkfs -i a --monmap {folder}/monmap")
        self.start("mon")
        disk = str(uuid.uuid4())
        self.ask(f"ceph osd new {disk}")
        self.ask(f"ceph-osd -i 0 --mkfs --osd-uuid {disk}")
        self.start("osd")
        self.start("radosgw")
        self.wait()
        keys = f"--access-key={self.account['AWS_ACCESS_KEY_ID']} --secret-key={self.account['AWS_SECRET_ACCESS_KEY']}"
        self.ask(f"radosgw-admin user create --uid=leti --display-name=leti {keys}")

    def _take_down(self) -> None:
        for process in reversed(self._processes.values()):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder / "osd")  # the logs stay

    def _line(self, line: str) -> list[str]:
        program, *arguments = line.split()
        return [program, "-c", str(self.folder / "ceph.conf"), *arguments]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _serves(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except HTTPError:
        return True
    except OSError:
        return False
    return True


def main(folder: Path) -> None:
    """Bring a cluster up, say where it is, and wait."""
    account = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
    with Ceph(folder, account) as ceph:
        print("\n".join(f"export {name}={value}" for name, value in account.items()))
        print(f"export LETI_TEST_STORE=s3://{ceph.make_bucket()}/leti?endpoint_url={ceph.url}", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: sys.exit())
        signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
