"""The command line as a user meets it: goldens for help, one line per mistake, and both from a real process too."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from leti_ctl.cli import COMMANDS, cli
from tests.console import leti_ctl

GOLDEN = Path(__file__).parent.parent / "golden" / "help"


HELP = """
import contextlib, io, json
from leti_ctl.cli import COMMANDS, cli
found = {}
for command in ("", *COMMANDS):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        cli.main([*command.split(), "--help"], prog_name="python -m leti_ctl", standalone_mode=False)
    found[command] = out.getvalue()
print(json.dumps(found))
"""


def started(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    line = [sys.executable, *arguments]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, env=environment, timeout=120)


@pytest.fixture(scope="module")
def helped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every help text. A process of their own makes them: click keeps the options of commands that tests have used."""
    done = started("-c", HELP, cwd=tmp_path_factory.mktemp("empty"))
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_the_golden(command: str, helped: dict[str, str]) -> None:
    found = helped[command]
    golden = GOLDEN / f"{command or 'leti-ctl'}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found)
    assert found == golden.read_text()


def test_a_process_of_its_own_says_the_same(tmp_path: Path) -> None:
    shown = started("-m", "leti_ctl", "--help", cwd=tmp_path)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, (GOLDEN / "leti-ctl.txt").read_text(), "")
    line = ("status", "nope", "--json")
    mistaken, here = started("-m", "leti_ctl", *line, cwd=tmp_path), leti_ctl(*line, cwd=tmp_path)
    assert (mistaken.returncode, mistaken.stdout, mistaken.stderr) == (here.returncode, here.stdout, here.stderr)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_exists_with_few_options(name: str) -> None:
    command = getattr(import_module(f"leti_ctl.commands.{name}"), name)
    assert isinstance(command, click.Command) and command.name == name
    # One command chooses a suite's tables, shrinks its runs, says where they go, and prints.
    assert len(command.params) <= (14 if name == "suite" else 12)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("submit",), 2, ("--preset", "-f")),
        (("submit", "--preset", "quikstart"), 2, ("quikstart", "did you mean quickstart")),
        (("submit", "-f", "absent.yaml"), 2, ("absent.yaml", "No such file")),
        (("submit", "--preset", "quickstart", "--set", "train.lr=1"), 78, ("train.learning_rate",)),
        (("submit", "--preset", "quickstart", "--store", "ftp://x", "--name", "a"), 2, ("ftp", "s3://")),
        (("submit", "--preset", "quickstart", "--name", "a/b"), 2, ("a/b",)),
        (("submit", "--iterations", "-1"), 2, ("--iterations",)),
        (("status", "nope"), 2, ("nope", "leti-ctl runs")),
        (("resume", "nope"), 2, ("nope",)),
        (("frobnicate",), 2, ("frobnicate",)),
        (("judge", "--problems", "p", "--solutions", "s", "--out", "v"), 2, ("--solutions", "No such file")),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    arguments: tuple[str, ...], code: int, words: tuple[str, ...], tmp_path: Path
) -> None:
    found = leti_ctl(*arguments, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (code, ""), found.stderr
    assert len(found.stderr.splitlines()) == 1 and all(word in found.stderr for word in words), found.stderr


def test_under_json_a_failure_is_json_too(tmp_path: Path) -> None:
    found = leti_ctl("status", "nope", "--json", cwd=tmp_path)
    assert json.loads(found.stdout)["error"]["kind"] == "NoRun"
    assert found.returncode == 2


def test_dry_run_prints_spec_and_plan_and_writes_nothing(tmp_path: Path) -> None:
    found = leti_ctl("submit", "--preset", "quickstart", "--dry-run", "--json", cwd=tmp_path)
    data = json.loads(found.stdout)
    assert data["spec"]["task"]["name"] == "basics" and data["plan"][0]["unit"] == "prepare"
    assert list(tmp_path.iterdir()) == []


def test_reading_commands_answer_for_an_empty_store(tmp_path: Path) -> None:
    assert json.loads(leti_ctl("runs", "--json", cwd=tmp_path).stdout)["runs"] == []
    assert "no runs" in leti_ctl("runs", cwd=tmp_path).stdout
    assert "quickstart" in leti_ctl("presets", cwd=tmp_path).stdout
    assert "learning_rate" in leti_ctl("presets", "--fields", cwd=tmp_path).stdout


def test_a_half_written_run_is_listed_as_unreadable(tmp_path: Path) -> None:
    spec = tmp_path / "leti-store" / "runs" / "broken" / "spec.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"seed": 1')
    rows = json.loads(leti_ctl("runs", "--json", cwd=tmp_path).stdout)["runs"]
    assert rows[0]["phase"] == "Unreadable"
    found = leti_ctl("status", "broken", cwd=tmp_path)
    assert found.returncode == 65 and "spec.json" in found.stderr


def test_iterations_alone_run_the_quickstart_or_the_preset_of_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["submit", "--iterations", "12", "--dry-run", "--json"]
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    spec = json.loads(done.stdout)["spec"]
    assert (spec["iterations"], spec["task"]["name"]) == (12, "basics")
    assert "preset quickstart" in done.stderr
    file = tmp_path / "config.yaml"
    file.write_text("current: mine\ncontexts: {mine: {preset: leti-350m}}\n")
    monkeypatch.setenv("LETI_CONFIG", str(file))
    done = CliRunner().invoke(cli, line, standalone_mode=False)
    assert json.loads(done.stdout)["spec"]["task"]["name"] == "mbpp"
