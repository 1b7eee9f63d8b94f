"""What training read and logged: every verdict as an example once an epoch, special tokens in their places only."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from leti_ctl.audit.objects import Reader
from leti_ctl.audit.passes import Pair, Verdict
from leti_ctl.inventory.spelling import tokenizer_file
from stages.contract.artifacts import Part, Ref
from stages.contract.records import Block, PackedRow, Record, StepLog
from stages.contract.spec import RunSpec


class Ids(NamedTuple):
    """Token ids of a checkpoint's special tokens."""

    good: int
    bad: int
    open: int
    close: int
    special: frozenset[int]
    """All special ids, the four included."""

    @property
    def four(self) -> frozenset[int]:
        """LETI's own."""
        return frozenset(self[:4])


def check(reader: Reader, spec: RunSpec, iteration: int, verdicts: Mapping[Pair, Verdict]) -> None:
    """Check an iteration's examples against the verdicts they were made from, and its training log."""
    ref = Ref("examples", iteration)
    has_examples = spec.uses_samples() and reader.catalog.is_complete(ref)
    targets = _examples(reader, spec, ref, verdicts) if has_examples else None
    _steps(reader, spec, Ref("steps", iteration), targets)


def _steps(reader: Reader, spec: RunSpec, steps: Ref, targets: list[int] | None) -> None:
    """Hold the log against the spec and, where there are examples, their targets, step by step."""
    waiting, total, expected = iter(targets or ()), 0, -1
    for expected, row in enumerate(reader.read(steps, StepLog)):
        wanted = next(waiting, 0) if targets is not None and row.stream == "fcft" else row.num_targets
        rate = spec.train.learning_rate
        for name, value, found in (
            ("step", expected, row.step), ("num_targets", wanted, row.num_targets),
            ("learning_rate", rate, row.learning_rate),
        ):  # fmt: skip
            if found != value:
                reader.note("steps", f"{steps.prefix} step {expected}", f"{name} {value}", str(found))
        if not math.isfinite(row.loss):
            reader.note("steps", f"{steps.prefix} step {row.step}", "a finite loss", str(row.loss))
        total += row.num_targets
    for count in reader.catalog.facts(steps, "targets").values():
        if count != total:
            reader.note("facts", steps.prefix, f"{total} targets", str(count))
    missing = list(waiting) if spec.train.objective != "sum" else []
    if missing and reader.catalog.is_complete(steps):
        reader.note("steps", steps.prefix, f"{len(targets or ())} steps with examples", f"{len(missing)} fewer")


def _examples(reader: Reader, spec: RunSpec, ref: Ref, verdicts: Mapping[Pair, Verdict]) -> list[int]:
    """Check the training rows and return each step's number of targets."""
    ids = _special_ids(reader, spec, Ref("checkpoint", ref.iteration))
    judged = {pair for pair, verdict in verdicts.items() if verdict.outcome != "infra_error"}
    seen: defaultdict[int, Counter[Pair]] = defaultdict(Counter)
    per_step: Counter[int] = Counter()
    targets: Counter[int] = Counter()
    for row in _rows(reader, ref):
        place = f"{ref.prefix} epoch {row.epoch} step {row.step}"
        try:
            pairs = list(zip(row.problem_ids, row.samples, strict=False))
            fault = _shape(row) or (ids and _tokens(row, ids, verdicts, spec))
            targets[row.step] += sum(row.loss_mask)
        except TypeError as error:  # Parquet lets a forger leave values out
            reader.note("schema", place, "a PackedRow", str(error))
            continue
        seen[row.epoch].update(pairs)
        per_step[row.step] += len(pairs)
        if fault:
            reader.note("tokens", place, *fault)
    size = min(spec.train.batch_size, len(judged))
    for step, count in sorted(per_step.items()):
        if count != size:
            reader.note("examples", f"{ref.prefix} step {step}", f"{size} examples", str(count))
    _once_an_epoch(reader, ref, judged, seen, spec.train.epochs)
    return [targets[step] for step in sorted(targets)]


