"""`python -m benchmarks.store [--share 1.0] [--only WHAT]`: see README.md. `aws` is measured where it is there."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

LARGE, LARGE_BYTES = 4, 256 << 20
SMALL, SMALL_BYTES = 10_000, 10_000
AUDITED, AUDITED_SLOWLY, AUDITED_IN_FOLDER = 3_000, 1_000, 100_000
NAMES = {
    "leti": "leti",
    "crt": "leti, transfer=crt",
    "boto3": "boto3 TransferManager",
    "aws": "AWS CLI",
    "audit": "leti-ctl audit",
    "sequential": "HEAD, GET, hash one by one",
}
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "b",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "no_proxy": "127.0.0.1",
}


@contextmanager
def server(delay_ms: float = 0) -> Iterator[str]:
    """Give the URL of a fresh, empty server."""
    command = [sys.executable, "-m", "benchmarks.store.server", str(delay_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


class Measured(NamedTuple):
    """What a contender's process took."""

    seconds: float
    cpu_seconds: float
    """Of the process and its children: what it costs, whatever else the machine does."""
    memory: float
    """Most resident memory, MiB."""
    output: str


def measure(who: str, direction: str, url: str, folder: Path, key: str) -> Measured:
    command = [sys.executable, "-m", "benchmarks.store.contenders", who, direction, url, str(folder), key]
    started = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{who} {direction} failed")
    seconds, cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    return Measured(seconds, cpu, usage.ru_maxrss / 1024, output)


def fill(folder: Path, count: int, size: int) -> None:
    folder.mkdir()
    for number in range(count):
        with open(folder / f"{number:05d}.bin", "wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(secrets.token_bytes(min(1 << 20, size - start)))


def transfers(home: Path, what: str, count: int, size: int) -> None:
    """Measure one set of files up and down by everyone, as rows of a table."""
    source = home / what
    fill(source, count, size)
    contenders = ["leti", "boto3", *(["aws"] if shutil.which("aws") else [])]
    if what == "large" and find_spec("awscrt"):
        contenders.insert(1, "crt")
    with server() as url:
        for direction in ("up", "down"):
            base = 0.0
            for who in contenders:
                folder = source if direction == "up" else Path(tempfile.mkdtemp(dir=home))
                took = measure(who, direction, url, folder, f"{what}-{who}")
                base = base or took.seconds
                each = f"{count / took.seconds:.0f}/s"
                rate = f"{count * size / took.seconds / 2**20:.0f} MiB/s" if what == "large" else each
                row(f"{count:,} x {size:,} B {direction}", NAMES[who], took, rate, base)
                if direction == "down":
                    shutil.rmtree(folder)
    shutil.rmtree(source)


def row(what: str, who: str, took: Measured, rate: str, base: float) -> None:
    """Print a row; the last column is how often as fast leti is."""
    cells = (what, who, f"{took.seconds:.2f} s", f"{took.cpu_seconds:.2f} s", rate, f"{took.memory:.0f} MiB")
    print("|", " | ".join((*cells, f"{took.seconds / base:.2f} x")), "|", flush=True)


def audits(home: Path, count: int, delay_ms: float) -> None:
    """Measure the audit of one run beside a sequential script."""
    source = home / "audited"
    fill(source, count, SMALL_BYTES)
    with server(delay_ms) as url:
        measure("leti", "up", url, source, "audited")
        base = 0.0
        for who in ("audit", "sequential"):
            took = measure(who, "down", url, source, "audited")
            assert json.loads(took.output)["objects"] == count
            base = base or took.seconds
            what = f"audit of {count:,} x {SMALL_BYTES:,} B, answers after {delay_ms:g} ms"
            row(what, NAMES[who], took, f"{count / took.seconds:.0f}/s", base)
    shutil.rmtree(source)


def folder_audit(home: Path, count: int) -> None:
    """Measure the audit of a run that lies in a folder."""
    source, store = home / "audited", home / "store"
    fill(source, count, SMALL_BYTES)
    measure("leti", "up", str(store), source, "audited")
    shutil.rmtree(source)
    took = measure("audit", "down", str(store), source, "audited")
    assert json.loads(took.output)["objects"] == count
    what = f"audit of {count:,} x {SMALL_BYTES:,} B in a folder"
    row(what, NAMES["audit"], took, f"{count / took.seconds:.0f}/s", took.seconds)
    shutil.rmtree(store)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0, help="of all sizes; 1.0 is 1 GiB large, 10,000 small")
    parser.add_argument("--only", choices=("large", "small", "audit", "folder"), help="this part of it")
    chosen = parser.parse_args()
    share = chosen.share
    memory = Path("/dev/shm")  # the disk is not what is measured
    place = memory if memory.is_dir() else None
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}{' (busy: figures of one block compare, no more)' * (load > 1)}\n")
    print("| what | who | wall | processor | rate | memory | leti is |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="bench-store-", dir=place) as folder:
        home = Path(folder)
        parts: dict[str, Callable[[], None]] = {
            "large": lambda: transfers(home, "large", LARGE, round(LARGE_BYTES * share)),
            "small": lambda: transfers(home, "small", round(SMALL * share), SMALL_BYTES),
            "audit": lambda: audits(home, round(AUDITED * share), 0),
            "slow audit": lambda: audits(home, round(AUDITED_SLOWLY * share), 10),
            "folder": lambda: folder_audit(home, round(AUDITED_IN_FOLDER * share)),
        }
        for name, part in parts.items():
            if chosen.only is None or name.endswith(chosen.only):
                part()


if __name__ == "__main__":
    main()
