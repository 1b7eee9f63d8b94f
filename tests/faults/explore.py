"""Every interleaving of a few processes that run the real commit code, one operation of the store at a time.

Stateless model checking by replay: a process is a function of what the store
answered it, so it is run again from its beginning with the answers it has had, up to the operation that it has no
answer to. That operation is what it does next; nothing of the code under test is modelled, and no thread ever waits
for another. States that differ in nothing are entered once, and how many schedules lead through them is counted.

A crash needs no schedule of its own: at every state there is, all that goes on is forgotten and `recover` is called,
and whoever is slow goes on after the others have ended, for minutes or for ever.
"""

from __future__ import annotations

import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations
from pathlib import Path
from typing import Any, NamedTuple

from stages.contract.errors import LetiError, StoreError
from stages.contract.store import Entry, Leftover, Moved, Store

Objects = Mapping[str, bytes]
WRITES = ("put_if_absent", "upload")


class Op(NamedTuple):
    """What a process asks of the store."""

    verb: str
    key: str
    data: bytes = b""

    def __str__(self) -> str:
        key = re.sub(r"([0-9a-f]{6})[0-9a-f]{58}", r"\1", self.key.removeprefix("runs/r/"))
        return f"{self.verb} {key}"


class Fault(NamedTuple):
    """An answer that is an error."""

    kind: type[Exception]
    text: str


class Answered(NamedTuple):
    """An operation and what came of it."""

    op: Op
    answer: Any


class Ended(NamedTuple):
    """How a process ended: with a result, or with an error of the tree."""

    result: Any = None
    error: LetiError | None = None


Log = tuple[Answered, ...]
Work = Callable[[Store], Any]
"""What a process does with the store that it is given."""


class Asks(BaseException):
    """Ends a replay at the first operation without an answer; no handler of the code under test catches it."""

    def __init__(self, op: Op) -> None:
        super().__init__(op)
        self.op = op


class Replayed(Store):
    """Gives the answers of a log, by operation, key and how often it was asked; then asks."""

    uri = "memory"

    def __init__(self, log: Log) -> None:
        self._answers: dict[tuple[str, str], deque[Any]] = {}
        self._lock = threading.Lock()  # part records are read side by side
        self._asked: Op | None = None
        for op, answer in log:
            self._answers.setdefault((op.verb, op.key), deque()).append(answer)

    def stream(self, key: str) -> Iterator[bytes]:
        yield self._ask(Op("get", key))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return bool(self._ask(Op("put_if_absent", key, data)))

    def upload(self, key: str, path: Path, moved: Moved = lambda _: None) -> None:
        self._ask(Op("upload", key, path.read_bytes()))

    def scan(self, prefix: str) -> Iterator[Entry]:
        return (Entry(key, 0, 0.0) for key in self._ask(Op("scan", prefix)))

    def size(self, key: str) -> int | None:
        found: int | None = self._ask(Op("size", key))
        return found

    def delete(self, key: str) -> None:
        self._ask(Op("delete", key))

    def leftovers(self, prefix: str) -> Iterator[Leftover]:
        return iter(())

    def discard(self, leftover: Leftover) -> None:
        raise AssertionError(f"{leftover} was listed nowhere")

    def _ask(self, op: Op) -> Any:
        with self._lock:
            known = self._answers.get((op.verb, op.key))
            if not known or self._asked:
                # What is cleaned up on the way out is not done: the process has not got so far.
                self._asked = self._asked or op
                raise Asks(self._asked)
            answer = known.popleft()
        return _unless_fault(answer)


def _unless_fault(answer: Any) -> Any:
    if isinstance(answer, Fault):
        raise answer.kind(answer.text)
    return answer


def answer(objects: Objects, op: Op) -> tuple[Any, Objects]:
    """Do an operation at once, as S3 does: return its answer and what is in the store then."""
    if op.verb == "put_if_absent":
        return op.key not in objects, objects if op.key in objects else {**objects, op.key: op.data}
    if op.verb == "upload":
        return None, {**objects, op.key: op.data}
    if op.verb == "delete":
        return None, {key: data for key, data in objects.items() if key != op.key}
    if op.verb == "scan":
        return tuple(sorted(key for key in objects if key.startswith(op.key))), objects
    if op.verb == "size":
        return len(objects[op.key]) if op.key in objects else None, objects
    return objects.get(op.key, Fault(KeyError, op.key)), objects


class Memory(Replayed):
    """A store in memory that answers at once: for what is done by one process, from the beginning to the end."""

    def __init__(self, objects: Objects) -> None:
        super().__init__(())
        self.objects = objects

    def _ask(self, op: Op) -> Any:
        found, self.objects = answer(self.objects, op)
        return _unless_fault(found)


class State(NamedTuple):
    """What is in the store, what each process has seen, and writes that are still on their way."""

    objects: Objects
    logs: tuple[Log, ...]
    late: tuple[Op, ...] = ()
    faults: int = 0
    """Faults of the network so far."""

    @property
    def identity(self) -> object:
        """Equal for states that differ in nothing."""
        return frozenset(self.objects.items()), self.logs, tuple(sorted(self.late)), self.faults


class Step(NamedTuple):
    """One move and where it leads."""

    title: str
    state: State


