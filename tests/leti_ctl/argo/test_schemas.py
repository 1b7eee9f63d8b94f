"""What we render under the strict schemas of the real CRDs, of the oldest and the newest Argo we support."""

import json
from functools import cache
from typing import Any

import pytest

from leti_ctl.backends.argo.rules.manifest import Manifest
from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.backends.argo.workflow import standalone, workflow
from leti_ctl.config.profiles import load_profile, profile_names
from leti_ctl.config.specs import load_spec
from tests.conftest import ROOT

SCHEMAS = ROOT.parent / "shared" / "schemas"
ARGO = ("argo-v3.7.18", "argo-v4.1.2")


@cache
def validator(name: str) -> Any:
    path = SCHEMAS / f"{name}.strict.json"
    if not path.is_file():
        pytest.skip(f"no schema {path.name} beside the project")
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(path.read_text()))


def faults(schema: str, body: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator(schema).iter_errors(body)]


@pytest.mark.parametrize("version", ARGO)
@pytest.mark.parametrize("profile", profile_names())
def test_templates_are_valid(profile: str, version: str) -> None:
    assert faults(f"{version}-workflowtemplates", workflow_template(load_profile(profile))) == []


@pytest.mark.parametrize("version", ARGO)
@pytest.mark.parametrize("make", [workflow, standalone])
def test_workflows_are_valid(make: Any, version: str) -> None:
    spec = load_spec(preset="leti-350m", file=None, overrides=(), iterations=2)
    made = make("demo", "s3://bucket/runs/demo", spec, load_profile("gke-h100"))
    assert faults(f"{version}-workflows", made) == []


@pytest.mark.parametrize("profile", [name for name in profile_names() if load_profile(name).train_backend == "jobset"])
def test_jobsets_are_valid_once_argo_has_filled_them_in(profile: str) -> None:
    manifest = Manifest(workflow_template(load_profile(profile)))
    made = [created for each in manifest.all_templates if (created := manifest.created(each))]
    assert [each["kind"] for each in made] == ["JobSet"]
    assert faults("jobset-v0.12.0", made[0]) == []


def test_the_schemas_refuse_a_misspelt_field() -> None:
    body = workflow_template(load_profile("kind"))
    body["spec"]["templates"][0]["dagg"] = {}
    assert len(faults(f"{ARGO[0]}-workflowtemplates", body)) == 1
