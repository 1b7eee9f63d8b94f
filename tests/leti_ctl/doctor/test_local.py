"""The checks of this machine and of the store, and what happens to a check that hangs or breaks."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from leti_ctl.commands.doctor import doctor as command
from leti_ctl.doctor import machine, registry, sandbox, storage
from leti_ctl.doctor.report import Check, Finding, Subject, examine, ok
from stages.contract.errors import StoreError
from stages.contract.spec import RunSpec
from stages.contract.store import open_store
from stages.contract.store.s3 import S3Store
from tests.s3 import S3Server


def ask(check: Check, subject: Subject) -> list[Finding]:
    return [finding for _, finding in examine([check], subject)]


def test_a_check_that_breaks_or_hangs_is_a_failed_line_and_the_others_are_asked() -> None:
    released = threading.Event()

    def broken(_: Subject) -> Iterator[Finding]:
        yield ok("so far so good")
        raise ZeroDivisionError("by design")

    def unreachable(_: Subject) -> Iterator[Finding]:
        raise StoreError("store s3://b: no route")
        yield

    def hanging(_: Subject) -> Iterator[Finding]:
        released.wait(60)
        yield ok("too late")

    def sound(_: Subject) -> Iterator[Finding]:
        yield ok("sound")

    asked = [("broken", broken), ("unreachable", unreachable), ("hanging", hanging), ("sound", sound)]
    found = dict(examine([Check(name, each, 0.3) for name, each in asked], Subject("unused")))
    released.set()
    assert {name: finding.level for name, finding in found.items()} == {
        "broken": "fail", "unreachable": "fail", "hanging": "fail", "sound": "ok",
    }  # fmt: skip
    assert "ZeroDivisionError" in found["broken"].found and "0.3 s" in found["hanging"].found


def test_a_folder_store_is_probed_and_left_as_it_was(tmp_path: Path) -> None:
    found = ask(storage.CHECKS[0], Subject(str(tmp_path / "store")))
    assert [finding.level for finding in found] == ["ok"] and list(tmp_path.iterdir()) == []


def test_a_store_that_holds_runs_keeps_them(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put_if_absent("runs/a/spec.json", b"{}")
    assert ask(storage.CHECKS[0], Subject(str(tmp_path)))[0].level == "ok"
    assert list(store.list("")) == ["runs/a/spec.json"] and not (tmp_path / "doctor").exists()


def test_a_bucket_that_holds_conditions_passes_and_is_left_empty(s3_uri: str) -> None:
    assert [finding.level for finding in ask(storage.CHECKS[0], Subject(s3_uri))] == ["ok"]
    assert list(open_store(s3_uri).list("")) == []


class Forgetful(S3Store):
    """A client that asks for no condition is what a server that ignores conditions looks like."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.client.put_object(Bucket=self.bucket, Key=self._full(key), Body=data)
        return True


def test_a_server_that_ignores_conditions_is_found_out(s3_uri: str) -> None:
    found = storage.probe(Forgetful(s3_uri), "doctor/probe")
    assert found.level == "fail" and "replaced the first" in found.found and "If-None-Match" in found.remedy


def test_a_missing_bucket_fails_with_its_name(s3_server: S3Server) -> None:
    found = ask(storage.CHECKS[0], Subject(f"s3://nobody-made-this/leti?endpoint_url={s3_server.url}"))
    assert found[0].level == "fail" and "nobody-made-this" in found[0].found


def test_room_is_held_against_what_the_run_takes(tmp_path: Path) -> None:
    small, huge = RunSpec(iterations=1), RunSpec(iterations=9_999)
    for spec, parameters, level in ((small, 10**6, {"ok", "warn"}), (huge, 10**11, {"fail"})):
        found = list(machine.room(Subject(str(tmp_path), spec, parameters)))
        assert len(found) == 2 and {finding.level for finding in found} <= level


