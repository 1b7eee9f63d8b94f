"""Samples with their verdicts and notes, where each row stands, and what a training row has to say of them."""

from __future__ import annotations

import shlex
from typing import NamedTuple
from urllib.parse import parse_qs

from leti_ctl.inventory.ledger import Ledger
from leti_ctl.trace.lineage import Tree, maker
from leti_ctl.trace.rows import Found, Pair, Place, find_pairs, find_problem
from stages.contract.artifacts import Ref
from stages.contract.cuts import cut
from stages.contract.prompts import escape
from stages.contract.records import Execution, Note, Sample
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import address

AWS_OPTIONS = ("endpoint_url", "profile", "region")
"""Of a store's address: those that the AWS command line has as well."""


class Judged(NamedTuple):
    """Samples, verdicts and notes of some pairs, and what their problems ask."""

    ledger: Ledger
    samples: dict[Pair, Found[Sample]]
    executions: dict[Pair, Found[Execution]]
    notes: dict[Pair, Found[Note]]
    prompts: dict[str, str]

    def told(self, pair: Pair) -> Tree:
        """Return all that is known of a pair, flat, with the place of each row."""
        run = self.ledger.run
        facts: Tree = {"problem_id": pair[0], "sample": pair[1], "prompt": self.prompts.get(pair[0])}
        if sample := self.samples.get(pair):
            row = sample.row
            facts |= {
                "seed": row.seed,
                "reward_token_before_prompt": row.reward_token,
                "finish_reason": row.finish_reason,
                "solution": row.solution,
                "solution_from": run.spec.generate.solutions if sample.place.ref.split == "train" else "sampled",
                "sample_place": place(run, sample.place),
                "sampled_by": self._maker(sample.place),
            }
        verdict = self.executions.get(pair)
        names = ("outcome", "error_type", "isolation", "program_sha256", "feedback", "answer")
        facts |= {name: getattr(verdict.row, name) if verdict else None for name in names}
        if verdict:
            facts |= {"execution_place": place(run, verdict.place), "executed_by": self._maker(verdict.place)}
        if note := self.notes.get(pair):
            facts |= {"note": note.row.text, "note_place": place(run, note.place)}
        return facts

    def _maker(self, where: Place) -> Tree:
        record = self.ledger.part(where.ref, where.part)
        return maker([record]) if record else {}


def place(run: Run, where: Place) -> Tree:
    """Return where a row stands, verified, and the command by which anybody can verify it without leti."""
    item = where.item
    return {
        "artifact": str(where.ref),
        "part": str(where.part),
        "key": run.key(item.key),
        "sha256": item.sha256,
        "size": item.size,
        "row": where.row,
        "verified": True,
        "check": check_command(run, item.key),
    }


def check_command(run: Run, key: str) -> str:
    """Return a shell command that prints an object's SHA-256; `key` is relative to the run."""
    path = run.store.local_path(run.key(key))
    if path is not None:
        return f"sha256sum {shlex.quote(str(path))}"
    base, options = address.split(run.store.uri)
    source = f"{base.rstrip('/')}/{run.key(key)}"
    given = parse_qs(options.removeprefix("?"))
    said = [f"--{name.replace('_', '-')}={given[name][-1]}" for name in AWS_OPTIONS if name in given]
    return f"{shlex.join(['aws', 's3', 'cp', *said, source, '-'])} | sha256sum"


def find_judged(ledger: Ledger, iteration: int, split: str, pairs: set[Pair]) -> Judged:
    """Return what the run has of these pairs in a sampling pass."""
    spec = ledger.run.spec
    samples = find_pairs(ledger, Ref("samples", iteration, split), Sample, pairs)
    executions = find_pairs(ledger, Ref("executions", iteration, split), Execution, pairs)
    noted = Ref("notes", iteration, split)
    notes = find_pairs(ledger, noted, Note, pairs) if spec.takes_notes(split) else {}
    problems = spec.get_pass(split).split
    prompts = {name: one.row.prompt for name, _ in pairs if (one := find_problem(ledger, problems, name))}
    return Judged(ledger, samples, executions, notes, prompts)


def agreement(spec: RunSpec, text: str, judged: Judged, pair: Pair, *, is_cut: bool) -> dict[str, bool]:
    """Hold a training example's text against the rows it was made from: what a forged row would have to get right.

    Returns what is claimed and whether it is so. `is_cut` says that the example is as long as one may be, and so may
    lack the beginning of its feedback or its own end. White space is not compared: some tokenizers lose it at the
    seams of a text. `leti-ctl audit --deep` builds the row again and compares bytes.
    """
    sample, verdict = judged.samples.get(pair), judged.executions.get(pair)
    if sample is None or verdict is None:
        return {"it has a sample and a verdict": False}
    holds: dict[str, bool] = {}
    tokens = spec.model.tokens
    if spec.build.form == "conditioned":
        reward = tokens.good if verdict.row.outcome == "passed" else tokens.bad
        holds["the reward token is the verdict's"] = text.startswith(reward)
        text = text.removeprefix(reward)
    if text.startswith(tokens.feedback_open) and tokens.feedback_close in text:
        block, _, text = text.removeprefix(tokens.feedback_open).partition(tokens.feedback_close)
        if not spec.task.hint:
            told, read = _plain(escape(verdict.row.feedback)), _plain(block)
            holds["the feedback is the verdict's"] = told.endswith(read) if is_cut else told == read
    elif text.startswith(tokens.feedback_open) and is_cut:
        # Cut from the right, it ends within its feedback.
        told, read = _plain(escape(verdict.row.feedback)), _plain(text.removeprefix(tokens.feedback_open))
        return {**holds, "the feedback is the verdict's, as far as it goes": told.startswith(read)}
    prompt = judged.prompts.get(pair[0], "")
    kept = cut(spec.task.rule(), sample.row.solution)
    name = "the solution is the sample's" + (", cut as task.postprocess says" if kept != sample.row.solution else "")
    wanted, found = _plain(escape(prompt + kept)), _plain(text)
    start = found.find(wanted[: len(found)])
    # Before it the tokenizer's own first token may stand, behind it an end-of-sequence token.
    rest = found[start + len(wanted) :]
    holds["the prompt is the problem's"] = _plain(escape(prompt))[: len(found)] in found
    holds[name] = start >= 0 and (is_cut or len(found) >= len(wanted)) and (not rest or rest.startswith("<"))
    return holds


def _plain(text: str) -> str:
    return "".join(text.split())
