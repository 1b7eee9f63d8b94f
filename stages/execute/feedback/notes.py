"""What people or programs wrote about the solutions: notes from `feedback.notes`.

The notes that fit are committed as the part's `notes` artifact before its executions, which name it as what they were
made from. A part whose notes are committed takes those and asks no file again: killed and started once more, or run
again by an audit, it gives the same rows whatever the file has become.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from stages.contract.artifacts import Ref
from stages.contract.errors import UsageError
from stages.contract.notes import read_notes, requests, solution_digest, waiting_key
from stages.contract.records import Note, write_rows
from stages.entrypoint import Job
from stages.execute.feedback.source import Comments, Judged


def comment(job: Job, judged: Sequence[Judged]) -> Comments:
    """Return the note on each solution; commits them, or stops the run where a failure must have one and has none."""
    ref = Ref("notes", job.iteration, job.split)
    if job.run.find_part(ref, job.part) is None:
        _commit(job, ref, judged)
    taken = {
        (note.problem_id, note.solution_sha256, note.sample): note.text for note in job.run.read(ref, Note, job.part)
    }
    return Comments([taken.get(_key(each), "") for each in judged], (job.run.input(ref, job.part),))


def _commit(job: Job, ref: Ref, judged: Sequence[Judged]) -> None:
    address = job.spec.feedback.notes
    assert address is not None, "the spec's rules"
    notes = read_notes(address)
    found = [(each, notes.find(each.sample, job.iteration)) for each in judged]
    missing = sum(not text for each, text in found if each.execution.outcome != "passed")
    if missing and job.spec.feedback.missing == "stop":
        _wait(job, judged, missing)
    rows = [
        Note(problem_id=problem, solution_sha256=digest, sample=sample, text=text)
        for each, text in found
        if text
        for problem, digest, sample in [_key(each)]
    ]
    facts = {"source": address, "source_sha256": notes.sha256, "missing": missing}
    problems, samples = Ref("problems", split=job.sampling_pass.split), Ref("samples", job.iteration, job.split)
    job.commit_rows(ref, rows, inputs=(job.run.input(problems), job.run.input(samples, job.part)), **facts)


def _wait(job: Job, judged: Sequence[Judged], missing: int) -> NoReturn:
    """Leave the solutions where `leti-ctl notes` finds them, and stop."""
    prompts = {each.problem.problem_id: each.problem.prompt for each in judged}
    pairs = ((each.sample, each.execution) for each in judged)
    wanted = requests(pairs, prompts, job.iteration, successes=job.spec.feedback.successes)
    key = job.run.key(waiting_key(job.iteration, job.split, job.part))
    job.run.store.put_if_absent(key, b"".join(write_rows(wanted)))
    failures = sum(each.execution.outcome != "passed" for each in judged)
    raise UsageError(
        f"feedback.missing: {missing} of {failures} failures of iteration {job.iteration} have no note in "
        f"{job.spec.feedback.notes}; `leti-ctl notes {job.run.name} --iteration {job.iteration} --missing` lists them: "
        "write their texts, add the lines to that file and resume"
    )


def _key(each: Judged) -> tuple[str, str, int]:
    sample = each.sample
    return sample.problem_id, solution_digest(sample.solution), sample.sample
