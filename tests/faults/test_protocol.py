"""The commit protocol against a model: writers that take turns at every store operation, crash, retry; readers; gc.

Each writer is a thread that stops before each of its operations until the machine lets it go on or kills it, so that
hypothesis chooses the interleaving and can shrink it.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from leti_ctl import garbage
from leti_ctl.audit.catalog import Catalog
from leti_ctl.audit.report import audit
from stages.contract.artifacts import Part, Ref
from stages.contract.records import Problem
from stages.contract.run import Run
from stages.contract.s3 import S3Store
from stages.contract.spec import RunSpec
from stages.contract.store import Entry, LocalStore, Store
from tests.s3 import S3Server
from tests.stages.contract.parts import MADE, PROBLEMS, commit_rows, problem

EXAMPLES = int(os.environ.get("LETI_PROTOCOL_EXAMPLES", "20"))
"""Interleavings tried in a folder; in S3, over HTTP, a tenth."""
PARTS = 3
NOTHING_BROKEN = {"record", "index", "existence", "size", "checksum", "rows", "schema", "orphans", "keys"}


class Killed(BaseException):
    """What ends a writer between two operations; no handler of ours catches it."""


class Turns(Store):
    """A store that waits for its turn before each operation."""

    def __init__(self, inner: Store) -> None:
        self.inner, self.uri = inner, inner.uri
        self.go: queue.Queue[bool] = queue.Queue()
        self.arrived: queue.Queue[bool] = queue.Queue()

    def wait(self) -> Store:
        self.arrived.put(True)
        if not self.go.get(timeout=60):
            raise Killed
        return self.inner

    def stream(self, key: str) -> Iterator[bytes]:
        return self.wait().stream(key)

    def get(self, key: str) -> bytes:
        return self.wait().get(key)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self.wait().put_if_absent(key, data)

    def upload(self, key: str, path: Path) -> None:
        self.wait().upload(key, path)

    def scan(self, prefix: str) -> Iterator[Entry]:
        return iter(list(self.wait().scan(prefix)))

    def size(self, key: str) -> int | None:
        return self.wait().size(key)

    def delete(self, key: str) -> None:
        self.wait().delete(key)


class Writer:
    """One process that commits one part: what it would write, and how far it is."""

    def __init__(self, store: Store, part: int, version: int, scratch: Path) -> None:
        self.store = Turns(store)
        self.thread = threading.Thread(target=self._commit, args=(part, version, scratch), daemon=True)
        self.thread.start()
        self.is_alive = self.store.arrived.get(timeout=60)

    def step(self, *, live: bool = True) -> None:
        """Do the next operation, or die before it."""
        self.store.go.put(live)
        self.is_alive = self.store.arrived.get(timeout=60)

    def _commit(self, part: int, version: int, scratch: Path) -> None:
        try:
            made = MADE.model_copy(update={"host": scratch.name})
            commit_rows(Run(self.store, "r"), Part(part, PARTS), rows(part, version), scratch, made=made)
        except Killed:
            pass
        finally:
            self.store.arrived.put(False)


def rows(part: int, version: int) -> list[Problem]:
    """What a stage that repeats itself to the bit writes has one version; a stage that does not has several."""
    return [problem(1000 * part + 100 * version + number) for number in range(2 + version)]


class Protocol(RuleBasedStateMachine):
    """Old state or new, never a mix; who has won stays the winner; what nobody points to can be collected."""

    open_store: Callable[[], Store]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="protocol-")
        self.store = type(self).open_store()
        self.run = Run(self.store, "r")
        self.run.create(RunSpec())
        self.writers: list[Writer] = []
        self.started = 0
        self.seen: dict[str, bytes] = {}
        """Records and indexes as they were when they first appeared."""

    def alive(self) -> list[Writer]:
        self.writers = [writer for writer in self.writers if writer.is_alive]
        return self.writers

    @precondition(lambda self: len(self.alive()) < 4)
    @rule(part=st.integers(0, PARTS - 1), version=st.integers(0, 1))
    def start(self, part: int, version: int) -> None:
        self.started += 1
        self.writers.append(Writer(self.store, part, version, Path(self.folder.name, str(self.started))))

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), steps=st.integers(1, 4))
    def step(self, data: st.DataObject, steps: int) -> None:
        writer = data.draw(st.sampled_from(self.alive()))
        for _ in range(steps):
            if writer.is_alive:
                writer.step()

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.alive())).step(live=False)

    @precondition(lambda self: not self.alive())
    @rule()
    def collect(self) -> None:
        """Only while nobody writes, as `leti-ctl gc` sees to."""
        retention = garbage.Retention(best=False, orphan_hours=-1)
        garbage.collect(self.run, garbage.find(Catalog(self.run), retention), retention)
        assert Catalog(self.run).orphans() == []

    @rule()
    def resume(self) -> None:
        """A barrier that finds the index missing writes it, if it can."""
        index = self.run.find_index(PROBLEMS)
        assert (index is not None) == (len(self.committed()) == PARTS)

    @invariant()
    def nothing_is_half_there(self) -> None:
        for part in self.committed():
            found = list(self.run.read(PROBLEMS, Problem, Part(part, PARTS)))
            assert found in (rows(part, 0), rows(part, 1))

    @invariant()
    def the_winner_stays(self) -> None:
        for key in self.store.list(self.run.key("problems/")):
            if key.endswith(".json"):
                data = self.store.get(key)
                assert self.seen.setdefault(key, data) == data
        assert set(self.seen) <= set(self.store.list(self.run.key("")))

    @invariant()
    def the_index_is_of_all_winners(self) -> None:
        key = self.run.key(f"{PROBLEMS.prefix}/index.json")
        if self.store.size(key) is not None:
            assert self.committed() == list(range(PARTS))
            whole = [row for part in range(PARTS) for row in self.run.read(PROBLEMS, Problem, Part(part, PARTS))]
            assert list(self.run.read(PROBLEMS, Problem)) == whole

    def committed(self) -> list[int]:
        return [part for part in range(PARTS) if self.run.find_part(PROBLEMS, Part(part, PARTS))]

    def teardown(self) -> None:
        """Let all go on or die; do what is missing again; nothing may be left over or broken."""
        for number, writer in enumerate(self.alive()):
            while writer.is_alive:
                writer.step(live=number % 2 == 0)
        for part in range(PARTS):
            commit_rows(self.run, Part(part, PARTS), rows(part, 0), Path(self.folder.name, "last"))
        assert self.run.get_index(PROBLEMS).parts == PARTS
        self.the_winner_stays()
        self.the_index_is_of_all_winners()
        self.collect()
        findings = [finding.line for finding in audit(self.run).findings if finding.check in NOTHING_BROKEN]
        assert findings == []
        assert Ref("problems", split="train") in Catalog(self.run).indexes
        if isinstance(self.store, S3Store):
            self.store.client.close()
        self.folder.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "examples"), [("folder", EXAMPLES), ("s3", max(2, EXAMPLES // 10))])
def test_any_interleaving_leaves_the_old_state_or_the_new(
    kind: str, examples: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def fresh() -> Store:
        if kind == "folder":
            return LocalStore(Path(tempfile.mkdtemp(dir=tmp_path)))
        server: S3Server = request.getfixturevalue("s3_server")
        return S3Store(f"s3://{server.make_bucket()}/leti?endpoint_url={server.url}")

    class Here(Protocol):
        open_store = staticmethod(fresh)

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Here,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