def _once_an_epoch(reader: Reader, ref: Ref, judged: set[Pair], seen: Mapping[int, Counter[Pair]], epochs: int) -> None:
    """Each epoch holds each judged sample once; what is left over at the end of the last is less than a step."""
    for epoch in range(epochs):
        found = seen.get(epoch, Counter())
        key = f"{ref.prefix} epoch {epoch}"
        doubled = [pair for pair, count in found.items() if count > 1]
        strange = sorted(set(found) - judged)
        missing = sorted(judged - set(found)) if epoch < epochs - 1 else []
        for what, pairs in (("doubled", doubled), ("without a verdict", strange), ("missing", missing)):
            if pairs:
                name, number = pairs[0]
                reader.note(
                    "examples",
                    key,
                    f"{len(judged)} examples, each once",
                    f"{len(pairs)} {what}: {name} sample {number}",
                )


def check_blocks(reader: Reader, spec: RunSpec) -> None:
    """Check the pre-training stream: blocks in order, each of as many tokens as the spec says."""
    import pyarrow.compute as pc

    ref, number, wanted = Ref("pretraining"), 0, spec.pretraining.block_length
    for batch in _batches(reader, ref, Block):
        lengths = pc.list_value_length(batch.column("input_ids")).to_pylist()
        for block, length in zip(batch.column("block").to_pylist(), lengths, strict=True):
            if (block, length) != (number, wanted):
                told = f"block {number} of {wanted} tokens"
                reader.note("rows", f"{ref.prefix} row {number}", told, f"block {block} of {length}")
            number += 1


def _rows(reader: Reader, ref: Ref) -> Iterator[PackedRow]:
    for batch in _batches(reader, ref, PackedRow):
        yield from map(_packed, batch.to_pylist())


