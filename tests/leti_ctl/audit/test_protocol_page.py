"""`docs/protocol.md` says what is: its keys are those of a run, its invariants those that are checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leti_ctl.inventory.catalog import Catalog, is_known
from leti_ctl.pipeline import plan
from stages.contract.artifacts import ARTIFACTS, Ref
from stages.contract.run import Run
from stages.contract.store import LocalStore
from tests.conftest import ROOT

PAGE = (ROOT / "docs/protocol.md").read_text()
SHA256 = "5" * 64
WORDS = {
    "SHA256": (r"[0-9a-f]{64}", SHA256),
    "NUMBER": (r"\d{4,}", "0003"),
    "ITERATION": (r"\d{4,}", "0003"),
    "STEPS": (r"\d{6,}", "000200"),
    "SPLIT": (r"[\w.-]+", "test-t0.2"),
    "SUFFIX": (r"\w+", "jsonl"),
    "PART": (r"\d{5}-of-\d{5}", "00002-of-00004"),
    "FILE": (r"[^/]+", "weights.safetensors"),
    "PATH": (r".+", "tokenizer/vocab.json"),
}
"""What the words of a key form stand for, and an example."""


def key_forms() -> list[str]:
    """Return the first column of the table of objects."""
    table = PAGE.partition("## Objects")[2].partition("## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", table, flags=re.MULTILINE)


def prefixes() -> list[str]:
    """Return what the page says that PREFIX is, ARTIFACT spelled out."""
    found = re.search(r"`PREFIX` is ((?:`[^`]+`[^`]*?)+);", PAGE.replace("\n", " "))
    assert found
    forms = re.findall(r"`([^`]+)`", found[1])
    iterated = [name for name, artifact in ARTIFACTS.items() if "iteration" in artifact.coordinates]
    return [form.replace("ARTIFACT", name) for form in forms for name in (iterated if "ARTIFACT" in form else [""])]


def spelled(form: str, *, example: bool) -> str:
    """Return a form as a regular expression, or an example of it."""
    text = form if example else re.escape(form).replace(r"\-", "-")
    for word, (pattern, one) in WORDS.items():
        text = re.sub(rf"\b{word}\b", (one if example else pattern).replace("\\", r"\\"), text)
    return text


def all_forms() -> list[str]:
    return [
        form.replace("PREFIX", prefix)
        for form in key_forms()
        for prefix in (prefixes() if form.startswith("PREFIX") else [""])
    ]


def test_every_key_of_a_run_is_of_a_form_on_the_page(store: Path) -> None:
    catalog = Catalog(Run(LocalStore(store), "made"))
    patterns = [re.compile(spelled(form, example=False)) for form in all_forms()]
    assert [key for key in catalog.sizes if not any(each.fullmatch(key) for each in patterns)] == []


@pytest.mark.parametrize("form", key_forms())
def test_the_audit_knows_every_form_on_the_page(form: str) -> None:
    for each in prefixes() if form.startswith("PREFIX") else [""]:
        coordinates = ARTIFACTS[each.split("/")[2 if each.startswith("iterations") else 0]].coordinates if each else ()
        if each and ("split" in coordinates) != each.endswith("SPLIT"):
            continue
        assert is_known(spelled(form.replace("PREFIX", each), example=True)), each


def test_the_prefixes_on_the_page_are_those_of_the_table(store: Path) -> None:
    patterns = [re.compile(spelled(prefix, example=False)) for prefix in prefixes()]
    run = Run(LocalStore(store), "made")
    for ref in {ref for unit in plan(run.spec).units for ref in unit.outputs(run.spec)} | {Ref("pretraining")}:
        assert any(each.fullmatch(ref.prefix) for each in patterns), ref


def test_every_invariant_on_the_page_is_checked_by_its_name_and_no_other() -> None:
    stated = re.findall(r"^\| \*\*(I\d+)\*\*", PAGE, flags=re.MULTILINE)
    sources = "".join(path.read_text() for path in sorted((ROOT / "tests/faults").glob("test_explore*.py")))
    checked = set(re.findall(r'f?"(I\d+): ', sources))
    assert sorted(checked, key=lambda name: int(name[1:])) == stated == [f"I{number + 1}" for number in range(10)]


def test_every_file_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`((?:stages|leti_ctl|tests)/[\w/.]+)`", PAGE):
        assert (ROOT / name).exists() or (ROOT / f"{name}.py").exists(), name
