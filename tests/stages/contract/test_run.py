"""The commit protocol: parts, the index, who wins, what a kill leaves; runs and their specs."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stages.contract.artifacts import Part, Ref
from stages.contract.errors import ArtifactError, UsageError
from stages.contract.packages import code_version
from stages.contract.records import Problem
from stages.contract.run import Run
from stages.contract.spec import RunSpec, diff
from stages.contract.store import Entry, LocalStore, open_store
from tests.conftest import ROOT
from tests.s3 import S3Server
from tests.stages.contract.parts import (
    CHECKPOINT,
    MADE,
    PROBLEMS,
    commit_folder,
    commit_numbers,
    commit_rows,
    index_bytes,
    new_run,
    problem,
)

# Committing and reading


def test_what_parts_commit_is_read_back_in_order(anywhere: Run, tmp_path: Path) -> None:
    for number in (2, 0, 1):
        commit_numbers(anywhere, Part(number, 3), tmp_path)
    assert list(anywhere.read(PROBLEMS, Problem)) == [problem(number) for number in range(7)]
    assert list(anywhere.read(PROBLEMS, Problem, Part(1, 3))) == [problem(2), problem(3)]
    assert [row.problem_id for path in anywhere.paths(PROBLEMS, tmp_path / "x") for row in rows_of(path)] == [
        f"p/{number}" for number in range(7)
    ]


def test_an_artifact_is_there_when_its_last_part_is(anywhere: Run, tmp_path: Path) -> None:
    assert anywhere.find_index(PROBLEMS) is None
    commit_numbers(anywhere, Part(0, 2), tmp_path)
    assert anywhere.find_index(PROBLEMS) is None
    with pytest.raises(ArtifactError, match=r"problems/train is incomplete: parts 1 of 2 are missing; run its stage"):
        anywhere.get_index(PROBLEMS)
    with pytest.raises(ArtifactError, match=r"part 1/2 of problems/train is missing; run its stage first"):
        anywhere.input(PROBLEMS, Part(1, 2))
    commit_numbers(anywhere, Part(1, 2), tmp_path)
    index = anywhere.get_index(PROBLEMS)
    assert (index.parts, index.rows, index.facts) == (2, 7, {"0": {"kept": 3}, "1": {"kept": 4}})
    assert index.spec_sha256 == anywhere.spec.digest()


def test_an_artifact_nobody_began_says_so(anywhere: Run) -> None:
    with pytest.raises(ArtifactError, match="checkpoint is incomplete: no part is committed; run its stage first"):
        anywhere.get_index(CHECKPOINT)


def test_a_part_record_names_what_it_came_from(anywhere: Run, tmp_path: Path) -> None:
    committed = commit_numbers(anywhere, Part(), tmp_path)
    found = anywhere.find_part(PROBLEMS, Part())
    assert found == committed
    assert (found.seed, found.made, found.code) == (7, MADE, code_version())
    assert found.objects[0].key.startswith(f"problems/train/00000-of-00001-{found.objects[0].sha256}")
    assert anywhere.input(PROBLEMS).ref == "problems/train"
    assert anywhere.input(PROBLEMS, Part()).ref == "problems/train#0/1"


def test_a_part_without_rows_is_a_part(anywhere: Run, tmp_path: Path) -> None:
    commit_rows(anywhere, Part(), [], tmp_path)
    assert list(anywhere.read(PROBLEMS, Problem)) == []
    assert anywhere.get_index(PROBLEMS).rows == 0


def test_a_row_longer_than_a_chunk_survives(anywhere: Run, tmp_path: Path) -> None:
    long = problem(1).model_copy(update={"prompt": "x" * 2_500_000})
    commit_rows(anywhere, Part(), [problem(0), long, problem(2)], tmp_path)
    assert list(anywhere.read(PROBLEMS, Problem)) == [problem(0), long, problem(2)]


def test_a_folder_is_fetched_as_it_was(anywhere: Run, model: Path, tmp_path: Path) -> None:
    commit_folder(anywhere, model)
    fetched = anywhere.fetch(CHECKPOINT, tmp_path / "scratch")
    assert tree(fetched) == tree(model)
    assert anywhere.fetch(CHECKPOINT, tmp_path / "scratch") == fetched


def test_a_fetch_of_some_files_touches_no_other(s3_uri: str, model: Path, tmp_path: Path) -> None:
    run = new_run(s3_uri)
    weights = next(item for item in commit_folder(run, model).objects if item.key.endswith("safetensors"))
    fetched = run.fetch(CHECKPOINT, tmp_path / "scratch", only={"config.json", "not there.json"})
    assert tree(fetched) == {"config.json": (model / "config.json").read_bytes()}
    run.store.delete(run.key(weights.key))
    assert run.fetch(CHECKPOINT, tmp_path / "elsewhere", only={"config.json"}).name == fetched.name
    with pytest.raises(ArtifactError, match=r"named in an index but not in the store"):
        run.fetch(CHECKPOINT, tmp_path / "scratch")


def test_a_fetch_that_was_cut_short_is_finished(s3_uri: str, model: Path, tmp_path: Path) -> None:
    run = new_run(s3_uri)
    commit_folder(run, model)
    fetched = run.fetch(CHECKPOINT, tmp_path / "scratch")
    (fetched / "config.json").unlink()
    (fetched / "model.safetensors").write_bytes(b"half")
    (fetched / ".staged-model.safetensors").write_bytes(b"half")
    assert run.fetch(CHECKPOINT, tmp_path / "scratch") == fetched
    assert (fetched / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert (fetched / "config.json").read_text() == "{}"


def test_several_may_fetch_into_one_place(s3_uri: str, model: Path, tmp_path: Path) -> None:
    run = new_run(s3_uri)
    commit_folder(run, model)
    together = threading.Barrier(4)

    def fetch(_: int) -> Path:
        together.wait()
        return run.fetch(CHECKPOINT, tmp_path / "scratch")

    with ThreadPoolExecutor(4) as pool:
        (fetched,) = set(pool.map(fetch, range(4)))
    assert tree(fetched) == tree(model)


def test_an_empty_folder_is_no_artifact(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(ArtifactError, match=r"iterations/0000/checkpoint .*holds no file"):
        commit_folder(run, tmp_path / "model")


# Who wins


def test_the_first_of_two_writers_stands_and_both_learn_it(anywhere: Run, tmp_path: Path) -> None:
    first = commit_rows(anywhere, Part(), [problem(1)], tmp_path / "a")
    second = commit_rows(anywhere, Part(), [problem(2)], tmp_path / "b")
    assert second == first
    assert list(anywhere.read(PROBLEMS, Problem)) == [problem(1)]


def test_of_many_concurrent_writers_of_one_part_one_stands(anywhere: Run, tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def write(number: int) -> str:
        together.wait()
        return commit_rows(anywhere, Part(), [problem(number)], tmp_path / str(number)).digest()

    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(write, range(8)))
    assert len(digests) == 1
    assert anywhere.get_index(PROBLEMS).digest() == digests.pop()


def test_concurrent_writers_of_all_parts_seal_one_index(anywhere: Run, tmp_path: Path) -> None:
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda number: commit_numbers(anywhere, Part(number, 5), tmp_path), range(5)))
    assert [row.problem_id for row in anywhere.read(PROBLEMS, Problem)] == [f"p/{number}" for number in range(7)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_index_does_not_tell_who_came_when(order: tuple[int, ...], tmp_path: Path) -> None:
    expected = new_run(str(tmp_path / "expected"))
    for number in range(3):
        commit_numbers(expected, Part(number, 3), tmp_path)
    run = new_run(str(tmp_path / "run"))
    for at, number in enumerate(order):
        made = MADE.model_copy(update={"host": f"host-{at}", "seconds": float(at)})
        commit_numbers(run, Part(number, 3), tmp_path, made=made)
    assert index_bytes(run) == index_bytes(expected)


def test_who_reads_seals_for_those_who_died_before_it(run: Run, tmp_path: Path) -> None:
    for number in range(2):
        commit_numbers(run, Part(number, 2), tmp_path)
    sealed = index_bytes(run)
    run.store.delete(run.key("problems/train/index.json"))
    assert run.find_index(PROBLEMS) is not None
    assert index_bytes(run) == sealed


def test_parts_of_different_divisions_are_not_mixed(run: Run, tmp_path: Path) -> None:
    commit_numbers(run, Part(1, 4), tmp_path)
    with pytest.raises(
        ArtifactError, match=r"problems/train is divided into 2 and into 4 parts, the spec says 1; delete all but"
    ):
        commit_numbers(run, Part(0, 2), tmp_path)
    with pytest.raises(ArtifactError, match="is divided into 2 and into 4 parts"):
        run.get_index(PROBLEMS)


class Lagging(LocalStore):
    """A folder whose listings leave out what they are told to."""

    hidden: str = "nothing"

    def scan(self, prefix: str) -> Iterator[Entry]:
        return (entry for entry in super().scan(prefix) if self.hidden not in entry.key)


def test_parts_of_two_divisions_are_not_sealed_where_the_listing_hides_one(tmp_path: Path) -> None:
    run = Run(Lagging(tmp_path / "store"), "r1")
    run.create(RunSpec())
    commit_numbers(run, Part(1, 3), tmp_path)
    run.store.hidden = "-of-00002"  # type: ignore[attr-defined]
    with pytest.raises(ArtifactError, match=r"divided into 2 and into 3 parts"):
        commit_numbers(run, Part(0, 2), tmp_path)
    assert not (tmp_path / "store/runs/r1/problems/train/index.json").exists()


def test_all_parts_are_found_where_the_listing_shows_none(tmp_path: Path) -> None:
    run = Run(Lagging(tmp_path / "store"), "r1")
    run.create(RunSpec.model_validate_json('{"generate": {"parts": 3}}'))
    run.store.hidden = "/parts/"  # type: ignore[attr-defined]
    samples = Ref("samples", 0, "train")
    for number in range(3):
        commit_rows(run, Part(number, 3), [], tmp_path, ref=samples)
    assert run.find_index(samples) is None
    assert run.get_index(samples).parts == 3


def test_a_strangers_number_does_not_stand_for_a_missing_part(run: Run, tmp_path: Path) -> None:
    for number in (0, 1):
        commit_numbers(run, Part(number, 3), tmp_path)
    for name in ("00007-of-00003.json", "x/00002-of-00003.json", "00002-of-00003.json.bak"):
        run.store.put_if_absent(run.key(f"problems/train/parts/{name}"), b"{}")
    assert run.find_index(PROBLEMS) is None
    commit_numbers(run, Part(2, 3), tmp_path)
    assert run.get_index(PROBLEMS).rows == 7


class ReadOnly(LocalStore):
    """A folder that this process may not write to, as a bucket's policy has it."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        raise UsageError("AccessDenied")


