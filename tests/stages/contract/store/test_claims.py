"""Writers that agree by time alone: simulated in virtual time, where requests take as long as chance likes."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from stages.contract.artifacts import Part
from stages.contract.errors import UsageError
from stages.contract.records import Problem
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store.claims import LEASES, SUFFIX, Claims, Clock
from stages.contract.store.s3 import S3Store
from tests.s3 import Fault, S3Server
from tests.stages.contract.parts import PROBLEMS, commit_rows, problem

SETTLE = 1.0
KEY = "part.json"
DELAYS = (*[0.0] * 16, 0.05, 0.3, 0.45, 2.0)
RARE = (7.0, 40.0)
"""Seconds that a request or a reply may be on its way."""
LONGEST_WRITE = 2.0
"""Of the object itself: what the protocol asks of a cluster."""
WORST = 60.0
"""Seconds after which all goes well."""
SEEDS = 200


class Killed(BaseException):
    """The end of a process."""


class Simulation:
    """One thing happens at a time; processes are threads that run in turn, and time is what the next event says."""

    def __init__(self, seed: int) -> None:
        self.chance, self.now = random.Random(seed), 0.0
        self._events: list[tuple[float, int, Callable[[], None], bool]] = []
        self._numbers, self._idle = itertools.count(), threading.Semaphore(0)

    def at(self, moment: float, happen: Callable[[], None], *, wakes: bool = False) -> None:
        heapq.heappush(self._events, (moment, next(self._numbers), happen, wakes))

    def wait_until(self, moment: float) -> None:
        """Let the others go on; to be called by a process."""
        going = threading.Event()
        self.at(moment, going.set, wakes=True)
        self._idle.release()
        assert going.wait(60)

    def start(self, body: Callable[[], None]) -> None:
        going = threading.Event()

        def live() -> None:
            assert going.wait(60)
            try:
                body()
            except Killed:
                pass
            finally:
                self._idle.release()

        threading.Thread(target=live, daemon=True).start()
        self.at(self.chance.choice(DELAYS[:4]), going.set, wakes=True)

    def run(self) -> None:
        while self._events:
            self.now, _, happen, wakes = heapq.heappop(self._events)
            happen()
            assert not wakes or self._idle.acquire(timeout=60)

    def delay(self) -> float:
        usual = self.chance.random() < 0.97
        return self.chance.choice(DELAYS if usual else RARE) if self.now < WORST else 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.wait_until(self.now + seconds)


class Server:
    """Objects by key, with every write of the one that is to be written once."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.writers: dict[str, str] = {}
        self.writes: list[bytes] = []


class Process:
    """A client of the server; a request may be slow before it arrives and after, and the process may die at any."""

    def __init__(self, server: Server, *, mortal: bool) -> None:
        self.server, self.simulation, self.mortal = server, server.simulation, mortal
        self.won: bool | None = None

    def _request(self, do: Callable[[], None], longest: float = 1e9) -> None:
        chance, now = self.simulation.chance, self.simulation.now
        arrival = now + min(longest, self.simulation.delay())
        self.simulation.at(arrival, do)
        self.simulation.wait_until(arrival + min(longest, self.simulation.delay()))
        if self.mortal and chance.random() < 0.05:
            raise Killed

    def writer(self, key: str) -> str | None:
        found: list[str | None] = []
        self._request(lambda: found.append(self.server.writers.get(key)))
        return found[0]

    def put(self, key: str, data: bytes, writer: str) -> None:
        def arrive() -> None:
            self.server.writers[key] = writer
            if key == KEY:
                self.server.writes.append(data)

        self._request(arrive, 1e9 if key.endswith(SUFFIX) else LONGEST_WRITE)

    def commit(self, data: bytes, clock: Clock) -> None:
        self.won = Claims(self, SETTLE, clock).put_if_absent(KEY, data)


class Ended(NamedTuple):
    """How a simulation came out."""

    winners: int
    writes: int
    all_lived: bool


def simulate(seed: int, make_clock: Callable[[Simulation], Clock] = lambda simulation: simulation) -> Ended:
    simulation = Simulation(seed)
    server = Server(simulation)
    processes = [Process(server, mortal=seed % 2 == 0) for _ in range(2 + seed % 3)]
    for number, process in enumerate(processes):
        simulation.start(
            lambda process=process, number=number: process.commit(b"%d" % number, make_clock(simulation))  # type: ignore[misc]
        )
    simulation.run()
    return Ended(
        sum(process.won is True for process in processes),
        len(server.writes),
        all(process.won is not None for process in processes),
    )


