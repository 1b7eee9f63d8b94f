"""What an auditor's terminal gets: nothing that acts on it, nothing cut off, no traceback where it can show little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from leti_ctl.cli import cli
from leti_ctl.compare.text import render as compared
from leti_ctl.trace.text import render as traced
from tests.leti_ctl.audit.made import make_run, make_spec


def leti_ctl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "leti_ctl", *arguments]
    return subprocess.run(line, capture_output=True, check=False, env={**os.environ, **environment})


def test_what_a_model_wrote_cannot_act_on_a_terminal() -> None:
    """ESC ] 0 ; sets a terminal's title; a right-to-left override shows text in another order than it has."""
    attack = "\x1b]0;owned\x07 \u202e x\r"
    pair = {"problem_id": "p", "outcome": None, "prompt": attack, "solution": attack, "feedback": attack}
    found = {"what": "sample", "uri": "u", "spec_sha256": "s", "findings": [], **pair}
    output = "\n".join(traced(found))
    assert output.count(r"\x1b]0;owned\x07 \u202e x") == 3
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set(output)
    side = {"uri": "u", "iteration": None}
    column = {"column": "solution", "diff": [f"-{attack}"]}
    differing = {"row": 0, "of": {}, "only": None, "columns": [column]}
    environment = {"same": True, "versions": [], **{name: [[], []] for name in ("code", "images", "python")}}
    shown = compared({
        "sides": [side, side], "spec": [], "environment": environment, "artifacts": [], "parted": None,
        "rows": {"artifact": "a", "differing": [differing]}, "verdicts": [], "findings": [], "same": False,
    })  # fmt: skip
    assert not {"\x1b", "\x07", "\u202e", "\r"} & set("".join(shown))


def test_a_listing_keeps_every_name_whole_on_a_narrow_terminal(store: Path) -> None:
    arguments = ["artifacts", "ls", "made", "--store", str(store)]
    output = CliRunner().invoke(cli, arguments, env={"COLUMNS": "40"}, catch_exceptions=False).output
    assert "iterations/0001/executions/train" in output and "\x1b" not in output


def test_a_terminal_that_has_few_characters_gets_escapes_and_no_traceback(tmp_path: Path) -> None:
    spec = make_spec(tmp_path).model_copy(update={"iterations": 0})
    script = Path(str(spec.generate.script))
    script.write_text(script.read_text().replace("return undefined", "return '\u03b1\u2260\U0001f600'"))
    run = make_run(tmp_path, spec=spec)
    arguments = ("artifacts", "show", "made", "iterations/0000/samples/test", "--limit", "50", "--store", run.store.uri)
    done = leti_ctl(*arguments, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0 and b"Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_traceback(store: Path) -> None:
    line = [sys.executable, "-m", "leti_ctl", "trace", "made", "--row", "0", "--store", str(store)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