def test_who_may_only_read_needs_no_index_to_have_been_written(run: Run, tmp_path: Path) -> None:
    commit_numbers(run, Part(), tmp_path)
    sealed = run.get_index(PROBLEMS)
    run.store.delete(run.key(PROBLEMS.index_key))
    reader = Run(ReadOnly(Path(run.store.uri)), run.name)
    assert reader.get_index(PROBLEMS) == sealed
    assert len(list(reader.read(PROBLEMS, Problem))) == 7
    with pytest.raises(KeyError):
        index_bytes(run)


def test_an_index_of_parts_that_were_made_again_otherwise_is_told(run: Run, tmp_path: Path) -> None:
    commit_rows(run, Part(), [problem(1)], tmp_path / "a")
    run.store.delete(run.key(PROBLEMS.part_key(Part())))
    with pytest.raises(ArtifactError, match=r"index.json is not of the parts that are there: .*; delete the index"):
        commit_rows(run, Part(), [problem(2)], tmp_path / "b")
    run.store.delete(run.key(PROBLEMS.index_key))
    assert list(run.read(PROBLEMS, Problem)) == [problem(2)]


# Kills


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_kill_at_any_moment_is_healed_by_running_again(kind: str, tmp_path: Path, s3_server: S3Server) -> None:
    template = f"{tmp_path}/store-{{}}"
    if kind == "s3":
        template = f"s3://{s3_server.make_bucket()}/store-{{}}?endpoint_url={s3_server.url}"
    line = [sys.executable, "-m", "tests.stages.contract.victim", str(tmp_path), template]
    count = int(subprocess.run(line, cwd=ROOT, check=True, timeout=120, capture_output=True).stdout)
    runs = [Run(open_store(template.format(number)), "r1") for number in range(count)]
    whole = contents(runs[-1])
    assert count > 10
    assert sum(run.store.size(run.key("problems/train/index.json")) is None for run in runs) > 5
    for run in runs:
        assert contents(run).items() <= whole.items()
        commit_numbers(run, Part(1, 2), tmp_path)
        assert contents(run) == whole


