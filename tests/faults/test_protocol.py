"""The commit protocol against a model: writers that take turns at every store operation, crash, retry; readers; gc.

Each writer is a thread that stops before each of its operations until the machine lets it go on or kills it, so that
hypothesis chooses the interleaving and can shrink it.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from leti_ctl.artifacts import garbage
from leti_ctl.audit.report import audit
from leti_ctl.inventory.catalog import Catalog
from stages.contract.artifacts import Part, PartRecord, Ref
from stages.contract.errors import ArtifactError
from stages.contract.records import Problem
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore, Store
from stages.contract.store.s3 import S3Store
from tests.faults.broken import BROKEN, PARTS, Killed, Turns
from tests.s3 import S3Server
from tests.stages.contract.parts import MADE, PROBLEMS, commit_rows, problem

EXAMPLES = int(os.environ.get("LETI_PROTOCOL_EXAMPLES", "20"))
"""Interleavings tried in a folder; in S3, over HTTP, a tenth."""
NOTHING_BROKEN = {"readable", "record", "index", "existence", "size", "checksum", "rows", "schema", "orphans", "keys"}


class Writer:
    """One process that commits one part: what it would write, and how far it is."""

    def __init__(self, turns: Turns, part: int, version: int, scratch: Path) -> None:
        self.store, self.part = turns, part
        self.record: PartRecord | None = None
        """What it was told at the end: its own record, or that of who was first."""
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._commit, args=(part, version, scratch), daemon=True)
        self.thread.start()
        self.is_alive = self.store.arrived.get(timeout=60)

    def step(self, *, live: bool = True) -> None:
        """Do the next operation, or die before it."""
        self.store.go.put(live)
        self.is_alive = self.store.arrived.get(timeout=60)
        if self.error:
            raise self.error

    def _commit(self, part: int, version: int, scratch: Path) -> None:
        try:
            made = MADE.model_copy(update={"host": scratch.name})
            run = Run(self.store.inner, "r")
            _ = run.spec_sha256  # before its turn: Python 3.11 lets one thread at a time into a cached property
            run.store = self.store
            self.record = commit_rows(run, Part(part, PARTS), rows(part, version), scratch, made=made)
        except Killed:
            pass
        except Exception as error:
            self.error = error
        finally:
            self.store.arrived.put(False)


def rows(part: int, version: int) -> list[Problem]:
    """What a stage that repeats itself to the bit writes has one version; a stage that does not has several."""
    return [problem(1000 * part + 100 * version + number) for number in range(2 + version)]


class Protocol(RuleBasedStateMachine):
    """Old state or new, never a mix; who has won stays the winner; what nobody points to can be collected."""

    open_store: Callable[[], Store]
    turns: type[Turns] = Turns

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
        return [writer for writer in self.writers if writer.is_alive]

    @precondition(lambda self: len(self.alive()) < 4)
    @rule(part=st.integers(0, PARTS - 1), version=st.integers(0, 1))
    def start(self, part: int, version: int) -> None:
        self.started += 1
        self.writers.append(
            Writer(type(self).turns(self.store), part, version, Path(self.folder.name, str(self.started)))
        )

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
        garbage.collect(self.run, retention)
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
    def every_writer_was_told_who_won(self) -> None:
        for writer in self.writers:
            if writer.record:
                assert self.run.find_part(PROBLEMS, Part(writer.part, PARTS)) == writer.record

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
        try:
            self.settle()
        finally:
            if isinstance(self.store, S3Store):
                self.store.client.close()
            self.folder.cleanup()

    def settle(self) -> None:
        """Let all go on or die; do what is missing again; nothing may be left over or broken."""
        for number, writer in enumerate(self.alive()):
            while writer.is_alive:
                writer.step(live=number % 2 == 0)
        for part in range(PARTS):
            commit_rows(self.run, Part(part, PARTS), rows(part, 0), Path(self.folder.name, "last"))
        assert self.run.get_index(PROBLEMS).parts == PARTS
        self.the_winner_stays()
        self.every_writer_was_told_who_won()
        self.the_index_is_of_all_winners()
        self.collect()
        findings = [finding.line for finding in audit(self.run).findings if finding.check in NOTHING_BROKEN]
        assert findings == []
        assert Ref("problems", split="train") in Catalog(self.run).indexes


def try_interleavings(machine: type[Protocol], examples: int, *phases: Phase) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            phases=phases or tuple(Phase),
        ),
    )


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

    try_interleavings(Here, examples)


@pytest.mark.soak
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_protocol_is_found(broken: type[Turns], tmp_path: Path) -> None:
    class Here(Protocol):
        open_store = staticmethod(lambda: LocalStore(Path(tempfile.mkdtemp(dir=tmp_path))))
        turns = broken

    with pytest.raises((AssertionError, ArtifactError)):
        try_interleavings(Here, 200, Phase.generate)