def test_memory_is_held_against_what_training_takes() -> None:
    assert list(machine.processors(Subject("unused", RunSpec(), 1000)))[-1].level == "ok"
    found = list(machine.processors(Subject("unused", RunSpec(), 10**13)))[-1]
    assert found.level == "warn" and "smaller model" in found.remedy
    assert 0 < machine.available_memory() < 1 << 50


def test_a_control_groups_processors_are_counted(tmp_path: Path) -> None:
    for name, text in (("half", "50000 100000"), ("free", "max 100000"), ("broken", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpu.max").write_text(text)
    folders = [tmp_path / name for name in ("half", "free", "broken", "absent")]
    assert machine.allowed_cores(folders) == 0.5 and machine.allowed_cores(folders[1:]) == float("inf")


def test_without_runsc_gvisor_runs_fail_and_others_are_warned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine_tools = os.environ["PATH"]
    if shutil.which("runsc"):
        monkeypatch.setenv("PATH", str(tmp_path))
        for tool in ("ldd", "sh"):
            (tmp_path / tool).symlink_to(str(shutil.which(tool, path=machine_tools)))
    found = next(sandbox.gvisor(Subject("unused")))
    assert found.level == "fail" and "install runsc" in found.remedy
    weak = RunSpec.model_validate({"execute": {"sandbox": "process"}})
    assert next(sandbox.gvisor(Subject("unused", weak))).level == "warn"


def test_a_runsc_that_does_not_run_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "runsc").write_text("#!/bin/sh\necho 'cannot do that here' >&2\nexit 1\n")
    (tmp_path / "runsc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = next(sandbox.gvisor(Subject("unused")))
    assert found.level == "fail" and "cannot do that here" in found.found and "systrap" in found.remedy


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("runsc") is None, reason="runsc is not installed")
def test_the_gvisor_sandbox_judges_here() -> None:
    found = next(sandbox.gvisor(Subject("unused")))
    assert found.level == "ok" and "systrap" in found.found and "runsc" in found.found, found


def test_the_process_sandbox_judges_here_or_says_why_not() -> None:
    found = list(sandbox.process(Subject("unused")))
    assert len(found) == 1 and (found[0].level == "ok") == ("inner wall" in found[0].found)


def test_a_model_is_looked_for_where_prepare_finds_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("LETI_MODEL_WHEEL", raising=False)

    def level(source: str) -> str:
        spec = RunSpec.model_validate({"model": {"source": source}})
        return next(machine.model(Subject("unused", spec))).level

    assert (level("smollm2-135m-instruct"), level("someone/model"), level(str(tmp_path))) == ("warn", "warn", "ok")
    for folder in ("leti/smollm2-135m-instruct-abc", "huggingface/hub/models--someone--model/snapshots/1"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text("{}")
    assert (level("smollm2-135m-instruct"), level("someone/model")) == ("ok", "ok")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("LETI_MODEL_WHEEL", str(tmp_path / "absent.whl"))
    assert level("smollm2-135m-instruct") == "fail"


def test_what_comes_from_the_hub_is_told() -> None:
    assert next(machine.data(Subject("unused", RunSpec()))).level == "ok"
    fetching = RunSpec.model_validate({"task": {"name": "mbpp"}, "pretraining": {"source": "bigcode/the-stack"}})
    found = next(machine.data(Subject("unused", fetching)))
    assert found.level == "warn" and "task mbpp, pretraining.source bigcode/the-stack" in found.found


def test_the_subject_knows_the_run_that_is_planned() -> None:
    known = registry.subject("store", preset="quickstart", file=None)
    assert known.spec is not None and known.parameters == 134_515_008
    assert registry.subject("store", preset=None, file=None).spec is None


@pytest.mark.slow
def test_the_command_examines_this_machine(tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["--store", str(tmp_path / "store"), "--preset", "quickstart"])
    lines = done.stdout.splitlines()
    names = {check.name for check in registry.LOCAL}
    assert all(any(name in line for line in lines) for name in names), done.stdout
    assert done.exit_code == any(line.startswith("fail") for line in lines), done.stdout
    assert "torch 2" in done.stdout and "first writer wins" in done.stdout