# Runs and their specs


def test_a_run_is_made_once(anywhere: Run) -> None:
    assert not anywhere.create(RunSpec())
    assert not anywhere.create(RunSpec(seed=1))
    assert anywhere.spec == RunSpec()


def test_a_store_that_overwrites_is_no_place_for_a_run(s3_server: S3Server, s3_uri: str) -> None:
    run = Run(open_store(s3_uri), "r1")
    s3_server.conditional = False
    with pytest.raises(UsageError, match=r"the first writer does not win .*If-None-Match"):
        run.create(RunSpec())


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run 'r9' in .*; `leti-ctl runs` lists those that are there"):
        _ = Run.open(f"{tmp_path}/runs/r9").spec


@pytest.mark.parametrize(
    ("uri", "store", "name"),
    [
        ("/data/leti/runs/x", "/data/leti", "x"),
        ("/data/leti/runs/x/", "/data/leti", "x"),
        ("/data/runs/a/runs/x", "/data/runs/a", "x"),
        ("/runs/x", "/", "x"),
        ("/odd?name/runs/x", "/odd?name", "x"),
        ("file:///data/runs/x", "/data", "x"),
        ("s3://b/runs/x", "s3://b", "x"),
        ("s3://b/p/q/runs/x", "s3://b/p/q", "x"),
        ("s3://b/p/runs/x?endpoint_url=http://127.0.0.1:9", "s3://b/p?endpoint_url=http://127.0.0.1:9", "x"),
    ],
)
def test_a_run_is_opened_by_uri_and_tells_it(uri: str, store: str, name: str) -> None:
    run = Run.open(uri)
    assert (run.store.uri, run.name) == (store, name)
    again = Run.open(run.uri)
    assert (again.store.uri, again.name, again.uri) == (store, name, run.uri)


