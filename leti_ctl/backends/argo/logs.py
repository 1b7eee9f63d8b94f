"""What the pods of a run logged: from the cluster while they exist, from the store afterwards."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from leti_ctl import control
from leti_ctl.backends.argo.api import ApiError, Object
from leti_ctl.backends.argo.cluster import Cluster, is_completed, main_container
from leti_ctl.backends.argo.names import STAGE
from leti_ctl.backends.argo.state import place_of
from leti_ctl.follow import journal
from leti_ctl.follow.journal import Filter, Lines
from stages.contract.errors import RetryableError
from stages.contract.run import Run

NEW_PODS_SECONDS = 3.0
Entry = dict[str, Any]


def entries(run: Run, cluster: Cluster, wanted: Filter) -> Iterator[Entry]:
    """Yield the stored logs of pods that are gone, then those of pods that exist, pod by pod, oldest first."""
    pods = [pod for pod in cluster.pods(run.name) if _may_match(pod, wanted)]
    here = [entry for pod in pods for entry in _entries_of(cluster, pod, wanted, follow=False)]
    yield from journal.entries(
        run, wanted, without=frozenset(journal.identity(entry) for entry in here if "time" in entry)
    )
    yield from here


def follow(run: Run, record: control.Workflow, cluster: Cluster, wanted: Filter) -> Iterator[Entry]:
    """Yield what pods logged and go on to log, new pods' as well, as it comes, until the workflow has ended."""
    lines: queue.SimpleQueue[Entry | BaseException] = queue.SimpleQueue()
    readers: dict[str, threading.Thread] = {}
    while True:
        ended = (found := cluster.find_workflow(record.name)) is None or is_completed(found)
        for pod in cluster.pods(run.name):
            uid = pod["metadata"]["uid"]
            if uid not in readers and _may_match(pod, wanted) and _has_begun(pod):
                readers[uid] = threading.Thread(target=_pump, args=(cluster, pod, wanted, lines), daemon=True)
                readers[uid].start()
        yield from _drain(lines, 0.0 if ended else NEW_PODS_SECONDS)
        if ended:
            while any(reader.is_alive() for reader in readers.values()) or not lines.empty():
                yield from _drain(lines, 0.2)
            return


def _drain(lines: queue.SimpleQueue[Entry | BaseException], seconds: float) -> Iterator[Entry]:
    """Yield what arrives until nothing has for so many seconds."""
    while True:
        try:
            found = lines.get(timeout=seconds) if seconds else lines.get_nowait()
        except queue.Empty:
            return
        if isinstance(found, BaseException):
            raise found
        yield found


def _pump(cluster: Cluster, pod: Object, wanted: Filter, lines: queue.SimpleQueue[Entry | BaseException]) -> None:
    try:
        for entry in _entries_of(cluster, pod, wanted, follow=True):
            lines.put(entry)
    except BaseException as error:
        lines.put(error)


def _entries_of(cluster: Cluster, pod: Object, wanted: Filter, *, follow: bool) -> Iterator[Entry]:
    """Yield one pod's log; a pod that has not begun, or has gone meanwhile, has none."""
    place, name = place_of(pod), pod["metadata"]["name"]
    lines = Lines(place._asdict())
    try:
        for line in cluster.log(name, main_container(pod), follow=follow):
            entry = {**lines.entry(line.decode(errors="replace")), "pod": name}
            if wanted.accepts(entry):
                yield entry
    except ApiError as error:
        if error.code not in (400, 404):
            raise
    except RetryableError as error:
        # Its node may be dying; what it wrote before is above, and other pods can still be read.
        yield {**place._asdict(), "pod": name, "level": "warning", "event": "log", "message": f"log cut off: {error}"}


def _may_match(pod: Object, wanted: Filter) -> bool:
    return STAGE in (pod["metadata"].get("labels") or {}) and wanted.accepts(dict(place_of(pod)._asdict()))


def _has_begun(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Running", "Succeeded", "Failed")
