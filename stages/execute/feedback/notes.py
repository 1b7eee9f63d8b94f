"""What people or programs wrote about the failures: notes from `feedback.notes`.

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
from stages.execute.feedback.source import Comments, Failure


def comment(job: Job, failures: Sequence[Failure]) -> Comments:
    """Return the note on each failure; commits them, or stops the run where one is missing and the spec says so."""
    ref = Ref("notes", job.iteration, job.split)
    if job.run.find_part(ref, job.part) is None:
        _commit(job, ref, failures)
    taken = {
        (note.problem_id, note.solution_sha256, note.sample): note.text for note in job.run.read(ref, Note, job.part)
    }
    texts = [taken.get(_key(failure), "") for failure in failures]
    return Comments(texts, (job.run.input(ref, job.part),))


def _commit(job: Job, ref: Ref, failures: Sequence[Failure]) -> None:
    address = job.spec.feedback.notes
    assert address is not None, "the spec's rules"
    notes = read_notes(address)
    found = [(failure, notes.find(failure.sample, job.iteration)) for failure in failures]
    missing = sum(not text for _, text in found)
    if missing and job.spec.feedback.missing == "stop":
        _wait(job, failures, missing)
    rows = [
        Note(problem_id=problem, solution_sha256=digest, sample=sample, text=text)
        for failure, text in found
        if text
        for problem, digest, sample in [_key(failure)]
    ]
    facts = {"source": address, "source_sha256": notes.sha256, "missing": missing}
    problems, samples = Ref("problems", split=job.sampling_pass.split), Ref("samples", job.iteration, job.split)
    job.commit_rows(ref, rows, inputs=(job.run.input(problems), job.run.input(samples, job.part)), **facts)


def _wait(job: Job, failures: Sequence[Failure], missing: int) -> NoReturn:
    """Leave the failures where `leti-ctl notes` finds them, and stop."""
    prompts = {failure.problem.problem_id: failure.problem.prompt for failure in failures}
    judged = ((failure.sample, failure.execution) for failure in failures)
    rows = b"".join(write_rows(requests(judged, prompts, job.iteration)))
    job.run.store.put_if_absent(job.run.key(waiting_key(job.iteration, job.split, job.part)), rows)
    raise UsageError(
        f"feedback.missing: {missing} of {len(failures)} failures of iteration {job.iteration} have no note in "
        f"{job.spec.feedback.notes}; `leti-ctl notes {job.run.name} --iteration {job.iteration} --missing` lists them: "
        "write their texts, add the lines to that file and resume"
    )


def _key(failure: Failure) -> tuple[str, str, int]:
    sample = failure.sample
    return sample.problem_id, solution_digest(sample.solution), sample.sample