def test_a_relative_store_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Run.open("store/runs/x").uri == f"{tmp_path}/store/runs/x"


@pytest.mark.parametrize(
    "uri",
    ["", "x", "/data/x", "/data/runs/", "/data/runs", "/data/runs/a/b", "/data/runs/..", "/data/runs/.", "runs/x"],
)
def test_a_uri_that_names_no_run_is_refused_with_the_form(uri: str) -> None:
    with pytest.raises(UsageError, match="write STORE/runs/NAME") as caught:
        Run.open(uri)
    assert repr(uri) in str(caught.value)


def test_a_diff_names_every_leaf_that_differs() -> None:
    old, new = {"a": {"b": 1, "c": [1]}, "d": None}, {"a": {"b": 2, "c": [1]}, "e": "x"}
    assert list(diff(old, new)) == ["a.b: 1 -> 2", "e: None -> 'x'"]


def test_the_code_version_names_the_sources() -> None:
    version, _, digest = code_version().partition("+")
    assert version
    assert len(digest) == 16


# Helpers


def contents(run: Run) -> dict[str, bytes]:
    """Every object, less the digest of the code: a developer may be editing it meanwhile."""
    return {key: re.sub(rb'"code": "[^"]+"', b"", run.store.get(key)) for key in run.store.list("")}


def rows_of(path: Path) -> list[Problem]:
    return [Problem.model_validate_json(line) for line in path.read_bytes().splitlines()]


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
