"""What a forger can change in a finished run, and who finds it: a plain audit, `--deep`, or only the run's digest.

Every forgery here is consistent: records, indexes and the inputs of whoever read the rows are made to fit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leti_ctl.audit.report import Depth, audit
from leti_ctl.inventory.finding import CHECKS
from stages.contract.artifacts import DataObject, Index, Input, Made, PartRecord, Ref
from stages.contract.run import Run
from stages.contract.store import LocalStore
from tests.leti_ctl.audit.forger import Forger, Rows, first, refs

Forgery = Callable[[Forger], None]
SAMPLES, EXECUTIONS = Ref("samples", 0, "train"), Ref("executions", 0, "train")
EXAMPLES, STEPS, METRICS = Ref("examples", 0), Ref("steps", 0), Ref("metrics", 0, "train")
PROBLEMS, CHECKPOINT, LAST = Ref("problems", split="train"), Ref("checkpoint", 1), Ref("checkpoint", 2)


def found(folder: Path, depth: Depth | None = None, **more: Any) -> dict[str, str]:
    """The errors of an audit: check and line."""
    report = audit(Run(LocalStore(folder.parents[1]), folder.name), depth or Depth(), **more)
    assert {each.check for each in report.findings} <= set(CHECKS)
    return {each.check: each.line for each in report.findings if each.level == "error"}


def digest_of(folder: Path) -> str:
    return audit(Run(LocalStore(folder.parents[1]), folder.name)).digest


def swap_rows(rows: Rows) -> Rows:
    return [rows[1], rows[0], *rows[2:]]


def flip(row: Any) -> dict[str, Any]:
    """A verdict turned round."""
    return {"outcome": "passed", "error_type": None, "feedback": ""}


def failed(row: Any) -> bool:
    return bool(row.outcome == "failed")


def flip_a_verdict(forger: Forger) -> None:
    facts = forger.record(EXECUTIONS).facts
    counts = {"num_passed": int(facts["num_passed"]) + 1, "num_failed": int(facts["num_failed"]) - 1}
    forger.rows(EXECUTIONS, first(flip, failed), **counts)


def edit_tokens(change: Callable[[dict[str, Any]], None]) -> Forgery:
    def forge(forger: Forger) -> None:
        def edit(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
            change(rows[0])
            return rows

        forger.parquet(EXAMPLES, edit)

    return forge


def other_reward(row: dict[str, Any]) -> None:
    row["input_ids"][0] = row["input_ids"][row["lengths"][0] - 1]


def other_mask(row: dict[str, Any]) -> None:
    row["loss_mask"][3] = 0


def relabelled(row: dict[str, Any]) -> None:
    row["samples"][0] += 100


def edit_metrics(**changes: Any) -> Forgery:
    return lambda forger: forger.rows(METRICS, first(lambda row: changes))


def edit_steps(**changes: Any) -> Forgery:
    return lambda forger: forger.rows(STEPS, first(lambda row: changes))


def weaker_tests(forger: Forger) -> None:
    forger.rows(PROBLEMS, first(lambda row: {"tests": ("assert True",)}))


def other_solution(forger: Forger) -> None:
    forger.rows(SAMPLES, first(lambda row: {"solution": row.solution + "\n"}))


def copied_part(forger: Forger) -> None:
    """Part 0 in place of part 1, which it says it is."""
    record = forger.record(SAMPLES, 0)
    forger.write(SAMPLES, 1, record.model_copy(update={"part": 1}))


def other_iteration(forger: Forger) -> None:
    record = forger.record(Ref("samples", 1, "train"))
    forger.write(SAMPLES, 0, record.model_copy(update={"iteration": 0, "seed": forger.record(SAMPLES).seed}))


def other_weights(forger: Forger) -> None:
    """The last checkpoint, which nothing was made from."""
    record = forger.record(LAST)
    items = []
    for item in record.objects:
        path = forger.folder / item.key
        if path.suffix == ".safetensors":
            path.write_bytes(b"other weights")
        data = path.read_bytes()
        items.append(item.model_copy(update={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}))
    forger.write(LAST, 0, record.model_copy(update={"objects": tuple(items)}))


def no_metrics(forger: Forger) -> None:
    forger.write(METRICS, 0, forger.record(METRICS).model_copy(update={"objects": (), "rows": 0}))


PLAIN: list[tuple[Forgery, str]] = [
    (flip_a_verdict, "scores"),
    (lambda forger: forger.rows(EXECUTIONS, swap_rows), "pairs"),
    (lambda forger: forger.rows(SAMPLES, swap_rows), "pairs"),
    (lambda forger: forger.rows(EXECUTIONS, first(lambda row: {"program_sha256": "0" * 64})), "programs"),
    (lambda forger: forger.rows(EXECUTIONS, first(lambda row: {"feedback": "short"}, failed)), "scores"),
    (lambda forger: forger.rows(SAMPLES, first(lambda row: {"seed": 1})), "seed"),
    (lambda forger: forger.rows(SAMPLES, first(lambda row: {"reward_token": "bad"})), "pairs"),
    (lambda forger: forger.rows(SAMPLES, first(lambda row: {"token_ids": (*row.token_ids, 5)})), "scores"),
    (other_solution, "programs"),
    (weaker_tests, "programs"),
    (lambda forger: forger.rows(PROBLEMS, lambda rows: rows[1:]), "pairs"),
    (edit_tokens(other_reward), "tokens"),
    (edit_tokens(other_mask), "tokens"),
    (edit_tokens(relabelled), "examples"),
    (edit_metrics(mean_solution_tokens=1.0), "scores"),
    (edit_metrics(temperature=0.5), "scores"),
    (edit_metrics(split="test"), "scores"),
    (edit_metrics(eos_rate=0.125), "scores"),
    (edit_steps(learning_rate=1.0), "steps"),
    (edit_steps(num_targets=1), "steps"),
    (edit_steps(step=7), "steps"),
    (lambda forger: forger.rows(STEPS, lambda rows: rows[:-1]), "steps"),
    (copied_part, "names"),
    (other_iteration, "names"),
    (other_weights, "names"),
    (no_metrics, "existence"),
]


@pytest.mark.parametrize(("forge", "check"), PLAIN, ids=[str(number) for number in range(len(PLAIN))])
def test_a_consistent_forgery_is_found_by_what_rows_tell_of_each_other(
    forge: Forgery, check: str, run_folder: Path
) -> None:
    forge(Forger(run_folder))
    assert check in found(run_folder)


def other_text(row: dict[str, Any]) -> None:
    """A word of a solution in the training data, of no special meaning."""
    place = row["lengths"][0] - 3
    row["input_ids"][place] = row["input_ids"][place - 1]


def same_length(row: Any) -> dict[str, Any]:
    return {"feedback": row.feedback.swapcase()}


def wider_interval(forger: Forger) -> None:
    change = lambda row: {"solve_rate": row.solve_rate.model_copy(update={"low": 0.0})}  # noqa: E731
    forger.rows(METRICS, first(change))


@pytest.mark.soak
@pytest.mark.slow
def test_a_forgery_that_rows_do_not_tell_is_found_when_stages_run_again(run_folder: Path) -> None:
    forger = Forger(run_folder)
    edit_tokens(other_text)(forger)
    wider_interval(forger)
    forger.rows(Ref("executions", 1, "train"), first(same_length, failed))
    assert found(run_folder) == {}
    report = audit(Run(LocalStore(run_folder.parents[1]), run_folder.name), Depth(rederive=True))
    keys = [each.key for each in report.findings if each.check == "rederived"]
    assert [key.partition("/parts")[0] for key in keys] == [str(EXAMPLES), str(METRICS), "iterations/0001/examples"]


BEYOND: list[Forgery] = [
    edit_steps(loss=0.5),
    lambda forger: forger.rows(PROBLEMS, first(lambda row: {"reference": "return 1"})),
    lambda forger: forger.rows(EXECUTIONS, first(lambda row: {"isolation": "gvisor-split"})),
]


@pytest.mark.parametrize("forge", BEYOND)
def test_what_nothing_in_the_store_tells_is_found_by_a_digest_noted_elsewhere(forge: Forgery, run_folder: Path) -> None:
    digest = digest_of(run_folder)
    assert found(run_folder, expected=digest) == {}
    forge(Forger(run_folder))
    assert found(run_folder) == {}
    line = found(run_folder, expected=digest)["digest"]
    assert digest in line and digest_of(run_folder) in line and "\n" not in line


def test_the_digest_is_the_runs_own_wherever_it_lies(run_folder: Path, tmp_path: Path) -> None:
    digest = digest_of(run_folder)
    copy = tmp_path / "elsewhere/runs/renamed"
    shutil.copytree(run_folder, copy)
    next(copy.rglob("index.json")).unlink()  # resume writes it again
    (copy / "logs").mkdir(exist_ok=True)
    (copy / "logs/late.log").write_text("said later")
    assert digest_of(copy) == digest
    said = []
    for path in [*run_folder.rglob("parts/*.json"), *run_folder.glob("environments/*"), run_folder / "spec.json"]:
        said.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(run_folder).as_posix()}\n")
    lines = "".join(sorted(said, key=lambda line: line.partition(" ")[2]))
    assert hashlib.sha256(lines.encode()).hexdigest() == digest


UNTOLD = {
    "made.started_at": "when it was made is in no other object",
    "made.seconds": "how long it took, too",
    "made.host": "and where",
    "made.counters": "and what was measured meanwhile",
    "made.environment": "and by which Python, on which device; a package lock that is named must be there",
    "code": "stages of another version may go on with a run; that there are two is a warning",
}
"""Fields of a part record that a forger can change, and only the run's digest tells."""
OTHERS: dict[str, Any] = {
    "checksum": "0" * 64, "format": 2, "artifact": "samples", "iteration": 1, "split": "test", "part": 1, "parts": 3,
    "rows": 999, "objects": (), "inputs": (), "spec_sha256": "0" * 64, "code": "0.0.0+0123456789abcdef", "seed": 1,
    "facts": {"num_passed": 999}, "made.started_at": "2001-01-01T00:00:00+00:00", "made.seconds": 1e9,
    "made.host": "elsewhere", "made.counters": {"executions": 9.0}, "made.environment": {"python": "2.7"},
    "objects.key": "iterations/0000/samples/train/other.jsonl", "objects.sha256": "0" * 64, "objects.size": 1,
    "objects.rows": 1, "inputs.ref": "problems/test", "inputs.sha256": "0" * 64,
}  # fmt: skip


