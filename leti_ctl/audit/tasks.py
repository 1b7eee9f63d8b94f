"""Everything that an audit reads, cut into tasks that threads do side by side."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

from leti_ctl.audit import midstage, passes, training
from leti_ctl.audit.objects import Reader
from leti_ctl.audit.progress import Progress
from leti_ctl.inventory.catalog import Catalog
from stages.contract.artifacts import DataObject, Ref
from stages.contract.records import Problem
from stages.contract.run import SPEC_KEY, Run
from stages.contract.spec import Pass, RunSpec
from stages.contract.transfer import SMALL_BYTES

REMOTE = 32
"""Objects of a remote store on their way at once."""
BATCH = 32
"""Small objects that one task reads; a task costs about as much as reading one."""
ROWS = ("samples", "executions", "metrics", "examples", "steps", "problems", "pretraining")
"""Artifacts whose objects are read as rows; of the others only the bytes are checked."""
Task = Callable[[Reader], None]


def read_all(catalog: Catalog, spec: RunSpec, progress: Progress) -> list[Reader]:
    """Read every object of a run once, and return the readers with what they found."""
    tasks = list(_tasks(catalog, spec))
    threads = _threads(catalog.run)
    shared, done = iter(tasks), count(1)
    with ThreadPoolExecutor(threads) as pool:
        workers = [
            pool.submit(_work, catalog, shared, lambda: progress(next(done), len(tasks), "reading"))
            for _ in range(threads)
        ]
        try:
            return [worker.result() for worker in workers]
        finally:
            deque(shared, maxlen=0)  # whoever interrupts an audit does not wait for the rest of it


def _tasks(catalog: Catalog, spec: RunSpec) -> Iterator[Task]:
    """Yield the tasks, the largest first: whole objects, then rows."""
    opaque = [catalog.objects(ref) for ref in catalog.refs if ref.artifact not in ROWS]
    large = [item for objects in opaque for item in objects.larger(SMALL_BYTES)]
    for item in sorted(large, key=lambda item: -item.size):
        yield partial(_hash, [item])
    for objects in opaque:
        for start in range(0, len(objects), BATCH):
            yield partial(_hash_small, objects, start)
    if Ref("pretraining") in catalog.parts:
        yield partial(_check_blocks, spec)
    for key in midstage.records(catalog):
        yield partial(_check_midstage, key)
    for ref in catalog.refs:
        if ref.artifact == "problems":
            yield partial(_read_problems, ref)
    for iteration in catalog.iterations:
        for one in spec.passes():
            yield partial(_check_pass, spec, iteration, one)


def _hash(items: Sequence[DataObject], reader: Reader) -> None:
    reader.hash(items)


def _hash_small(objects: Sequence[DataObject], start: int, reader: Reader) -> None:
    reader.hash(item for item in objects[start : start + BATCH] if item.size <= SMALL_BYTES)


def _check_blocks(spec: RunSpec, reader: Reader) -> None:
    training.check_blocks(reader, spec)


def _check_midstage(key: str, reader: Reader) -> None:
    midstage.check(reader, key)


def _read_problems(ref: Ref, reader: Reader) -> None:
    deque(reader.read(ref, Problem), maxlen=0)


def _check_pass(spec: RunSpec, iteration: int, one: Pass, reader: Reader) -> None:
    verdicts = passes.check(reader, spec, iteration, one)
    if one.split == "train":
        training.check(reader, spec, iteration, verdicts)


def _work(catalog: Catalog, tasks: Iterator[Task], advance: Callable[[], None]) -> Reader:
    """Do tasks until there are none; workers share the iterator."""
    reader = Reader(catalog)
    for task in tasks:
        task(reader)
        advance()
    return reader


def _threads(run: Run) -> int:
    """More than there are cores: hashing leaves Python, and a remote store is mostly waited for."""
    is_remote = run.store.local_path(run.key(SPEC_KEY)) is None
    return REMOTE if is_remote else max(8, 2 * (os.cpu_count() or 1))
