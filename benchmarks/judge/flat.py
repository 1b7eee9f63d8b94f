"""Memory and cost per execution over many thousand executions of one judge: neither may grow."""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from stages.execute.judge import Judge, Limits, Program
from stages.execute.sandbox import SandboxKind

STEP = 5_000
ROLES = ("keeper", "referee", "zygote")
GVISOR = "gVisor, what its parts map counted in each"
PAGE = os.sysconf("SC_PAGESIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def measure(programs: list[Program], count: int, sandbox: SandboxKind, workers: int) -> None:
    """Print a line every `STEP` executions: what each kind of process holds, and what an execution costs."""
    endless = _distinct(programs)
    print(f"{sandbox}: {'executions':>10} {'sol/s':>7} {'CPU ms':>7}  resident MiB (forks of a zygote with it)")
    with Judge(limits=Limits(timeout_seconds=10), sandbox=sandbox, workers=workers) as judge:
        for done in range(STEP, count + 1, STEP):
            batch = [next(endless) for _ in range(STEP)]
            started, used = time.monotonic(), _cpu_seconds()
            outcomes = Counter(verdict.outcome for verdict in judge.run(batch))
            seconds, cpu = time.monotonic() - started, _cpu_seconds() - used
            held = ", ".join(f"{role} {size:.0f}" for role, size in _resident().items())
            print(f"{done:>19} {STEP / seconds:7.0f} {cpu / STEP * 1000:7.2f}  {held}  {dict(outcomes)}", flush=True)


def _distinct(programs: list[Program]) -> Iterator[Program]:
    """The programs again and again, no two of them the same: equal ones would run once."""
    number = 0
    while True:
        number += 1
        for program in programs:
            yield replace(program, solution=f"{program.solution}\n# {number}\n")


def _family() -> list[int]:
    """This process and its descendants."""
    parents: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(fields[1])].append(int(path.parent.name))
    found = [os.getpid()]
    for pid in found:
        found.extend(parents[pid])
    return found


def _resident() -> dict[str, float]:
    """MiB by role; under gVisor its own processes hold everything inside of it."""
    sizes: dict[str, float] = defaultdict(float)
    for pid in _family():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
        inside = next((role for role in ROLES if role.encode() in words), GVISOR)
        role = "judge" if pid == os.getpid() else GVISOR if b"runsc" in words[0] else inside
        sizes[role] += pages * PAGE / (1 << 20)
    return dict(sizes)


def _cpu_seconds() -> float:
    """CPU time of the family, those included that it has buried."""
    total = 0
    for pid in _family():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / TICKS
