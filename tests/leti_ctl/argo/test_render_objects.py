"""Whole objects: strict schemas, our own lint, the Workflow, the JobSet, and text that is the same every time."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from leti_ctl.backends.argo import drift, names
from leti_ctl.backends.argo.jobset import FINAL_CODES
from leti_ctl.backends.argo.lint import lint
from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.backends.argo.text import file_name, to_yaml
from leti_ctl.backends.argo.workflow import standalone, workflow
from leti_ctl.config.profiles import load_profile, profile_names
from stages.contract.errors import SpecError, UsageError
from stages.contract.spec import RunSpec
from tests.conftest import ROOT
from tests.kube.templating import substitute

SCHEMAS = ROOT.parent / "shared" / "schemas"
ARGO = ("v3.7.18", "v4.1.2")
GOLDEN = ROOT / "tests" / "golden" / "argo"
URI = "s3://bucket/runs/demo"
JOBSETS = [name for name in profile_names() if load_profile(name).train_backend == "jobset"]
TPU = {"train": {"engine": "torch", "nodes": 4, "processes": 4}, "generate": {"engine": "static"}}
GPU = {"train": {"nodes": 1, "processes": 1}}


@cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    path = SCHEMAS / f"{name}.strict.json"
    if not path.is_file():
        pytest.skip(f"no strict schemas at {SCHEMAS.name}/{path.name}")
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


def spec_for(profile: str) -> RunSpec:
    return RunSpec.model_validate(TPU if load_profile(profile).accelerator == "tpu" else GPU, strict=False)


def jobset(profile: str, *overrides: str, iteration: str = "3", nodes: str = "2", processes: str = "4") -> Any:
    template = workflow_template(load_profile(profile, overrides))
    (train,) = [one for one in template["spec"]["templates"] if one["name"] == "train"]
    given = {"run": "demo", "run-uri": URI, "jobset": "demo", "train-nodes": nodes, "train-processes": processes}
    scope = {f"workflow.parameters.{name}": value for name, value in given.items()}
    scope |= {"workflow.parameters.image-accelerator": "registry/leti-gpu@sha256:0", "workflow.namespace": "leti"}
    scope["inputs.parameters.iteration"] = iteration
    return yaml.safe_load(substitute(train["resource"]["manifest"], scope))


@pytest.mark.slow
@pytest.mark.parametrize("version", ARGO)
@pytest.mark.parametrize("profile", ["kind", "gke-h100", "gke-tpu-v5e", "eks-karpenter-l4"])
def test_every_object_passes_the_strict_schemas(profile: str, version: str) -> None:
    loaded, spec = load_profile(profile), spec_for(profile)
    validator(f"argo-{version}-workflowtemplates").validate(yaml.safe_load(to_yaml(workflow_template(loaded))))
    for made in (workflow("demo", URI, spec, loaded), standalone("demo", URI, spec, loaded)):
        validator(f"argo-{version}-workflows").validate(yaml.safe_load(to_yaml(made)))


@pytest.mark.parametrize("profile", JOBSETS)
def test_every_jobset_passes_the_strict_schema(profile: str) -> None:
    validator("jobset-v0.12.0").validate(jobset(profile))


@pytest.mark.parametrize("profile", ["kind", "gke-h100", "gke-tpu-v5e", "eks-karpenter-l4"])
def test_nothing_is_left_for_the_lint_to_find(profile: str) -> None:
    loaded, spec = load_profile(profile), spec_for(profile)
    made = [workflow_template(loaded), workflow("demo", URI, spec, loaded), standalone("demo-2", URI, spec, loaded)]
    assert lint(made) == []


def test_every_value_of_a_parameter_is_a_string() -> None:
    for made in (
        workflow("demo", URI, RunSpec(), load_profile("kind"), start=3),
        workflow_template(load_profile("kind")),
    ):
        assert all(isinstance(one.get("value", ""), str) for one in made["spec"]["arguments"]["parameters"])


def test_a_workflow_gives_what_its_template_leaves_open() -> None:
    template, made = workflow_template(load_profile("kind")), workflow("demo", URI, RunSpec(), load_profile("kind"))
    declared = {one["name"]: "value" in one for one in template["spec"]["arguments"]["parameters"]}
    given_here = {one["name"] for one in made["spec"]["arguments"]["parameters"]}
    assert {name for name, has_default in declared.items() if not has_default} <= given_here <= declared.keys()
    assert made["spec"].keys() == {"workflowTemplateRef", "arguments"}, "all that strict referencing lets a run set"


def test_a_standalone_workflow_is_the_template_with_the_parameters_filled_in() -> None:
    loaded = load_profile("kind")
    made, template = standalone("demo", URI, RunSpec(), loaded, start=2), workflow_template(loaded)
    assert made["spec"]["templates"] == template["spec"]["templates"]
    filled = {one["name"]: one["value"] for one in made["spec"]["arguments"]["parameters"]}
    assert None not in filled.values()
    assert (filled["start"], filled["run-uri"], filled["image-ctl"]) == ("2", URI, loaded.images.ctl)


def test_a_workflow_says_which_run_spec_and_template_it_is() -> None:
    spec, loaded = RunSpec(), load_profile("kind")
    metadata = workflow("demo", URI, spec, loaded, attempt=4)["metadata"]
    assert (metadata["name"], metadata["labels"][names.RUN]) == ("demo-4", "demo")
    assert metadata["annotations"][names.SPEC_DIGEST] == spec.digest()
    in_template = workflow_template(loaded)["metadata"]["annotations"][names.MANIFEST_DIGEST]
    assert metadata["annotations"][names.MANIFEST_DIGEST] == in_template


def test_the_templates_digest_is_of_what_it_does_and_not_of_whose_images() -> None:
    def digest(*overrides: str) -> str:
        made = workflow_template(load_profile("kind", overrides))
        return str(made["metadata"]["annotations"][names.MANIFEST_DIGEST])

    assert digest() == digest("images.ctl=registry/leti-ctl:9")
    assert digest() != digest("pools.train.cpu=3")


def test_a_spec_or_name_the_cluster_would_choke_on_makes_no_object() -> None:
    with pytest.raises(SpecError, match="deepspeed"):
        workflow("demo", URI, RunSpec(), load_profile("gke-tpu-v5e"))
    with pytest.raises(UsageError, match="--name"):
        workflow("not a label", URI, RunSpec(), load_profile("kind"))


def test_a_jobset_is_a_gang_whose_members_find_the_first() -> None:
    made = jobset("gke-h100")
    (replicated,) = made["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (2, 2, 0)
    pod = job["template"]["spec"]
    (main,) = pod["containers"]
    environment = {one["name"]: one for one in main["env"]}
    assert environment["LETI_NODES"]["value"] == "2"
    name = made["metadata"]["name"]
    assert environment["LETI_RENDEZVOUS"]["value"] == f"{name}-{replicated['name']}-0-0.{name}:29500"
    path = environment["LETI_NODE_RANK"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert main["resources"]["limits"]["nvidia.com/gpu"] == "4"
    assert pod["restartPolicy"] == "Never" and pod["automountServiceAccountToken"] is False


def test_a_jobset_restarts_for_nothing_when_disrupted_and_ends_when_it_cannot_help() -> None:
    policy = jobset("gke-h100")["spec"]["failurePolicy"]
    rules = jobset("gke-h100")["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert rules[1]["onExitCodes"]["values"] == sorted(FINAL_CODES)
    assert not {0, 1, 75, 137, 143} & set(FINAL_CODES)
    assert [rule["action"] for rule in policy["rules"]] == ["RestartJobSetAndIgnoreMaxRestarts", "FailJobSet"]
    assert policy["maxRestarts"] > 0 and policy["restartStrategy"] == "BlockingRecreate"


def test_a_tpu_slice_is_one_jobs_and_whole() -> None:
    made = jobset("gke-tpu-v5e", nodes="4")
    topology = made["metadata"]["annotations"]["alpha.jobset.sigs.k8s.io/exclusive-topology"]
    assert topology == "cloud.google.com/gke-nodepool"
    (main,) = made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert main["resources"]["limits"]["google.com/tpu"] == "4"
    assert "annotations" not in jobset("gke-h100")["metadata"]


def test_a_queue_takes_the_jobset_and_not_each_of_its_pods() -> None:
    made = jobset("gke-h100", "pools.train.queue=team")
    pod = made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert "kueue.x-k8s.io/queue-name" not in pod["metadata"]["labels"]


@pytest.mark.parametrize("profile", JOBSETS)
def test_jobsets_are_removed_first_and_last_by_those_who_may(profile: str) -> None:
    templates = {one["name"]: one for one in workflow_template(load_profile(profile))["spec"]["templates"]}
    for name in ("clear", "reap"):
        assert templates[name]["resource"]["action"] == "delete"
        assert templates[name]["executor"] == {"serviceAccountName": "leti-trainer"}
        assert "leti.dev/run={{workflow.parameters.run}}" in templates[name]["resource"]["flags"]
    # Argo before 3.7.17 ends the exit handler of a stopped workflow at once where that is a DAG.
    (reap,), (finalize,) = templates["finish"]["steps"]
    assert reap["template"] == "reap" and reap["continueOn"] == {"failed": True, "error": True}
    assert finalize["template"] == "finalize"


@pytest.mark.parametrize("kind", ["workflow", "jobset-gke-h100", "jobset-gke-tpu-v5e", "jobset-eks-h100-spot"])
def test_the_object_is_the_golden(kind: str) -> None:
    made = {
        "workflow": lambda: workflow("demo", URI, RunSpec(), load_profile("kind"), attempt=1, start=3),
        "jobset-gke-h100": lambda: jobset("gke-h100", processes="8"),
        "jobset-gke-tpu-v5e": lambda: jobset("gke-tpu-v5e", nodes="4"),
        "jobset-eks-h100-spot": lambda: jobset(
            "eks-h100", "pools.train.spot={key: eks.amazonaws.com/capacityType, value: SPOT}", "pools.train.queue=team"
        ),
    }[kind]()
    for digest in {names.SPEC_DIGEST, names.MANIFEST_DIGEST} & made["metadata"].get("annotations", {}).keys():
        made["metadata"]["annotations"][digest] = "..."
    path = GOLDEN / f"{kind}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(to_yaml(made))
    assert to_yaml(made) == path.read_text()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), JSON, max_size=3))
def test_text_holds_what_was_rendered(data: dict[str, Any]) -> None:
    assert yaml.safe_load(to_yaml(data)) == data
    assert to_yaml(data) == to_yaml(json.loads(json.dumps(data)))


def test_an_object_found_in_a_folder_is_compared_byte_for_byte(tmp_path: Path) -> None:
    made = [workflow_template(load_profile(name)) for name in ("kind", "gke-l4")]
    for one in made:
        (tmp_path / file_name(one)).write_text(to_yaml(one))
    assert drift.in_folder(made, tmp_path) == []
    (tmp_path / "kind.yaml").write_text(to_yaml(made[0]).replace("parallelism: 4", "parallelism: 5"))
    (tmp_path / "gke-l4.yaml").unlink()
    changed, missing = drift.in_folder(made, tmp_path)
    assert changed.endswith("spec.parallelism: is 5, rendered 4") and missing.endswith("gke-l4.yaml: missing")


def test_a_clusters_template_may_have_its_own_images_and_nothing_else() -> None:
    ours = workflow_template(load_profile("kind"))
    theirs = workflow_template(load_profile("kind", ["images.ctl=registry/leti-ctl@sha256:0"]))
    theirs["metadata"] |= {"uid": "u", "resourceVersion": "7"}
    assert drift.in_cluster([ours], {"leti-kind": theirs}.get) == []
    theirs["spec"]["serviceAccountName"] = "default"
    (line,) = drift.in_cluster([ours], {"leti-kind": theirs}.get)
    assert "spec.serviceAccountName: is default, rendered leti-stage" in line
    assert drift.in_cluster([ours], {}.get) == ["workflowtemplate leti-kind: missing"]
