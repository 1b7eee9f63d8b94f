"""The published JSON Schemas are those of the classes, and accept what a run stores."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from stages.contract.artifacts import Part
from stages.contract.run import Run
from stages.contract.schemas import FOLDER, documents, schema
from stages.contract.spec import RunSpec
from tests.stages.contract.parts import commit_numbers


@pytest.mark.parametrize("name", documents())
def test_a_published_schema_is_the_classes(name: str) -> None:
    published = json.loads((FOLDER / f"{name}.json").read_text())
    assert published == schema(name), "run: python -m stages.contract.schemas"
    jsonschema.Draft202012Validator.check_schema(published)


def test_no_schema_is_published_for_nothing() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(documents())


def test_what_a_run_stores_is_valid_and_a_stranger_is_not(run: Run, tmp_path: Path) -> None:
    commit_numbers(run, Part(), tmp_path)
    stored = {
        "spec": "spec.json",
        "part": "problems/train/parts/00000-of-00001.json",
        "index": "problems/train/index.json",
    }
    for name, key in stored.items():
        document = json.loads(run.store.get(run.key(key)))
        jsonschema.validate(document, schema(name))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, "stranger": 1}, schema(name))
    assert json.loads(run.store.get(run.key("spec.json"))) == json.loads(RunSpec().to_json())
