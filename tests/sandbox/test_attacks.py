"""No attack of the catalogue gets a pass, harms the judge, or disturbs a neighbour."""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from stages.execute.judge import Judge, Program, Verdict
from tests.sandbox import attacks, forgeries
from tests.sandbox.attacks import SECRET, TESTS, Attack
from tests.sandbox.conftest import LIMITS
from tests.sandbox.crossings import BESIDE, CROSSINGS

pytestmark = pytest.mark.slow

TOGETHER = [*BESIDE, *forgeries.BESIDE]
CATALOGUE = [*attacks.CATALOGUE, *CROSSINGS, *forgeries.FORGERIES, *TOGETHER]
HONEST = "def f(x):\n    return [x, x + 1]  # {number}"
GRACE_SECONDS = 3.0
"""For a machine that is busy with other tests; what a timeout really costs is measured in benchmarks/judge."""

Row = tuple[Attack, Verdict, Verdict]


@pytest.fixture(scope="module")
def rows(judge: Judge) -> list[Row]:
    """Every attack with its verdict and that of an honest neighbour which runs right after it."""
    programs = []
    for number, attack in enumerate(CATALOGUE):
        programs.append(Program("", attack.solution, "", attack.tests))
        programs.append(Program("", HONEST.format(number=number), "", TESTS))
    os.environ["LETI_CANARY"] = SECRET
    try:
        verdicts = list(judge.run(programs))
    finally:
        del os.environ["LETI_CANARY"]
    return list(zip(CATALOGUE, verdicts[::2], verdicts[1::2], strict=True))


@pytest.mark.parametrize("number", range(len(CATALOGUE)), ids=[attack.name for attack in CATALOGUE])
def test_an_attack_gets_the_verdict_it_deserves(rows: list[Row], number: int) -> None:
    attack, verdict, _ = rows[number]
    assert verdict.outcome in attack.outcomes, verdict
    assert attack.error_type in (None, verdict.error_type), verdict
    assert verdict.isolation.endswith("-split") or attack in TOGETHER
    assert verdict.seconds < LIMITS.timeout_seconds + GRACE_SECONDS


def test_an_honest_neighbour_of_every_attack_passes(rows: list[Row]) -> None:
    assert [attack.name for attack, _, neighbour in rows if neighbour.outcome != "passed"] == []


def test_feedback_of_every_attack_is_clean(rows: list[Row]) -> None:
    for attack, verdict, _ in rows:
        text = verdict.feedback
        assert text, attack.name
        assert len(text) <= LIMITS.feedback_chars
        assert text.encode().decode() == text
        for private in (SECRET, "stages/execute", "/leti/", "lib/python3"):
            assert private not in text or private in attack.solution, (attack.name, text)
        assert not re.search(r"at 0x[0-9a-f]", text), (attack.name, text)


def test_attacks_get_the_same_verdict_again(judge: Judge, rows: list[Row]) -> None:
    quick = [(attack, verdict) for attack, verdict, _ in rows if verdict.outcome == "failed" and verdict.seconds < 0.5]
    again = judge.run([Program("", attack.solution, "", attack.tests) for attack, _ in reversed(quick)])
    for (attack, before), after in zip(reversed(quick), again, strict=True):
        assert (after.outcome, after.error_type, after.feedback) == (
            before.outcome,
            before.error_type,
            before.feedback,
        ), attack


def test_files_vanish_between_candidates(judge: Judge) -> None:
    writer = "import os\nopen('/tmp/note', 'w').write('1')\ndef f(x): return os.listdir('/tmp')"
    reader = "import os\ndef f(x): return os.listdir('/tmp')"
    programs = [
        Program("", writer, "", ("assert f(0) == ['note']",)),
        *(Program("", f"{reader}  # {number}", "", ("assert f(0) == []",)) for number in range(4)),
    ]
    assert [verdict.outcome for verdict in judge.run(programs)] == ["passed"] * 5


def test_shared_memory_does_not_outlive_a_candidate(judge: Judge) -> None:
    make = "import ctypes\ndef f(x): return ctypes.CDLL(None).shmget(77, 4096, 0o1666)  # {}"
    find = "import ctypes\ndef f(x): return ctypes.CDLL(None).shmget(77, 0, 0)  # {}"
    programs = [Program("", make.format(number), "", ("f(0)",)) for number in range(4)]
    programs += [Program("", find.format(number), "", ("assert f(0) == -1",)) for number in range(4)]
    verdicts = list(judge.run(programs))
    assert {verdict.outcome for verdict in verdicts} == {"passed"}, verdicts[-1]


def test_the_memory_of_a_program_is_not_held_against_its_number_in_the_next_batch(judge: Judge) -> None:
    greedy = next(attack for attack in attacks.RESOURCES if attack.name == "E9 memory of many")
    leaver = Program("", "import os\nos._exit(0)", "", TESTS)
    for _ in range(2):
        assert next(judge.run([Program("", greedy.solution, "", greedy.tests)])).outcome != "passed"
    assert [verdict.error_type for verdict in judge.run([leaver])] == ["SystemExit"]


def test_nothing_of_a_candidate_outlives_it(judge: Judge) -> None:
    leave = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n    time.sleep(60)\ndef f(x): return 1"
    see = "import os\ndef f(x):\n    try: os.kill(-1, 0)\n    except ProcessLookupError: return 0\n    except PermissionError: return 0\n    return 1"
    programs = [Program("", leave, "", ("assert f(0) == 1",)), Program("", see, "", ("assert f(0) == 0",))] * 2
    assert {verdict.outcome for verdict in judge.run(programs)} == {"passed"}


def test_a_host_file_is_neither_read_nor_written(judge: Judge, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text(SECRET)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o777)
    solution = f"def f(x):\n    try:\n        open({str(canary)!r}, 'a').write('!')\n    except OSError:\n        return 0\n    return 1"
    verdict = next(judge.run([Program("", solution, "", ("assert f(0) == 0",))]))
    assert verdict.outcome == "passed", verdict
    assert canary.read_text() == SECRET


def test_a_timeout_does_not_stop_the_other_worker(judge: Judge) -> None:
    spin = Program("", "def f(x):\n    while True: pass", "", TESTS)
    rest = [Program("", HONEST.format(number=number), "", TESTS) for number in range(40)]
    known: list[float] = []
    started = time.monotonic()
    verdicts = []
    for verdict in judge.run([*rest, spin]):
        known.append(time.monotonic() - started)
        verdicts.append(verdict)
    assert verdicts[-1].outcome == "timed_out"
    assert known[len(rest) // 2] < LIMITS.timeout_seconds + GRACE_SECONDS
