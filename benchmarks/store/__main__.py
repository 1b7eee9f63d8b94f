"""`python -m benchmarks.store [--share 1.0]`: see README.md beside it. Measures the AWS CLI where `aws` is there."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LARGE, LARGE_BYTES = 4, 256 << 20
SMALL, SMALL_BYTES = 10_000, 10_000
AUDITED = 3_000
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


def measure(who: str, direction: str, url: str, folder: Path, key: str) -> tuple[float, float, str]:
    """Return wall seconds, peak MiB of resident memory and output of a contender's process."""
    command = [sys.executable, "-m", "benchmarks.store.contenders", who, direction, url, str(folder), key]
    started = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{who} {direction} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1024, output


def fill(folder: Path, count: int, size: int) -> None:
    folder.mkdir()
    for number in range(count):
        with open(folder / f"{number:05d}.bin", "wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(secrets.token_bytes(min(1 << 20, size - start)))


def transfers(home: Path, what: str, count: int, size: int) -> None:
    """Measure one set of files up and down by everyone."""
    source = home / what
    fill(source, count, size)
    contenders = ["leti", "boto3", *(["aws"] if shutil.which("aws") else [])]
    with server() as url:
        for direction in ("up", "down"):
            base = 0.0
            for who in contenders:
                folder = source if direction == "up" else Path(tempfile.mkdtemp(dir=home))
                seconds, memory, _ = measure(who, direction, url, folder, f"{what}-{who}")
                base = base or seconds
                rate = f"{count * size / seconds / 2**20:7.0f} MiB/s {count / seconds:7.0f} objects/s"
                print(
                    f"{what:6} {direction:5} {who:6} {seconds:7.2f} s {rate} {memory:5.0f} MiB {seconds / base:5.2f} x"
                )
                if direction == "down":
                    shutil.rmtree(folder)
    shutil.rmtree(source)


def audits(home: Path, count: int, delay_ms: float) -> None:
    """Measure the audit of one run beside a sequential script."""
    source = home / "audited"
    fill(source, count, SMALL_BYTES)
    with server(delay_ms) as url:
        measure("leti", "up", url, source, "audited")
        rates = {}
        for who in ("audit", "sequential"):
            seconds, memory, output = measure(who, "down", url, source, "audited")
            rates[who] = int(output) / seconds
            print(f"{who:10} {delay_ms:4.0f} ms {seconds:7.2f} s {rates[who]:7.0f} objects/s {memory:5.0f} MiB")
        print(f"audit / sequential at {delay_ms:.0f} ms: {rates['audit'] / rates['sequential']:.1f} x")
    shutil.rmtree(source)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0, help="of the small and the audited objects")
    share = parser.parse_args().share
    memory = Path("/dev/shm")  # the disk is not what is measured
    place = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="bench-store-", dir=place) as folder:
        home = Path(folder)
        transfers(home, "large", LARGE, LARGE_BYTES)
        transfers(home, "small", round(SMALL * share), SMALL_BYTES)
        audits(home, AUDITED, 0)
        audits(home, round(AUDITED * share), 10)


if __name__ == "__main__":
    main()