def test_one_writer_wins_whoever_is_held_up_or_dies() -> None:
    for seed in range(SEEDS):
        ended = simulate(seed)
        assert ended.winners <= 1 and ended.writes <= 1, seed
        assert not ended.all_lived or (ended.winners, ended.writes) == (1, 1), seed


class Hasty(NamedTuple):
    """Does not wait for others to settle."""

    simulation: Simulation

    def monotonic(self) -> float:
        return self.simulation.monotonic()

    def sleep(self, seconds: float, /) -> None:
        self.simulation.sleep(min(seconds, 0.01))


class Unaware(NamedTuple):
    """Does not notice that it was held up."""

    simulation: Simulation

    def monotonic(self) -> float:
        return 0.0 if self.simulation.now < WORST else self.simulation.now

    def sleep(self, seconds: float, /) -> None:
        self.simulation.sleep(seconds)


@pytest.mark.parametrize("clock", [Hasty, Unaware])
def test_the_simulation_finds_writers_that_break_the_rules(clock: Callable[[Simulation], Clock]) -> None:
    assert any(simulate(seed, clock).writes > 1 for seed in range(SEEDS))


def test_a_dead_writers_claim_is_passed_over() -> None:
    simulation = Simulation(1)
    server = Server(simulation)
    server.writers[KEY + SUFFIX] = "dead"
    process = Process(server, mortal=False)
    simulation.start(lambda: process.commit(b"data", simulation))
    simulation.run()
    assert process.won and simulation.now > LEASES * SETTLE


class Forgetful:
    """A server that keeps no metadata."""

    def __init__(self) -> None:
        self.keys: set[str] = set()

    def writer(self, key: str) -> str | None:
        return "" if key in self.keys else None

    def put(self, key: str, data: bytes, writer: str) -> None:
        self.keys.add(key)


def test_a_server_that_keeps_no_metadata_is_told_of() -> None:
    with pytest.raises(UsageError, match="keeps no metadata"):
        Claims(Forgetful(), 0.01).put_if_absent(KEY, b"data")


# Over HTTP, against a server that ignores the condition


@pytest.fixture
def old_server(s3_server: S3Server) -> S3Server:
    s3_server.conditional = False
    return s3_server


@pytest.mark.slow
def test_of_writers_to_an_old_server_one_wins_and_the_others_know(old_server: S3Server, s3_uri: str) -> None:
    stores = [S3Store(f"{s3_uri}&settle=0.5") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda number: stores[number].put_if_absent("key", b"%d" % number), range(4)))
    assert sum(won) == 1
    assert stores[0].get("key") == b"%d" % won.index(True)
    assert not stores[0].put_if_absent("key", b"late")
    assert list(stores[0].list("")) == ["key"]
    for store in stores:
        store.client.close()


@pytest.mark.slow
def test_a_run_in_an_old_server_keeps_its_first_writers(old_server: S3Server, s3_uri: str, tmp_path: Path) -> None:
    store = S3Store(f"{s3_uri}&settle=0.2")
    run = Run(store, "r")
    assert run.create(RunSpec()) and not run.create(RunSpec())
    first = commit_rows(run, Part(), [problem(1)], tmp_path / "one")
    assert commit_rows(run, Part(), [problem(2)], tmp_path / "two") == first
    assert list(run.read(PROBLEMS, Problem)) == [problem(1)]
    store.client.close()


@pytest.mark.parametrize("settle", ["", "0", "-1", "soon", "nan", "1e9"])
def test_settle_is_seconds(s3_uri: str, settle: str) -> None:
    with pytest.raises(UsageError, match="write seconds, such as settle=10"):
        S3Store(f"{s3_uri}&settle={settle}")


def test_a_server_that_refuses_the_condition_is_told_of_with_the_remedy(s3_server: S3Server, s3_uri: str) -> None:
    store = S3Store(s3_uri)
    s3_server.faults = [Fault("PUT", "key", "501 Not Implemented", "NotImplemented", times=2)]
    with pytest.raises(UsageError, match="settle=10"):
        store.put_if_absent("key", b"")
    store.client.close()
