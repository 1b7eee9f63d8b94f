"""An exported checkpoint: it loads, its card is one that the hub reads, its provenance is one that SLSA's rules allow.

python -m pytest tests/leti_ctl/artifacts/test_export.py -q
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from leti_ctl.artifacts.export import choose, export
from stages.contract.artifacts import Input, Ref
from stages.contract.errors import ArtifactError
from stages.contract.run import Run
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from tests.leti_ctl.audit.made import make_spec
from tests.models import make_model

DIGEST = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "propertyNames": {"enum": ["sha256"]},
}
RESOURCE = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "uri": {"type": "string", "format": "uri", "pattern": "^[a-z][a-z0-9+.-]*:.+"},
        "digest": DIGEST,
        "content": {"type": "string"},
        "downloadLocation": {"type": "string"},
        "mediaType": {"type": "string"},
        "annotations": {"type": "object"},
    },
    "anyOf": [{"required": ["uri"]}, {"required": ["digest"]}, {"required": ["content"]}],
    "additionalProperties": False,
}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}
URI = {"type": "string", "pattern": "^[a-z][a-z0-9+.-]*:.+"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["_type", "subject", "predicateType", "predicate"],
    "additionalProperties": False,
    "properties": {
        "_type": {"const": "https://in-toto.io/Statement/v1"},
        "subject": {"type": "array", "minItems": 1, "items": {**RESOURCE, "required": ["name", "digest"]}},
        "predicateType": {"const": "https://slsa.dev/provenance/v1"},
        "predicate": {
            "type": "object",
            "required": ["buildDefinition", "runDetails"],
            "additionalProperties": False,
            "properties": {
                "buildDefinition": {
                    "type": "object",
                    "required": ["buildType", "externalParameters"],
                    "additionalProperties": False,
                    "properties": {
                        "buildType": URI,
                        "externalParameters": {"type": "object", "minProperties": 1},
                        "internalParameters": {"type": "object"},
                        "resolvedDependencies": {"type": "array", "items": RESOURCE},
                    },
                },
                "runDetails": {
                    "type": "object",
                    "required": ["builder"],
                    "additionalProperties": False,
                    "properties": {
                        "builder": {
                            "type": "object",
                            "required": ["id"],
                            "additionalProperties": False,
                            "properties": {
                                "id": URI,
                                "version": {"type": "object", "additionalProperties": {"type": "string"}},
                                "builderDependencies": {"type": "array", "items": RESOURCE},
                            },
                        },
                        "metadata": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {
                                "invocationId": {"type": "string"},
                                "startedOn": TIME,
                                "finishedOn": TIME,
                            },
                        },
                        "byproducts": {"type": "array", "items": RESOURCE},
                    },
                },
            },
        },
    },
}
"""The field rules of in-toto's Statement v1 and ResourceDescriptor v1 and of SLSA's provenance v1."""


@pytest.fixture
def exported(finished: Path, tmp_path: Path) -> Path:
    """The last checkpoint of the run `made`, exported."""
    return export(Run(LocalStore(finished), "made"), 2, tmp_path / "out")


def test_provenance_keeps_the_rules_of_in_toto_and_slsa(exported: Path) -> None:
    import jsonschema

    found = json.loads((exported / "provenance.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(found)


def test_every_file_is_a_subject_with_the_digest_it_has(exported: Path) -> None:
    found = json.loads((exported / "provenance.json").read_text())
    told = {each["name"]: each["digest"]["sha256"] for each in found["subject"]}
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in exported.iterdir()}
    files.pop("provenance.json")
    assert told == files


def test_every_dependency_in_the_store_has_the_digest_that_is_told(finished: Path, tmp_path: Path) -> None:
    store = tmp_path / "a folder, or two?"
    shutil.copytree(finished, store)
    exported = export(Run(LocalStore(store), "made"), 2, tmp_path / "out")
    definition = json.loads((exported / "provenance.json").read_text())["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["iteration"] == 2
    assert definition["externalParameters"]["spec"]["iterations"] == 2
    inside = [each for each in definition["resolvedDependencies"] if "uri" in each]
    for each in inside:
        data = Path(unquote(urlsplit(each["uri"]).path)).read_bytes()
        assert hashlib.sha256(data).hexdigest() == each["digest"]["sha256"]
    names = " ".join(each["name"] for each in inside)
    assert all(part in names for part in ("spec.json", "iterations/0001/checkpoint", "iterations/0001/examples"))
    assert {each["name"] for each in definition["resolvedDependencies"]} > {"made by a test"}


def test_the_hub_reads_the_card_and_its_scores(exported: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard((exported / "README.md").read_text()).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"
    results = {each.metric_name: each.metric_value for each in data.eval_results or []}
    assert set(results) == {"pass@1", "pass@2"} and results["pass@2"] == 1.0


@pytest.mark.slow
def test_an_exported_model_is_loaded_and_generates(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = Run(LocalStore(tmp_path / "store"), "real")
    run.create(make_spec(tmp_path))
    source = (Input(ref="made by a test", sha256="0" * 64),)
    model = make_model(tmp_path / "model")
    Job(run, "prepare", scratch=tmp_path).commit_folder(Ref("checkpoint", 0), model, inputs=source)
    assert choose(run, "last") == 0
    out = export(run, 0, tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(out)
    loaded = AutoModelForCausalLM.from_pretrained(out)
    ids = tokenizer("<|good|>def f(x):", return_tensors="pt")
    assert loaded.generate(**ids, max_new_tokens=3, do_sample=False).shape[1] > ids["input_ids"].shape[1]


def test_a_checkpoint_whose_history_is_forged_is_not_exported(run_folder: Path, tmp_path: Path) -> None:
    record = run_folder / "iterations/0001/examples/parts/00000-of-00001.json"
    record.write_text(record.read_text().replace('"seed": ', '"seed": 1'))
    with pytest.raises(ArtifactError, match=r"iterations/0001/examples/parts/00000-of-00001\.json"):
        export(Run(LocalStore(run_folder.parents[1]), "made"), 2, tmp_path / "out")
    assert not (tmp_path / "out").exists()
