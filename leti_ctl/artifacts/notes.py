"""Which failures of an iteration somebody could write a note on, and which of them have one."""

from __future__ import annotations

from collections.abc import Iterator

from leti_ctl import control
from stages.contract.artifacts import Part, Ref
from stages.contract.errors import UsageError
from stages.contract.notes import Notes, Request, read_notes, requests, waiting_key
from stages.contract.records import Execution, Problem, Sample, read_rows
from stages.contract.run import Run


def find_requests(run: Run, iteration: int, *, notes: str | None, missing: bool) -> list[Request]:
    """Return the distinct failures of an iteration's training pass, each with the text of its note where it has one.

    `notes` is the file to look them up in, by default the run's own. `missing` leaves out those that have a note.
    """
    address = notes or control.current_spec(run).feedback.notes
    known = read_notes(address) if address else Notes("", {}, {})
    found = [each.model_copy(update={"text": _text(known, each)}) for each in _requests(run, iteration)]
    return [each for each in found if not (missing and each.text)]


def _requests(run: Run, iteration: int) -> Iterator[Request]:
    """Yield what the executions tell; before they are committed, what the parts wait for."""
    executions, samples = (Ref(name, iteration, "train") for name in ("executions", "samples"))
    if run.find_index(executions) is None:
        yield from _waiting(run, iteration)
        return
    prompts = {each.problem_id: each.prompt for each in run.read(Ref("problems", split="train"), Problem)}
    judged = zip(run.read(samples, Sample), run.read(executions, Execution), strict=True)
    yield from requests(judged, prompts, iteration, successes=run.spec.feedback.successes)


def _waiting(run: Run, iteration: int) -> Iterator[Request]:
    prefix = run.key(waiting_key(iteration, "train", Part())).rpartition("/")[0] + "/"
    keys = list(run.store.list(prefix))
    if not keys:
        raise UsageError(
            f"--iteration {iteration}: run {run.name} has no complete executions of it and no part that waits for "
            "notes; `leti-ctl status` says how far it is"
        )
    for key in keys:
        yield from read_rows(run.store.get(key).splitlines(), Request, source=key)


def _text(known: Notes, request: Request) -> str:
    named = (known.by_sample.get((request.problem_id, request.iteration, sample)) for sample in request.samples)
    found = next((text for text in named if text), "")
    return found or known.by_solution.get((request.problem_id, request.solution_sha256), "")