def fields(kind: type[PartRecord] | type[Index]) -> list[str]:
    """Every field there is, nested ones dotted."""
    nested = {"objects": DataObject, "inputs": Input, "made": Made}
    names = [name for name in kind.model_fields if name != "made"]
    inner = [f"{name}.{each}" for name, of in nested.items() if name in kind.model_fields for each in of.model_fields]
    return names + inner


@pytest.mark.parametrize("kind", [PartRecord, Index])
def test_every_field_of_a_record_is_held_against_something(
    kind: type[PartRecord] | type[Index], run_folder: Path
) -> None:
    forger = Forger(run_folder)
    path = forger.record_path(EXECUTIONS) if kind is PartRecord else run_folder / EXECUTIONS.prefix / "index.json"
    intact, digest, untold = path.read_text(), digest_of(run_folder), []
    for name in fields(kind):
        document = json.loads(intact)
        change(document, name)
        path.write_text(json.dumps(document) if name == "format" else sealed(kind, document, name))
        if not found(run_folder):
            untold.append(name)
            assert found(run_folder, expected=digest).keys() == {"digest"}
        path.write_text(intact)
    assert untold == [name for name in fields(kind) if name in UNTOLD]


def change(document: dict[str, Any], name: str) -> None:
    """Put another value into a field, of a list into its first entry."""
    outer, _, inner = name.partition(".")
    if not inner:
        document[name] = OTHERS[name] if name != "facts" or "made" in document else {"0": OTHERS[name]}
    elif outer == "made":
        document["made"][inner] = OTHERS[name]
    else:
        document[outer][0][inner] = OTHERS[name]


