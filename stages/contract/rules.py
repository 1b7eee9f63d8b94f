"""Rules between the fields of a run spec. Each broken one is a line: field, value, remedy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from stages.contract.artifacts import MOST_PARTS
from stages.contract.benchmarks import benchmark_of

if TYPE_CHECKING:
    from stages.contract.spec import RunSpec

PROMPT_MULTIPLE = 128
"""With `length_mode: total` prompts are padded to a multiple of so many tokens, as the official code does."""

Rule = tuple[bool, str]


def first_conflict(spec: RunSpec) -> str | None:
    """Return what is wrong with the first combination of fields that cannot be, or None."""
    rules = itertools.chain(
        _texts(spec),
        _parts(spec),
        _ancestry(spec),
        _splits(spec),
        _references(spec),
        _scoring(spec),
        _sampling(spec),
        _lengths(spec),
        _training(spec),
        _feedback(spec),
    )
    return next((message for broken, message in rules if broken), None)


def _texts(spec: RunSpec) -> Iterator[Rule]:
    """Texts become paths, keys and messages: none of those can hold a null character, or half of a surrogate pair."""
    for path, text in _leaves(spec.model_dump(mode="python"), ""):
        broken = "\0" in text or (not text.isascii() and text != text.encode(errors="ignore").decode())
        yield broken, f"{path}: {text!r} holds a null character or a lone surrogate; take it out"


def _parts(spec: RunSpec) -> Iterator[Rule]:
    for name, parts in (
        ("generate", spec.generate.parts),
        ("evaluate", spec.evaluate.parts),
        ("build", spec.build.parts),
    ):
        yield parts > MOST_PARTS, f"{name}.parts: {parts}, and an artifact has at most {MOST_PARTS}; set fewer"


def _leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _leaves(inner, path)


def _ancestry(spec: RunSpec) -> Iterator[Rule]:
    model = spec.model
    yield (
        model.from_run is None and model.from_iteration is not None,
        f"model.from_iteration: {model.from_iteration} of which run? name it in model.from_run, or set it to null",
    )
    yield (
        model.from_run is not None and (model.from_run in ("", ".", "..") or "/" in model.from_run),
        f"model.from_run: {model.from_run!r} is no run's name; `leti-ctl runs` lists them",
    )


def _splits(spec: RunSpec) -> Iterator[Rule]:
    name = spec.task.name
    there = benchmark_of(name).splits
    yield (
        spec.trains() and "train" not in there,
        f"iterations: {spec.iterations}, but task {name} has no training split; set 0 to evaluate a model on it",
    )
    missing = next((split for split in spec.evaluate.splits if split not in there), None)
    yield (
        missing is not None,
        f"evaluate.splits: task {name} has no {missing} split, only {', '.join(there)}; leave it out",
    )


def _references(spec: RunSpec) -> Iterator[Rule]:
    generate, build, task = spec.generate, spec.build, spec.task
    given = generate.solutions == "reference"
    yield (
        given and generate.samples_per_problem != 1,
        f"generate.samples_per_problem: {generate.samples_per_problem} of generate.solutions 'reference', of which "
        "each problem has one; set 1",
    )
    yield (
        given and generate.reward_token != "none",
        f"generate.reward_token: {generate.reward_token!r}, but nobody is asked for generate.solutions 'reference'; "
        "set none",
    )
    yield (
        task.hint and (task.postprocess == "none" or not build.textual_feedback or build.form == "supervised"),
        f"task.hint: tells in the feedback what was cut, but task.postprocess is {task.postprocess!r}, "
        f"build.textual_feedback {build.textual_feedback} and build.form {build.form!r}; set it to false or mend those",
    )
    yield (
        task.execute_original and not task.hint,
        "task.execute_original: true leaves nothing to task.postprocess but hints, and task.hint is false; set hint to "
        "true, or postprocess to none",
    )


def _scoring(spec: RunSpec) -> Iterator[Rule]:
    evaluate = spec.evaluate
    yield evaluate.k == (), "evaluate.k: empty; name at least one k, such as [1]"
    yield evaluate.splits == (), "evaluate.splits: empty; name validation, test or both"
    most = max(evaluate.k, default=0)
    yield (
        most > evaluate.samples_per_problem,
        f"evaluate.k: pass@{most} needs at least that many samples, but evaluate.samples_per_problem is "
        f"{evaluate.samples_per_problem}; raise it or drop that k",
    )
    splits = ", ".join(evaluate.splits)
    yield (
        evaluate.select_on not in evaluate.splits,
        f"evaluate.select_on: {evaluate.select_on!r} is not evaluated; add it to evaluate.splits (now {splits})",
    )
    yield (
        len(set(evaluate.splits)) < len(evaluate.splits),
        f"evaluate.splits: a split is named twice ({splits}); name each once",
    )


def _sampling(spec: RunSpec) -> Iterator[Rule]:
    evaluate, generate = spec.evaluate, spec.generate
    yield (
        evaluate.temperatures == (),
        "evaluate.temperatures: empty; name at least one temperature or set it to null",
    )
    temperatures = evaluate.temperatures or ()
    yield (
        len({f"{temperature:g}" for temperature in temperatures}) < len(temperatures),
        f"evaluate.temperatures: each temperature once, to six digits, got {', '.join(map(str, temperatures))}; "
        "drop the second",
    )
    yield (
        (generate.engine == "scripted") != (generate.script is not None),
        f"generate.script: the scripted engine needs a file and no other engine takes one, got engine "
        f"{generate.engine!r} and script {generate.script!r}; set both or neither",
    )
    for name, sampling in (("generate", generate), ("evaluate", evaluate)):
        yield (
            sampling.length_mode == "total" and sampling.max_new_tokens <= PROMPT_MULTIPLE,
            f"{name}.max_new_tokens: {sampling.max_new_tokens} with length_mode total, where the prompt alone takes a "
            f"multiple of {PROMPT_MULTIPLE} tokens; set more than {PROMPT_MULTIPLE} or use length_mode new_tokens",
        )


def _lengths(spec: RunSpec) -> Iterator[Rule]:
    build, train = spec.build, spec.train
    yield (
        build.pack_length < build.max_length,
        f"build.pack_length: {build.pack_length} cannot hold a sequence of build.max_length {build.max_length}; "
        "raise it or lower max_length",
    )
    yield (
        train.micro_batch_tokens < build.pack_length,
        f"train.micro_batch_tokens: {train.micro_batch_tokens} cannot hold a row of build.pack_length "
        f"{build.pack_length}; raise it or lower pack_length",
    )
    block_length = spec.pretraining.block_length
    yield (
        spec.uses_pretraining() and train.micro_batch_tokens < block_length,
        f"train.micro_batch_tokens: {train.micro_batch_tokens} cannot hold a block of pretraining.block_length "
        f"{block_length}; raise it or shorten the blocks",
    )


def _training(spec: RunSpec) -> Iterator[Rule]:
    build, train, task = spec.build, spec.train, spec.task
    yield (
        train.engine == "torch" and train.zero_stage > 0,
        f"train.zero_stage: {train.zero_stage} is DeepSpeed's, and train.engine is 'torch'; set zero_stage to 0 or the "
        "engine to deepspeed",
    )
    yield (
        train.parameters == "bfloat16" and train.zero_stage > 0,
        f"train.parameters: bfloat16 rounding is done on unsharded masters; set train.zero_stage to 0 (now "
        f"{train.zero_stage}) or train.parameters to float32",
    )
    yield (
        build.solution_ids == "generated" and task.rule() != "none",
        f"build.solution_ids: solutions cut by task.postprocess {task.postprocess!r} no longer match the sampled ids; "
        "set build.solution_ids to retokenized",
    )


def _feedback(spec: RunSpec) -> Iterator[Rule]:
    feedback = spec.feedback
    yield (
        (feedback.source == "notes") != (feedback.notes is not None),
        f"feedback.notes: the source notes needs a file and no other source takes one, got source {feedback.source!r} "
        f"and notes {feedback.notes!r}; set both or neither",
    )
    yield (
        feedback.source == "traceback" and not feedback.keep_traceback,
        "feedback.keep_traceback: false leaves nothing where feedback.source is 'traceback'; name another source, or "
        "set build.textual_feedback to false",
    )
    yield (
        feedback.source == "traceback" and feedback.successes,
        "feedback.successes: true, and feedback.source 'traceback' has nothing to say of them; name another source",
    )
    yield (
        feedback.source != "notes" and feedback.missing == "stop",
        f"feedback.missing: 'stop' waits for notes, and feedback.source is {feedback.source!r}; set it to traceback or "
        "the source to notes",
    )