def _batches(reader: Reader, ref: Ref, kind: type[Record]) -> Iterator[Any]:
    """Yield the record batches of a Parquet artifact; a file that cannot be read is a finding."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(kind.model_fields)
    for item in reader.catalog.objects(ref):
        count = 0
        with reader.spooled(item) as file:
            try:
                parquet = pq.ParquetFile(file)
                if parquet.schema_arrow.names != columns:
                    reader.note("schema", item.key, ", ".join(columns), ", ".join(parquet.schema_arrow.names))
                    continue
                for batch in parquet.iter_batches(batch_size=64):
                    count += len(batch)
                    yield batch
            except (pa.ArrowException, OSError) as error:
                reader.note("schema", item.key, "a Parquet file", str(error).splitlines()[0])
                continue
        reader.count(item, count)


def _packed(row: Mapping[str, Any]) -> PackedRow:
    # Without validation: a row has thousands of ids, and Parquet has typed them.
    values: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in row.items()}
    return PackedRow.model_construct(None, **values)


def _shape(row: PackedRow) -> tuple[str, str] | None:
    counts = {"loss_mask": len(row.loss_mask), "lengths, summed,": sum(row.lengths)}
    for name, count in counts.items():
        if count != len(row.input_ids):
            return f"{name} of {len(row.input_ids)} tokens", str(count)
    if not len(row.lengths) == len(row.problem_ids) == len(row.samples):
        return f"{len(row.lengths)} problem ids and samples", f"{len(row.problem_ids)} and {len(row.samples)}"
    return None


def _tokens(row: PackedRow, ids: Ids, verdicts: Mapping[Pair, Verdict], spec: RunSpec) -> tuple[str, str] | None:
    start = 0
    for length, name, number in zip(row.lengths, row.problem_ids, row.samples, strict=True):
        example, mask = (each[start : start + length] for each in (row.input_ids, row.loss_mask))
        start += length
        verdict = verdicts.get((name, number))
        if verdict is None:
            continue
        fault = _sequence(example, ids, verdict, spec) or _mask(example, mask, ids, spec)
        if fault:
            return fault[0], f"{fault[1]} in {name} sample {number}"
    return None


def _sequence(example: tuple[int, ...], ids: Ids, verdict: Verdict, spec: RunSpec) -> tuple[str, str] | None:
    """Reward token, then for a failure with text its delimited block, then nothing special but a final end token."""
    if spec.build.form == "supervised":
        return _supervised(example, ids, spec)
    passed = verdict.outcome == "passed"
    if not example or example[0] != (ids.good if passed else ids.bad):
        return f"the {'good' if passed else 'bad'} token first", f"id {example[0] if example else None}"
    rest = example[1:]
    if rest[:1] == (ids.open,):
        bare = passed and not (spec.task.hint or spec.feedback.successes)
        if bare or not spec.build.textual_feedback:
            return "no feedback block", "one"
        if ids.close not in rest:
            whole = len(example) >= spec.build.max_length
            return None if whole and not ids.special & set(rest[1:]) else ("a closed feedback block", "an open one")
        end = rest.index(ids.close)
        block, rest = rest[1:end], rest[end + 1 :]
        if spec.task.hint and block and block[-1] not in ids.four:
            block = block[:-1]  # a hint ends with the end-of-sequence token
        if ids.special & set(block):
            return "feedback without special tokens", f"id {min(ids.special & set(block))}"
    elif not passed and spec.build.textual_feedback and verdict.feedback and spec.build.truncate == "right":
        return "a feedback block", "none"
    stray = ids.special & set(rest[:-1] if spec.build.append_eos != "never" else rest)
    return ("text without special tokens", f"id {min(stray)}") if stray else None


def _mask(example: tuple[int, ...], mask: tuple[int, ...], ids: Ids, spec: RunSpec) -> tuple[str, str] | None:
    """Targets begin where `build.loss_on` says, at the earliest behind the first token, and go on to the end."""
    first = next((place for place, is_target in enumerate(mask) if is_target), len(mask))
    if mask[first:] != (1,) * (len(mask) - first):
        return "a loss mask of zeros, then ones", "another"
    head = example.index(ids.close) + 1 if spec.build.loss_on != "all" and ids.close in example else 1
    is_right = first >= head if spec.build.loss_on == "solution" else first == min(head, len(mask))
    return None if is_right else (f"loss from token {head} on", f"from token {first}")


def _supervised(example: tuple[int, ...], ids: Ids, spec: RunSpec) -> tuple[str, str] | None:
    """The tokenizer's own first token, text, and the end token unless the row was cut."""
    for name, number in (("first", example[0]), ("last", example[-1])):
        if number not in ids.special - ids.four and not (name == "last" and len(example) >= spec.build.max_length):
            return f"a special token of the tokenizer's own {name}", f"id {number}"
    stray = ids.special & set(example[1:-1])
    return ("text without special tokens", f"id {min(stray)}") if stray else None


def _special_ids(reader: Reader, spec: RunSpec, ref: Ref) -> Ids | None:
    """Read the special tokens from the checkpoint's `tokenizer.json`."""
    record = reader.catalog.part(ref, Part())
    item = tokenizer_file(record.objects) if record else None
    if item is None:
        reader.note("tokens", ref.prefix, "a tokenizer.json", "none")
        return None
    with reader.spooled(item) as file:
        try:
            added = {token["content"]: token for token in json.load(file)["added_tokens"]}
            names = spec.model.tokens
            good, bad, opened, closed = (
                int(added[name]["id"]) for name in (names.good, names.bad, names.feedback_open, names.feedback_close)
            )
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reader.note("tokens", item.key, "the run's four special tokens", f"{type(error).__name__} {error}")
            return None
    special = frozenset(int(token["id"]) for token in added.values() if token.get("special"))
    return Ids(good, bad, opened, closed, special | {good, bad, opened, closed})