class Weather(NamedTuple):
    """What the store and the way to it may do."""

    lag: bool = False
    """A listing may leave out any of what it should show."""
    faults: int = 0
    """Writes of a schedule that may lose their reply, arrive late or twice, or never."""
    conflicts: bool = False
    """One such write may also be refused because another of its key is under way (S3's 409)."""


@dataclass
class Found:
    """What an exploration looked at."""

    states: int = 0
    schedules: int = 0
    """From the start to where nothing more can happen."""
    crashes: int = 0
    """States in which some process was under way, and recovery was tried without it."""


class Violation(AssertionError):
    """An invariant does not hold; the message has the shortest schedule that leads there."""


@dataclass
class Explorer:
    """Explores all that a few processes can do to each other."""

    works: Mapping[str, Work]
    """By name."""
    check: Callable[[State, State | None, list[Ended | None]], None]
    """Raises for a state that must not be, coming from another; told how each process has ended, if it has."""
    recover: Callable[[Objects], None]
    """Raises unless what is in the store can be gone on from."""
    weather: Weather
    start: Objects = field(default_factory=dict)
    _next: dict[tuple[str, Log], Op | Ended] = field(default_factory=dict)
    _recovered: set[frozenset[tuple[str, bytes]]] = field(default_factory=set)

    def explore(self) -> Found:
        """Visit every state, nearest first; `Violation` for the first that must not be."""
        first = State(dict(self.start), ((),) * len(self.works))
        found, seen = Found(), {first.identity: 0}
        waiting: deque[tuple[State, State | None, tuple[str, ...]]] = deque([(first, None, ())])
        edges: list[Counter[int]] = []
        while waiting:
            state, before, path = waiting.popleft()
            steps = self._examine(state, before, path)
            found.crashes += bool(steps)
            edges.append(Counter())
            for step in steps:
                identity = step.state.identity
                if identity not in seen:
                    seen[identity] = len(seen)
                    waiting.append((step.state, state, (*path, step.title)))
                edges[-1][seen[identity]] += 1
        found.states, found.schedules = len(edges), _paths(edges)
        return found

    def _examine(self, state: State, before: State | None, path: tuple[str, ...]) -> list[Step]:
        """Return where a state leads, once it has been found in order."""
        try:
            self.check(state, before, self.ends(state))
            there = frozenset(state.objects.items())
            if there not in self._recovered:
                self._recovered.add(there)
                self.recover(state.objects)
            return list(self._steps(state))
        except (AssertionError, LetiError) as error:
            what = str(error).partition("\n")[0]
            shown = "".join(f"\n  {number}. {title}" for number, title in enumerate(path, 1))
            raise Violation(f"{what}; after{shown or ' nothing'}") from error

    def ends(self, state: State) -> list[Ended | None]:
        """Return how each process has ended, None for one under way."""
        found = (self._now(name, log) for name, log in zip(self.works, state.logs, strict=True))
        return [now if isinstance(now, Ended) else None for now in found]

    def _now(self, name: str, log: Log) -> Op | Ended:
        if (name, log) not in self._next:
            self._next[name, log] = self._replay(self.works[name], log)
        return self._next[name, log]

    def _replay(self, work: Work, log: Log) -> Op | Ended:
        try:
            return Ended(work(Replayed(log)))
        except Asks as asks:
            return asks.op
        except LetiError as error:
            return Ended(error=error)

    def _steps(self, state: State) -> Iterator[Step]:
        for number, (name, log) in enumerate(zip(self.works, state.logs, strict=True)):
            now = self._now(name, log)
            if isinstance(now, Op):
                for title, outcome, objects, late in self._outcomes(state, now):
                    logs = (*state.logs[:number], (*log, Answered(now, outcome)), *state.logs[number + 1 :])
                    faults = state.faults + bool(title)
                    yield Step(f"{name}: {now}{title}", State(objects, logs, (*state.late, *late), faults))
        for number, op in enumerate(state.late):
            _, objects = answer(state.objects, op)
            rest = state.late[:number] + state.late[number + 1 :]
            yield Step(f"late: {op}", state._replace(objects=objects, late=rest))

    def _outcomes(self, state: State, op: Op) -> Iterator[tuple[str, Any, Objects, tuple[Op, ...]]]:
        """Yield what may come of an operation: its name, the answer, the store after it, what is still on its way."""
        right, objects = answer(state.objects, op)
        yield "", right, objects, ()
        if op.verb == "scan" and self.weather.lag:
            for shown in chain.from_iterable(combinations(right, size) for size in range(len(right))):
                yield "", shown, objects, ()
        if op.verb in WRITES and state.faults < self.weather.faults:
            lost = Fault(StoreError, "no answer")
            yield " (its reply is lost)", lost, objects, ()
            yield " (it is on its way)", lost, state.objects, (op,)
            yield " (it comes twice)", right, objects, (op,)
            if self.weather.conflicts and op.verb == "put_if_absent":
                yield " (409)", Fault(BlockingIOError, "another is writing it"), state.objects, ()


def _paths(edges: list[Counter[int]]) -> int:
    """Return how many paths lead from the first node of an acyclic graph to a node without successors."""
    counts: dict[int, int] = {}
    stack = [0]
    while stack:
        node = stack[-1]
        missing = [other for other in edges[node] if other not in counts]
        if missing:
            stack += missing
            continue
        counts[node] = sum(times * counts[other] for other, times in edges[node].items()) or 1
        stack.pop()
    return counts[0]
