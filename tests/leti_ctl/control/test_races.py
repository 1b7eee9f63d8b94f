"""The control plane in every interleaving: drivers, amendments, stops, workflows and collections against each other.

The code under test is the real one, one operation of the store at a time (`tests.faults.explore`). A process that never
goes on is one that was killed; one that goes on after its driver was taken for dead is one that was slow. What earlier
versions did is tried by the same checks at the end, which must find it.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest

from leti_ctl import control, steps
from leti_ctl.artifacts import garbage
from leti_ctl.backends.argo import submission
from leti_ctl.backends.argo.cluster import Cluster
from leti_ctl.inventory.catalog import Catalog
from stages.contract.artifacts import Part, PartRecord
from stages.contract.errors import Stopped, UsageError
from stages.contract.records import write_rows
from stages.contract.run import Commit, Run
from stages.contract.spec import RunSpec
from stages.contract.store import Store
from tests.faults.explore import Ended, Explorer, Found, Log, Memory, Objects, State, Violation, Weather, Work
from tests.faults.timeless import Timeless
from tests.stages.contract.parts import MADE, PROBLEMS, problem

pytestmark = pytest.mark.slow
SPEC = RunSpec(iterations=1)
CLAIM = re.compile(r"runs/r/control/drivers/(\d{4})\.json")
END = re.compile(r"runs/r/control/drivers/(\d{4})/ends/\d{4}\.json")
FAIR, LAG = Weather(), Weather(lag=True)
HOST = "leti/r-0"


def run_in(store: Store) -> Run:
    """A run whose spec needs no reading: it is there before, and stays as it is."""
    run = Run(Timeless(store), "r")
    vars(run).update(spec=SPEC, spec_sha256=SPEC.digest())
    return run


def far(name: str) -> control.Driver:
    """A process of another machine: nobody here can tell whether it is alive."""
    return control.Driver(backend="local", host=name, pid=1, born=1, since="then")


DEAD = control.Driver(backend="local", host=platform.node(), pid=1, born=-1, since="then")


def explore(
    works: dict[str, Work], check: Callable[..., None], *, start: Objects | None = None, weather: Weather = LAG
) -> Found:
    """Explore, with listings that lag unless they need not."""
    return Explorer(works, check, recover, weather, start or {}).explore()


def recover(objects: Objects) -> None:
    """Wherever everybody is killed, the run can be asked about, and somebody who says so can take it."""
    run = run_in(Memory(objects))
    control.last_backend(run), control.failures(run), control.workflows(run), control.find_outcome(run)
    last = control.newest(run)
    if not (last.driver and last.driver.is_here):
        assert control.claim(control.Bid(last, take_over=True), far("late"), control.current_spec(run)).is_driven()


@cache
def driver_in(data: bytes) -> control.Driver:
    found = control.find(run_in(Memory({"driver": data})), "driver", control.Driver)
    assert found
    return found


def claims(objects: Objects) -> dict[int, bytes]:
    found = {int(match[1]): data for key, data in objects.items() if (match := CLAIM.fullmatch(key))}
    return dict(sorted(found.items()))


def dead() -> Objects:
    """A run whose only driver was killed, on this machine, by whichever version."""
    store = Memory({})
    run = run_in(store)
    control.claim(control.Bid(control.newest(run)), DEAD, SPEC)
    store.put_if_absent(run.key("control/driver.json"), DEAD.model_dump_json().encode())
    return store.objects


# Drivers


def drive(name: str, take_over: bool, store: Store) -> int:
    """Take the run, start two units unless it is lost, let go; return the number of the claim."""
    run = run_in(store)
    bid = control.Bid(control.newest(run), take_over)
    bid.check()
    held = control.claim(bid, far(name), control.current_spec(run))
    for unit in ("a", "b"):
        if held.lost():
            break
        store.put_if_absent(f"units/{name}/{unit}", f"{held.number:04d}".encode())
    held.end()
    return held.number


def at_work(state: State, ends: list[Ended | None]) -> int:
    """How many have started a unit and are not done."""
    return sum(end is None and bool(units(log)) for log, end in zip(state.logs, ends, strict=True))


def units(log: Log) -> list[str]:
    return [op.key for op, _ in log if op.key.startswith("units/")]


def check_claims(state: State, before: State | None, ends: list[Ended | None]) -> None:
    """Claims are in a row and stand for ever, and nobody but their drivers works or lets go under them."""
    made = claims(state.objects)
    assert list(made) == list(range(len(made)))
    assert before is None or claims(before.objects).items() <= made.items(), "a claim was replaced or removed"
    won = [op.key for log in state.logs for op, answer in log if answer is True and CLAIM.fullmatch(op.key)]
    assert len(won) == len(set(won)), "two were told that they drive"
    for log in state.logs:
        own = {match[1] for op, answer in log if answer is True and (match := CLAIM.fullmatch(op.key))}
        ended = {match[1] for op, _ in log if op.verb == "put_if_absent" and (match := END.fullmatch(op.key))}
        assert ended <= own, "a claim was released by another"
    for key, data in state.objects.items():
        if key.startswith("units/"):
            assert driver_in(made[int(data)]).host == key.split("/")[1], "somebody worked under another's claim"
    for end in ends:
        assert end is None or end.error is None or isinstance(end.error, UsageError)


def check_one_at_work(state: State, before: State | None, ends: list[Ended | None]) -> None:
    assert at_work(state, ends) <= 1, "two drive"


def check_drivers(state: State, before: State | None, ends: list[Ended | None]) -> None:
    check_claims(state, before, ends)
    check_one_at_work(state, before, ends)


@pytest.mark.parametrize(("start", "weather"), [({}, LAG), (dead(), FAIR)], ids=["new", "dead"])
def test_of_drivers_that_come_at_once_one_has_the_run(start: Objects, weather: Weather) -> None:
    works = {name: partial(drive, name, False) for name in "AB"}
    found = explore(works, check_drivers, start=start, weather=weather)
    assert found.schedules > 1000


def test_a_driver_that_is_taken_over_sees_it_before_its_next_unit_and_touches_nothing() -> None:
    def check(state: State, before: State | None, ends: list[Ended | None]) -> None:
        check_claims(state, before, ends)
        for log in state.logs:
            asked = [op.key for op, _ in log]
            for unit in units(log):
                # Told last, before this unit, that there is no claim after its own.
                number = int(state.objects[unit])
                assert asked[asked.index(unit) - 1] == f"runs/r/control/drivers/{number + 1:04d}.json"

    explore({name: partial(drive, name, True) for name in "AB"}, check)


# Amendments

CHANGES: dict[str, Callable[[RunSpec], RunSpec]] = {
    "longer": lambda spec: spec.model_copy(update={"iterations": 9}),
    "patient": lambda spec: spec.model_copy(update={"stop": spec.stop.model_copy(update={"patience": 3})}),
}


def amend(name: str, store: Store) -> str:
    """Resume the run with a field of its spec changed from what it is now."""
    run = run_in(store)
    bid = control.Bid(control.newest(run))
    bid.check()
    control.claim(bid, far(name), CHANGES[name](control.current_spec(run))).end()
    return name


def check_amendments(state: State, before: State | None, ends: list[Ended | None]) -> None:
    """Whoever was told that it is done finds it done, in whichever order; whoever was told otherwise does not."""
    spec = control.current_spec(run_in(Memory(state.objects)))
    for name, end in zip(CHANGES, ends, strict=True):
        if end is not None:
            assert (CHANGES[name](spec) == spec) == (end.error is None), f"{name} was lost, or was not refused"


def test_no_amendment_undoes_another_unseen() -> None:
    explore({name: partial(amend, name) for name in CHANGES}, check_amendments, weather=FAIR)


# Stops


def stop(store: Store) -> bool:
    return control.request_stop(run_in(store))


def last_is_stopped(objects: Objects) -> bool:
    last = f"runs/r/control/drivers/{max(claims(objects)):04d}"
    return f"{last}/stop.json" in objects or f"{last}/ends/0000.json" in objects


def test_a_stop_that_was_taken_reaches_whoever_has_the_run() -> None:
    def check(state: State, before: State | None, ends: list[Ended | None]) -> None:
        told = ends[1]
        assert told is None or told.error is None
        if told and told.result and before and len(state.logs[1]) > len(before.logs[1]):
            assert last_is_stopped(state.objects), "the stop is for a driver that has lost the run"

    store = Memory({})
    control.claim(control.Bid(control.newest(run_in(store))), far("old"), SPEC)
    explore({"new": partial(drive, "new", True), "stop": stop}, check, start=store.objects, weather=FAIR)


class Board(Cluster):
    """A cluster whose workflow is an object of the same store, so that it takes turns with everything else."""

    def __init__(self, store: Store) -> None:
        self.store, self.namespace = store, "leti"

    def shut_down(self, name: str, how: str) -> bool:
        try:
            self.store.get(f"cluster/{name}")
        except KeyError:
            return False
        self.store.put_if_absent(f"cluster/{name}.shutdown", b"")
        return True


RECORD = control.Workflow(
    attempt=0, name="r-0", namespace="leti", kube_context=None, server="s", profile="kind", start=0, at="then"
)


def submit(store: Store) -> None:
    """What `submission.submit` does once it knows that no workflow is going."""
    run = run_in(store)
    driver = control.Driver(backend="argo", host=HOST, pid=0, born=0, since="then", workflow=RECORD)
    held = control.claim(control.Bid(control.newest(run)), driver, SPEC)
    store.put_if_absent("cluster/r-0", b"")
    submission._take_back(held, RECORD, Board(store))


def stop_workflow(store: Store) -> bool:
    """What `submission.stop` does first."""
    held = control.epoch_of(run_in(store), HOST)
    if held is None:
        return False
    held.request_stop()
    Board(store).shut_down("r-0", "Stop")
    return True


def test_a_workflow_that_is_stopped_while_it_is_made_does_not_go_on() -> None:
    def check(state: State, before: State | None, ends: list[Ended | None]) -> None:
        made, stopped = ends
        if made is not None and made.error is not None:
            assert isinstance(made.error, Stopped) and "cluster/r-0.shutdown" in state.objects
        if stopped is None or not stopped.result or "cluster/r-0" not in state.objects:
            return
        assert made is None or "cluster/r-0.shutdown" in state.objects, "it goes on"
        # Whoever made it may have been killed before it could see to that.
        with pytest.raises(UsageError, match="asked to stop"):
            steps.hold(run_in(Memory(state.objects)), HOST)

    found = explore({"submit": submit, "stop": stop_workflow}, check)
    assert found.schedules > 10


def end_late(store: Store) -> None:
    steps.finalize(run_in(store), "leti/r-old", "Failed", "[]")


def test_an_exit_handler_that_comes_late_changes_nothing_for_the_next_workflow() -> None:
    store = Memory({})
    old = far("x").model_copy(update={"backend": "argo", "host": "leti/r-old", "pid": 0})
    control.claim(control.Bid(control.newest(run_in(store))), old, SPEC)

    def check(state: State, before: State | None, ends: list[Ended | None]) -> None:
        if 1 in claims(state.objects):
            run = run_in(Memory(state.objects))
            assert control.find_driver(run).host == HOST and control.find_outcome(run) is None  # type: ignore[union-attr]

    explore({"submit": submit, "old": end_late}, check, start=store.objects)


# Collections

EAGER = garbage.Retention(best=False, orphan_hours=-1)


def collect(store: Store) -> int:
    return len(garbage.collect(run_in(store), EAGER).orphans)


def commit_in(folder: Path) -> Commit:
    path = folder / "rows.jsonl"
    path.write_bytes(b"".join(write_rows([problem(1)])))
    return Commit(PROBLEMS, Part(0, 1), {path: 1}, (), seed=7, made=MADE)


def write_part(commit: Commit, store: Store) -> None:
    """A driver whose stage makes anew what a killed one uploaded."""
    run = run_in(store)
    bid = control.Bid(control.newest(run))
    bid.check()
    held = control.claim(bid, far("writer"), SPEC)
    store.put_if_absent("units/writer/a", b"0000")
    run.commit(commit)
    held.end()


def orphaned(commit: Commit) -> Objects:
    """What is in the store when the stage was killed before it could commit."""
    store = Memory({})
    run_in(store).commit(commit)
    return {key: data for key, data in store.objects.items() if key.endswith(".jsonl")}


def check_bytes(state: State, before: State | None, ends: list[Ended | None]) -> None:
    for key, data in state.objects.items():
        if "/parts/" in key:
            for item in PartRecord.model_validate_json(data).objects:
                assert f"runs/r/{item.key}" in state.objects, f"{key} names what was collected"


def test_a_collection_takes_nothing_that_a_driver_commits(tmp_path: Path) -> None:
    commit = commit_in(tmp_path)
    works = {"gc": collect, "writer": partial(write_part, commit)}
    seen: list[tuple[Ended | None, ...]] = []

    def check(state: State, before: State | None, ends: list[Ended | None]) -> None:
        check_bytes(state, before, ends)
        seen.append(tuple(ends))

    explore(works, check, start=orphaned(commit), weather=FAIR)
    assert any(gc and gc.result == 1 for gc, _ in seen)
    assert any(gc and gc.error and writer and not writer.error for gc, writer in seen)
    assert any(writer and writer.error and gc and not gc.error for gc, writer in seen)


# What earlier versions did: each must be found, or the checks above prove nothing


def old_drive(name: str, take_over: bool, store: Store) -> None:
    """Deletes the claim of whoever it takes for dead, and at its end whatever claim there is."""
    run = run_in(store)
    key = run.key("control/driver.json")
    other = old_driver(run)
    if other and (take_over or not other.is_alive):
        run.store.delete(key)
    if not run.store.put_if_absent(key, far(name).model_dump_json().encode()):
        raise UsageError("driven by another")
    for unit in ("a", "b"):
        store.put_if_absent(f"units/{name}/{unit}", b"")
    run.store.delete(key)


def old_driver(run: Run) -> control.Driver | None:
    try:
        return driver_in(run.store.get(run.key("control/driver.json")))
    except KeyError:
        return None


def test_drivers_that_delete_a_dead_ones_claim_are_found() -> None:
    with pytest.raises(Violation, match="two drive"):
        explore({name: partial(old_drive, name, False) for name in "AB"}, check_one_at_work, start=dead())


def test_claims_without_a_number_are_found() -> None:
    """Who looks, finds nobody and writes what it found nobody under: a put that is no condition."""

    def hurried(name: str, take_over: bool, store: Store) -> None:
        run = run_in(store)
        control.Bid(control.newest(run)).check()
        control.claim(control.Bid(control.newest(run)), far(name), SPEC)
        for unit in ("a", "b"):
            store.put_if_absent(f"units/{name}/{unit}", b"")

    with pytest.raises(Violation, match="two drive"):
        explore({name: partial(hurried, name, False) for name in "AB"}, check_one_at_work)


def old_amend(name: str, store: Store) -> str:
    run = run_in(store)
    text = CHANGES[name](control.current_spec(run)).to_json().encode()
    number = len(list(run.store.list(run.key("amendments/"))))
    run.store.put_if_absent(run.key(f"amendments/{number:04d}-{hashlib.sha256(text).hexdigest()}.json"), text)
    return name


def test_amendments_that_take_their_number_from_a_listing_are_found() -> None:
    with pytest.raises(Violation, match="was lost"):
        explore({name: partial(old_amend, name) for name in CHANGES}, check_amendments, weather=FAIR)


def old_collect(store: Store) -> None:
    run = run_in(store)
    if old_driver(run):
        raise UsageError("driven")
    for key in Catalog(run).orphans():
        run.store.delete(run.key(key))


def old_write(commit: Commit, store: Store) -> None:
    run = run_in(store)
    run.store.put_if_absent(run.key("control/driver.json"), far("writer").model_dump_json().encode())
    run.commit(commit)
    run.store.delete(run.key("control/driver.json"))


def test_a_collection_that_only_looks_for_a_driver_is_found(tmp_path: Path) -> None:
    commit = commit_in(tmp_path)
    works = {"gc": old_collect, "writer": partial(old_write, commit)}
    with pytest.raises(Violation, match="names what was collected"):
        explore(works, check_bytes, start=orphaned(commit), weather=FAIR)
