"""Every number leaves as JSON and as CSV, by the command."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from leti_ctl.cli import cli
from leti_ctl.report.collect import TABLES
from leti_ctl.report.export import write_data, write_figures
from leti_ctl.report.figures import figures

pytestmark = pytest.mark.slow


def test_csv_holds_the_rows_of_the_json(data: dict[str, Any], tmp_path: Path) -> None:
    written = {path.stem: path for path in write_data(data, tmp_path / "tables")}
    assert written.keys() == {"runs", *TABLES}
    for name, columns in TABLES.items():
        with open(written[name], newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert tuple(rows[0]) == columns
        assert rows[1:] == [
            ["" if row[column] is None else str(row[column]) for column in columns] for row in data["tables"][name]
        ]


def test_an_empty_table_has_its_header(data: dict[str, Any], tmp_path: Path) -> None:
    write_data({**data, "tables": {name: [] for name in TABLES}}, tmp_path)
    assert (tmp_path / "losses.csv").read_text().strip() == ",".join(TABLES["losses"])


FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1"]


def test_no_spreadsheet_takes_a_text_for_a_formula(data: dict[str, Any], tmp_path: Path) -> None:
    row = data["tables"]["feedback"][0]
    rows = [{**row, "kind": text, "share": -0.5} for text in FORMULAS]
    runs = [{**data["runs"][0], "model": "=1+1"}]
    write_data({**data, "runs": runs, "tables": {**data["tables"], "feedback": rows}}, tmp_path)
    with open(tmp_path / "feedback.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [each["kind"] for each in read] == [f"'{text}" for text in FORMULAS]
    assert {each["share"] for each in read} == {"-0.5"}
    with open(tmp_path / "runs.csv", newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["model"] == "'=1+1"


def test_a_loss_that_is_no_number_leaves_the_json_json(data: dict[str, Any], tmp_path: Path) -> None:
    losses = [{**row, "loss": math.nan} for row in data["tables"]["losses"]]
    whole = {**data, "tables": {**data["tables"], "losses": losses}}
    (path,) = write_data(whole, tmp_path / "all.json")

    def refuse(name: str) -> None:
        raise ValueError(name)

    read = json.loads(path.read_text(), parse_constant=refuse)
    assert {row["loss"] for row in read["tables"]["losses"]} == {None}
    drawn = figures(whole)
    assert write_figures({"loss": drawn["loss"]} if "loss" in drawn else drawn, tmp_path / "figures")


def test_the_command_writes_numbers_and_figures_without_a_page(store: Path, tmp_path: Path) -> None:
    asked = ["report", "textual", "--store", str(store), "--data", str(tmp_path / "all.json"), "--no-audit"]
    done = CliRunner().invoke(cli, [*asked, "--figures", str(tmp_path / "figures"), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told.keys() == {"data", "figures"}
    assert all(Path(path).stat().st_size for path in told["figures"])
    assert [run["run"] for run in json.loads(Path(told["data"][0]).read_text())["runs"]] == ["textual"]


def test_the_command_writes_a_page(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "deep" / "report.html"
    done = CliRunner().invoke(cli, ["report", "textual", "--store", str(store), "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert done.output == f"page: {page}\n"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
