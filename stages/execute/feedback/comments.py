"""From a part's executions to the same with comments on them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from stages.contract.artifacts import Input
from stages.contract.prompts import cap, sanitize
from stages.contract.records import Execution
from stages.entrypoint import Job, threads
from stages.execute.feedback.reader import Text, read_all
from stages.execute.feedback.source import Comments, Judged, load_source


class Commented(NamedTuple):
    """A part's rows, and what is recorded with them."""

    rows: list[Execution]
    inputs: tuple[Input, ...] = ()
    facts: dict[str, int] = {}


def comment(job: Job, rows: Sequence[Execution], judged: Sequence[Judged]) -> Commented:
    """Return the rows, their feedback written as the spec says. Held-out passes keep theirs: nothing is learned from
    them.

    `judged` tell of the rows, one each.
    """
    spec = job.spec
    if spec.feedback.source == "traceback" or job.sampling_pass.split != "train":
        return Commented(list(rows))
    started = time.monotonic()
    silent = ("infra_error",) if spec.feedback.successes else ("passed", "infra_error")
    wanted = [number for number, row in enumerate(rows) if row.outcome not in silent]
    said = _ask(job, [judged[number] for number in wanted])
    written = list(rows)
    for number, text in zip(wanted, said.texts, strict=True):
        written[number] = _write(job, rows[number], text)
    job.counters["feedback_seconds"] = time.monotonic() - started
    commented = sum(map(bool, said.texts))
    return Commented(written, said.inputs, {"commented": commented, "uncommented": len(wanted) - commented})


def join(text: str, traceback: str, characters: int) -> str:
    """Return the source's text and, after it, the traceback; neither takes the other more than half of the room.

    Of a source's text the beginning is kept, of a traceback the end: there each says what matters.
    """
    text, traceback = sanitize(text).strip("\n"), sanitize(traceback)
    if not text or text in traceback:
        return cap(traceback, characters)
    room = max(characters // 2, characters - len(traceback) - 1)
    if len(text) > room:
        text = text[: room - len(CUT)] + CUT
    return f"{text}\n{cap(traceback, characters - len(text) - 1)}" if traceback else f"{text}\n"[:characters]


CUT = "\n[...]"


def _ask(job: Job, judged: Sequence[Judged]) -> Comments:
    name = job.spec.feedback.source
    source = load_source(name)
    if hasattr(source, "comment"):
        said: Comments = source.comment(job, judged)
        return said
    texts = [Text(each.program.prompt, each.program.solution) for each in judged]
    return Comments(read_all(name, texts, job.spec.execute.workers or threads()))


def _write(job: Job, row: Execution, text: str) -> Execution:
    keep = job.spec.feedback.keep_traceback or not text
    feedback = join(text, row.feedback if keep else "", job.spec.execute.feedback_chars)
    return row.model_copy(update={"feedback": feedback})
