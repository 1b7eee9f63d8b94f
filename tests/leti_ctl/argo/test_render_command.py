"""`leti-ctl render` and `profiles`: files, stdout, comparison, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.cli import cli
from leti_ctl.config.profiles import load_profile, profile_names
from stages.contract.errors import LetiError, SpecError, UsageError
from tests.kube.api import ApiServer
from tests.kube.kinds import TEMPLATES

RUN = ("--profile", "kind", "--preset", "quickstart", "--store", "s3://bucket/team")


def leti_ctl(*arguments: str) -> Result:
    """Run a command in this process; what it raised is raised."""
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def test_a_template_on_stdout_is_the_template() -> None:
    (found,) = yaml.safe_load_all(leti_ctl("render", "--profile", "kind").stdout)
    assert found == workflow_template(load_profile("kind"))


@pytest.mark.slow
def test_a_folder_gets_one_file_for_each_profile_and_then_does_not_differ(tmp_path: Path) -> None:
    out = tmp_path / "made" / "here"
    leti_ctl("render", "--out", str(out))
    assert sorted(path.stem for path in out.iterdir()) == profile_names()
    assert leti_ctl("render", "--check", str(out)).exit_code == 0
    (out / "kind.yaml").write_text((out / "kind.yaml").read_text().replace("parallelism: 4", "parallelism: 5"))
    result = leti_ctl("render", "--profile", "kind", "--check", str(out))
    assert result.exit_code == 1
    assert "spec.parallelism: is 5, rendered 4" in result.stdout and "1 differences in 1 objects" in result.stderr


def test_a_run_is_the_template_and_a_workflow_that_refers_to_it() -> None:
    template, workflow = yaml.safe_load_all(leti_ctl("render", *RUN, "--name", "demo").stdout)
    assert workflow["spec"]["workflowTemplateRef"] == {"name": template["metadata"]["name"]}
    given = {one["name"]: one["value"] for one in workflow["spec"]["arguments"]["parameters"]}
    assert (given["run"], given["run-uri"]) == ("demo", "s3://bucket/team/runs/demo")


def test_a_stores_options_stay_at_the_end_of_the_address() -> None:
    store = "s3://bucket/team?endpoint=http://minio:9000"
    _, workflow = yaml.safe_load_all(leti_ctl("render", *RUN[:-1], store, "--name", "demo").stdout)
    given = {one["name"]: one["value"] for one in workflow["spec"]["arguments"]["parameters"]}
    assert given["run-uri"] == "s3://bucket/team/runs/demo?endpoint=http://minio:9000"


def test_a_standalone_workflow_refers_to_nothing() -> None:
    (workflow,) = yaml.safe_load_all(leti_ctl("render", *RUN, "--standalone").stdout)
    assert workflow["kind"] == "Workflow" and "workflowTemplateRef" not in workflow["spec"]
    assert workflow["spec"]["templates"] == workflow_template(load_profile("kind"))["spec"]["templates"]


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("--profile", "nope"), UsageError, ("nope", "leti-ctl profiles")),
        (("--profile", "kind", "--profile-set", "pools.train.cpus=1"), SpecError, ("pools.train.cpus", "cpu?")),
        (("--profile", "kind", "--profile-set", "nonsense"), UsageError, ("--profile-set", "field=value")),
        (("--preset", "quickstart", "--store", "s3://b"), UsageError, ("--profile", "one profile")),
        (("--profile", "kind", "--standalone"), UsageError, ("--standalone", "--preset")),
        ((*RUN[:-1], "a-folder"), UsageError, ("--store", "s3://")),
        ((*RUN, "--name", "a b"), UsageError, ("--name", "label")),
        (("--profile", "gke-tpu-v5e", *RUN[2:]), SpecError, ("train.engine", "torch")),
    ],
)
def test_a_mistake_is_named(arguments: tuple[str, ...], kind: type[LetiError], words: tuple[str, ...]) -> None:
    with pytest.raises(kind) as raised:
        leti_ctl("render", *arguments)
    assert all(word in str(raised.value) for word in words), str(raised.value)


@pytest.mark.slow
def test_a_cluster_is_compared_with_what_would_be_applied(server: ApiServer) -> None:
    missing = leti_ctl("render", "--profile", "kind", "--check")
    assert (missing.exit_code, missing.stdout) == (1, "workflowtemplate leti-kind: missing\n")
    server.objects.create(TEMPLATES, "leti", workflow_template(load_profile("kind")))
    assert leti_ctl("render", "--profile", "kind", "--check").exit_code == 0
    changed = leti_ctl("render", "--profile", "kind", "--profile-set", "parallelism=9", "--check")
    assert changed.exit_code == 1 and "spec.parallelism: is 4, rendered 9" in changed.stdout


def test_profiles_are_listed_shown_and_explained() -> None:
    listed = leti_ctl("profiles", "--json").stdout
    assert all(f'"{name}"' in listed for name in profile_names())
    assert yaml.safe_load(leti_ctl("profiles", "gke-l4").stdout) == load_profile("gke-l4").model_dump(mode="json")
    assert "pools.*.spot.attempts" in leti_ctl("profiles", "--fields", "--json").stdout
