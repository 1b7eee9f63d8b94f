"""Container logs as the runtime keeps them: a line is `TIME stdout F text`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from tests.kube.kinds import PODS
from tests.kube.objects import Object, Objects

POLL_SECONDS = 0.05


def record(source: IO[bytes], path: Path) -> None:
    """Copy a process's output into its log until it ends."""
    with source, open(path, "ab") as file:
        for line in source:
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
            file.write(f"{stamp} stdout F ".encode() + line.rstrip(b"\n") + b"\n")
            file.flush()


def follow(
    objects: Objects, path: Path, pod: Object, container: str, query: dict[str, str], stopping: threading.Event
) -> Iterator[bytes]:
    """Yield what a log request asks for; with `follow` until the container has ended or its pod is gone."""
    ends = query.get("follow") not in ("true", "True", "1")
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    offset = sum(map(len, lines))
    tail = int(query["tailLines"]) if query.get("tailLines") else None
    shown = list(_since(lines, query))
    yield from _shown(shown if tail is None else shown[len(shown) - tail :] if tail < len(shown) else shown, query)
    while not ends and not stopping.is_set():
        ends = _has_ended(objects, pod, container)
        time.sleep(POLL_SECONDS)
        if path.is_file():
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            offset += len(whole)
            yield from _shown(whole.splitlines(keepends=True), query)


def _since(lines: list[bytes], query: dict[str, str]) -> Iterable[bytes]:
    earliest = query.get("sinceTime", "")
    if query.get("sinceSeconds"):
        earliest = (datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (line for line in lines if line[: len(earliest)].decode() >= earliest) if earliest else lines


def _shown(lines: list[bytes], query: dict[str, str]) -> Iterator[bytes]:
    stamped = query.get("timestamps") in ("true", "True", "1")
    for line in lines:
        stamp, _, _, text = line.split(b" ", 3)
        yield stamp + b" " + text if stamped else text


def _has_ended(objects: Objects, pod: Object, container: str) -> bool:
    found = objects.find(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"])
    if found is None or found["metadata"]["uid"] != pod["metadata"]["uid"]:
        return True
    states = {one["name"]: one["state"] for one in found["status"].get("containerStatuses", [])}
    return "terminated" in states.get(container, {})
