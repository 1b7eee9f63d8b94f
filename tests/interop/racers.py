"""Processes that write the same things at the same moments, through clients of their own.

`python -m tests.interop.racers STORE SCRATCH` prints what became of it, as JSON by the line, a line for each process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from leti_ctl import control
from stages.contract.artifacts import Part, Ref
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.store import open_store
from tests.stages.contract.parts import commit_rows, problem

RACERS, ROUNDS, PARTS = 6, 12, 3
RUN = "r1"


def race(number: int, uri: str, scratch: Path, together: Barrier) -> dict[str, Any]:
    """Be one of the processes: write records, commit every part of an artifact, and take the run."""
    run = Run(open_store(uri), RUN)
    won = []
    for key in (f"race/{turn:02d}" for turn in range(ROUNDS)):
        together.wait()
        won.append(run.store.put_if_absent(key, b"%d" % number))
    committed = {}
    for ref in (Ref("problems", split="train"), Ref("problems", split="test")):
        together.wait()
        for part in (Part((number + step) % PARTS, PARTS) for step in range(PARTS)):
            # Odd racers have rows of their own, so that not all who lose have written the same bytes.
            record = commit_rows(run, part, [problem(number % 2 * number)], scratch / str(number), ref=ref)
            committed[f"{ref.split}/{part.stem}"] = record.checksum
    claims = [claim(run, number, together) for _ in range(ROUNDS // 3)]
    return {"won": won, "committed": committed, "claims": claims}


def claim(run: Run, number: int, together: Barrier) -> int | None:
    """Bid for the run beside all others, each of which has seen the same last claim; return the number of one's own."""
    last = control.newest(run)
    driver = control.Driver(backend="local", host=f"machine-{number}", pid=number, born=1, since=control.now())
    together.wait()
    try:
        return control.claim(control.Bid(last, take_over=True), driver, run.spec).number
    except UsageError:
        return None
    finally:
        together.wait()


def main(uri: str, scratch: Path) -> None:
    """Start them all from one process that has no connection yet."""
    forks = multiprocessing.get_context("fork")
    together, told = forks.Barrier(RACERS, timeout=200), forks.SimpleQueue()

    def begin(number: int) -> None:
        told.put((number, json.dumps(race(number, uri, scratch, together))))
        os._exit(0)

    racers = [forks.Process(target=begin, args=(number,)) for number in range(RACERS)]
    for each in racers:
        each.start()
    for each in racers:
        each.join()
        if each.exitcode:
            sys.exit(f"a racer ended with {each.exitcode}")
    print("\n".join(text for _, text in sorted(told.get() for _ in racers)))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