def sealed(kind: type[PartRecord] | type[Index], document: dict[str, Any], name: str) -> str:
    record = kind.model_validate_json(json.dumps(document))
    return (record if name == "checksum" else record.sealed()).model_dump_json(indent=2)


PLACES = (0.0, 0.21, 0.5, 0.77, 1.0)


@pytest.mark.parametrize("place", PLACES)
def test_a_flipped_bit_in_every_object_at_once_is_found_in_each(place: float, run_folder: Path) -> None:
    files = [path for path in run_folder.rglob("*") if path.is_file() and path.parent != run_folder]
    records = [path for path in files if path.suffix == ".json" and path.parent.name == "parts"]
    indexes = [path for path in files if path.name == "index.json" and (path.parent / "parts").is_dir()]
    rest = [path for path in files if path not in records and path not in indexes]
    for group in (records, indexes, rest):
        assert len(group) > 20
        intact = {path: path.read_bytes() for path in group}
        for path, data in intact.items():
            at = round(place * (len(data) - 1))
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << len(data) % 8]) + data[at + 1 :])
        report = audit(Run(LocalStore(run_folder.parents[1]), run_folder.name))
        named = {each.key for each in report.findings if each.check in ("record", "checksum") and each.level == "error"}
        assert named >= {path.relative_to(run_folder).as_posix() for path in group}
        for path, data in intact.items():
            path.write_bytes(data)


def test_every_object_has_a_known_place(run_folder: Path) -> None:
    """What was not made by the forger's own means is there: no artifact escapes the tests above."""
    assert {ref.artifact for ref in refs(run_folder)} == {
        "problems", "checkpoint", "samples", "executions", "examples", "steps", "optimizer", "metrics",
    }  # fmt: skip
