"""The semantic lint: clean on what we render, and every rule finds what it is there for."""

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from leti_ctl.backends.argo.lint import RULES, lint
from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.backends.argo.workflow import standalone, workflow
from leti_ctl.config.profiles import load_profile, profile_names
from leti_ctl.config.specs import load_spec
from tests.console import leti_ctl

Body = dict[str, Any]
PROFILE = "gke-h100"


@cache
def _objects(profile: str) -> list[Body]:
    spec = load_spec(preset="leti-350m", file=None, overrides=(), iterations=2)
    loaded = load_profile(profile)
    return [workflow_template(loaded), workflow("demo", "s3://bucket/runs/demo", spec, loaded)]


def objects(profile: str = PROFILE) -> list[Body]:
    made: list[Body] = json.loads(json.dumps(_objects(profile)))  # no part shared with another
    return made


class Cluster:
    """The rendered objects with names for the places that the mutations below change."""

    def __init__(self) -> None:
        self.template, self.workflow = self.objects = objects()
        self.spec: Body = self.template["spec"]
        self.templates: list[Body] = self.spec["templates"]

    def __getitem__(self, name: str) -> Body:
        return next(each for each in self.templates if each["name"] == name)

    def task(self, template: str, name: str) -> Body:
        found: Body = next(each for each in self[template]["dag"]["tasks"] if each["name"] == name)
        return found

    def main(self, template: str) -> Body:
        found: Body = self[template]["container"]
        return found

    def jobset(self, change: Callable[[Body], None]) -> None:
        """Change the JobSet in the train template, as YAML."""
        resource = self["train"]["resource"]
        text = re.sub(r"(: )(\{\{[^}]*\}\})$", r"\1'\2'", resource["manifest"], flags=re.M)
        loaded = yaml.safe_load(text)
        change(loaded)
        dumped = yaml.safe_dump(loaded, sort_keys=False, width=1000)
        resource["manifest"] = re.sub(r"((?:parallelism|completions): )'(\{\{.*?\}\})'", r"\1\2", dumped)


def wrapped(cluster: Cluster) -> None:
    """Let the loop go through a second template per iteration."""
    hop = {"name": "again", "template": "iteration", "arguments": cluster.task("iteration", "next")["arguments"]}
    inner = {"name": "again", "inputs": {"parameters": [{"name": "iteration"}]}, "dag": {"tasks": [hop]}}
    cluster.templates.append(inner)
    cluster.task("iteration", "next")["template"] = cluster.task("iteration", "next-patient")["template"] = "again"


def node(jobset: Body) -> Body:
    found: Body = jobset["spec"]["replicatedJobs"][0]
    return found


ARTIFACT = {"artifacts": [{"name": "log", "path": "/scratch/log", "s3": {"key": "log"}, "gcs": {"key": "log"}}]}
MUTATIONS: list[tuple[str, Callable[[Cluster], Any]]] = [
    ("structure", lambda c: c.spec.update(entrypont="run")),
    ("object-name", lambda c: c.template["metadata"].update(name="x" * 64)),
    ("object-name", lambda c: c["chain"].update(name="a chain")),
    ("object-name", lambda c: c.task("iteration", "train").update(name="train_it")),
    ("object-name", lambda c: c.spec["arguments"]["parameters"].append({"name": "run.uri", "value": ""})),
    ("unknown-value", lambda c: c["train"]["resource"].update(action="upsert")),
    ("unknown-value", lambda c: c["plan"]["retryStrategy"].update(retryPolicy="Sometimes")),
    ("unknown-value", lambda c: c.spec["podGC"].update(strategy="OnPodEnd")),
    ("label-value", lambda c: c["plan"]["metadata"]["labels"].update({"leti.dev/stage": "to plan"})),
    ("label-value", lambda c: c["plan"]["metadata"]["labels"].update({"leti.dev/": "plan"})),
    ("label-value", lambda c: c.workflow["metadata"]["labels"].update({"leti.dev/run": "r" * 64})),
    ("label-value", lambda c: c.jobset(lambda j: j["metadata"]["labels"].update({"leti.dev/stage": 1}))),
    ("template-type", lambda c: c["plan"].update(suspend={})),
    ("template-type", lambda c: c["plan"].pop("container")),
    ("deadline-on-flow", lambda c: c["iteration"].update(activeDeadlineSeconds="60")),
    ("deadline-on-flow", lambda c: c["chain"].update(timeout="60s")),
    ("depends-or-dependencies", lambda c: c.task("iteration", "train").update(dependencies=["plan"])),
    ("depends-or-dependencies", lambda c: c.task("iteration", "train").update(continueOn={"failed": True})),
    ("depends-or-dependencies", lambda c: c.task("iteration", "plan").update(name="1-plan")),
    ("sequence-bounds", lambda c: c.task("iteration", "plan").update(withSequence={"count": "1", "end": "2"})),
    ("resource-template", lambda c: c["reap"]["resource"].update(successCondition="status.phase == Gone")),
    ("resource-template", lambda c: c["train"]["resource"].pop("manifest")),
    ("resource-template", lambda c: c["train"]["resource"].update(manifestFrom={"artifact": {"name": "m"}})),
    ("artifact-location", lambda c: c["prepare"].update(outputs=ARTIFACT)),
    ("reference-only", lambda c: c.workflow["spec"].update(serviceAccountName="admin")),
    ("reference-only", lambda c: c.workflow["spec"]["arguments"]["parameters"].pop(0)),
    ("reference-only", lambda c: c.workflow["spec"]["arguments"]["parameters"].append({"name": "x", "value": "1"})),
    ("unknown-template", lambda c: c.task("iteration", "plan").update(template="plann")),
    ("unknown-template", lambda c: c.spec.update(onExit="finnish")),
    ("unknown-template", lambda c: c.workflow["spec"].update(entrypoint="rum")),
    ("unknown-template", lambda c: c.spec.pop("entrypoint")),
    ("unreachable-template", lambda c: c.templates.append(c["plan"] | {"name": "plan-b"})),
    ("duplicate-name", lambda c: c.templates.append(c["plan"])),
    ("duplicate-name", lambda c: c["plan"]["inputs"]["parameters"].append({"name": "iteration"})),
    ("duplicate-name", lambda c: c.spec["arguments"]["parameters"].append({"name": "run"})),
    ("duplicate-name", lambda c: c.task("iteration", "next").update(name="next-patient")),
    ("missing-argument", lambda c: c.task("chain", "execute")["arguments"]["parameters"].pop()),
    ("missing-argument", lambda c: c.task("chain", "execute")["arguments"]["parameters"][0].pop("value")),
    ("missing-argument", lambda c: c.spec.update(onExit="plan")),
    ("extra-argument", lambda c: c.task("chain", "execute")["arguments"]["parameters"].append({"name": "x"})),
    ("unknown-dependency", lambda c: c.task("iteration", "train").update(depends="biuld.Succeeded")),
    ("unknown-dependency", lambda c: c.task("iteration", "train").update(depends="build.Done")),
    ("unknown-dependency", lambda c: c.task("iteration", "train").update(depends="plan.AllFailed")),
    ("depends-syntax", lambda c: c.task("iteration", "train").update(depends="build.Succeeded &&")),
    ("depends-syntax", lambda c: c.task("iteration", "train").update(depends="(build || plan")),
    ("dependency-cycle", lambda c: c.task("iteration", "plan").update(depends="next.Succeeded")),
    ("endless-recursion", lambda c: c.task("iteration", "next").pop("when")),
    ("recursion-depth", wrapped),
    ("unknown-variable", lambda c: c.main("plan")["args"].append("{{workflow.parameters.rum}}")),
    ("unbalanced-braces", lambda c: c.main("plan")["args"].append("{{workflow.parameters.run}")),
    ("expression-hyphen", lambda c: c.main("plan")["args"].append("{{=workflow.parameters.run-uri}}")),
    ("unknown-volume", lambda c: c.main("plan")["volumeMounts"].append({"name": "data", "mountPath": "/data"})),
    ("unused-volume", lambda c: c["plan"]["volumes"].append({"name": "data", "emptyDir": {}})),
    ("mount-conflict", lambda c: c.main("plan")["volumeMounts"].append({"name": "tmp", "mountPath": "/scratch"})),
    ("toleration-value", lambda c: c["generate"]["tolerations"][0].update(value="present")),
    ("toleration-value", lambda c: c["generate"].update(tolerations=[{"effect": "NoSchedule"}])),
    ("env-conflict", lambda c: c.main("plan")["env"][0].update(valueFrom={"fieldRef": {"fieldPath": "spec.nodeName"}})),
    ("env-conflict", lambda c: c.main("plan")["env"].append({"name": "LETI_LOG", "value": "text"})),
    ("moving-image", lambda c: c.main("plan").update(image="registry:5000/leti-ctl")),
    ("moving-image", lambda c: c.spec["arguments"]["parameters"][6].update(value="leti-ctl:latest")),
    ("quantity", lambda c: c.main("plan")["resources"]["limits"].update(memory="16Gb")),
    ("quantity", lambda c: c["plan"]["volumes"][0]["emptyDir"].update(sizeLimit="10 Gi")),
    ("quantity",
     lambda c: c.jobset(lambda j: node(j)["template"]["spec"]["template"]["spec"]["containers"][0]["resources"]
                        ["limits"].update(memory="lots"))),
    ("unbounded-container", lambda c: c.main("plan")["resources"].pop("limits")),
    ("unbounded-container", lambda c: c.main("plan")["resources"]["requests"].pop("cpu")),
    ("patched-containers", lambda c: c["plan"].update(podSpecPatch="containers: [{name: wait, image: x}]")),
    ("patched-containers", lambda c: c["plan"].update(podSpecPatch="runtimeClassName gvisor")),
    ("backoff-max-duration", lambda c: c["plan"]["retryStrategy"]["backoff"].update(maxDuration="1h")),
    ("unlimited-retry", lambda c: c["plan"]["retryStrategy"].pop("limit")),
    ("unlimited-retry", lambda c: c["plan"]["retryStrategy"].pop("expression")),
    ("output-default", lambda c: c["plan"]["outputs"]["parameters"][0]["valueFrom"].pop("default")),
    ("unreadable-manifest", lambda c: c["train"]["resource"].update(manifest="kind: [JobSet")),
    ("restricted-pod", lambda c: c.spec["securityContext"].update(runAsNonRoot=False)),
    ("restricted-pod", lambda c: c.spec["securityContext"].update(runAsUser=0)),
    ("restricted-pod", lambda c: c.spec["securityContext"].pop("seccompProfile")),
    ("restricted-pod", lambda c: c["plan"].update(podSpecPatch="hostNetwork: true")),
    ("restricted-pod", lambda c: c["plan"]["volumes"][0].update(hostPath={"path": "/"})),
    ("restricted-container", lambda c: c.main("plan").pop("securityContext")),
    ("restricted-container", lambda c: c.main("plan")["securityContext"]["capabilities"].update(add=["SYS_ADMIN"])),
    ("restricted-container", lambda c: c.main("plan")["securityContext"].update(readOnlyRootFilesystem=False)),
    ("restricted-container", lambda c: c.main("plan")["securityContext"].update(privileged=True)),
    ("restricted-container", lambda c: c.main("plan")["securityContext"].update(runAsUser=0)),
    ("executor-token", lambda c: c.spec.pop("automountServiceAccountToken")),
    ("executor-token", lambda c: c["plan"].update(automountServiceAccountToken=True)),
    ("executor-token", lambda c: c.spec.pop("executor")),
    ("untrusted-output", lambda c: c["execute"].update(outputs={"parameters": [{"name": "x", "value": "1"}]})),
    ("untrusted-secret", lambda c: c.main("execute")["envFrom"].append({"secretRef": {"name": "leti-store"}})),
    ("untrusted-secret", lambda c: c["execute"]["volumes"].append({"name": "s", "secret": {"secretName": "hub"}})),
    ("untrusted-identity", lambda c: c["execute"].pop("serviceAccountName")),
    ("untrusted-identity", lambda c: c["execute"].update(serviceAccountName="leti-stage")),
    ("untrusted-runtime", lambda c: c["execute"].update(podSpecPatch="enableServiceLinks: false")),
    ("unmarked-execute", lambda c: c["execute"]["metadata"]["labels"].pop("leti.dev/untrusted")),
    ("jobset-restart", lambda c: c.jobset(lambda j: node(j)["template"]["spec"].update(backoffLimit=3))),
    ("jobset-restart",
     lambda c: c.jobset(lambda j: node(j)["template"]["spec"]["template"]["spec"].update(restartPolicy="OnFailure"))),
    ("jobset-name", lambda c: c.jobset(lambda j: node(j).update(name="a-very-long-name-of-a-job"))),
    ("jobset-name", lambda c: c.jobset(lambda j: j["metadata"].update(name="4-{{workflow.parameters.jobset}}"))),
    ("jobset-policy", lambda c: c.jobset(lambda j: j["spec"]["successPolicy"].update(targetReplicatedJobs=["n"]))),
    ("jobset-policy", lambda c: c.jobset(lambda j: j["spec"]["failurePolicy"]["rules"][0].update(name="not-a-name"))),
    ("jobset-condition", lambda c: c["train"]["resource"].pop("failureCondition")),
    ("jobset-condition", lambda c: c["train"]["resource"].update(successCondition='status.conditions.#(type=="C")')),
    ("jobset-reattach", lambda c: c["train"]["resource"].update(action="create")),
    ("jobset-reattach", lambda c: c.jobset(lambda j: j["metadata"].update(generateName=j["metadata"].pop("name")))),
]  # fmt: skip


def rules(found: list[Any]) -> set[str]:
    return {finding.rule for finding in found}


@pytest.mark.parametrize("profile", profile_names())
def test_what_render_makes_is_clean(profile: str) -> None:
    assert lint([workflow_template(load_profile(profile))]) == []


def test_what_submit_makes_is_clean_with_and_without_a_template() -> None:
    spec = load_spec(preset="leti-350m", file=None, overrides=(), iterations=2)
    alone = standalone("demo", "s3://bucket/runs/demo", spec, load_profile(PROFILE))
    assert lint(objects()) == [] and lint(objects()[1:]) == [] and lint([alone]) == []


@pytest.mark.parametrize(("rule", "mutate"), MUTATIONS, ids=[f"{n}-{rule}" for n, (rule, _) in enumerate(MUTATIONS)])
def test_each_rule_finds_what_it_is_there_for(rule: str, mutate: Callable[[Cluster], Any]) -> None:
    cluster = Cluster()
    mutate(cluster)
    found = lint(cluster.objects)
    assert rule in rules(found), found
    assert all("\n" not in str(finding) and finding.path and finding.remedy for finding in found)


def test_every_rule_is_proven_by_a_mutation() -> None:
    assert {rule for rule, _ in MUTATIONS} == {"structure", *RULES}


@pytest.mark.parametrize(
    ("place", "text", "known"),
    [
        ("plan", "{{inputs.parameters.iteration}}", True),
        ("plan", "{{inputs.parameters.itration}}", False),
        ("plan", "{{=asInt(inputs.parameters['iteration']) + asInt(workflow.parameters['train-nodes'])}}", True),
        ("plan", "{{=asInt(inputs.parameters['round']) + 1}}", False),
        ("plan", "{{=workflow.parameters.run == 'inputs.parameters.nothing' ? 'a' : 'b'}}", True),
        ("plan", "{{retries}} {{lastRetry.exitCode}}", True),
        ("plan", "{{lastRetry.code}}", False),
        ("plan", "{{pod.name}} {{workflow.uid}} {{workflow.labels.leti.dev/run}}", True),
        ("plan", "{{workflow.user}}", False),
        ("plan", "{{item.part}}", False),
        ("plan", "{{tasks.plan.outputs.parameters.next}}", False),
        ("plan", "{{workflow.status}}", False),
        ("finalize", "{{workflow.status}} {{workflow.failures}}", True),
    ],
)
def test_variables_are_known_where_they_exist_and_nowhere_else(place: str, text: str, known: bool) -> None:
    cluster = Cluster()
    cluster.main(place)["args"].append(text)
    assert ("unknown-variable" not in rules(lint(cluster.objects))) is known


@pytest.mark.parametrize(
    ("when", "known"),
    [
        ("'{{tasks.plan.outputs.parameters.next}}' == 'true'", True),
        ("'{{tasks.plan.outputs.parameters.nest}}' == 'true'", False),
        ("'{{tasks.next.status}}' == 'Succeeded'", False),
        ("'{{tasks.evaluate-train.status}}' == 'Succeeded'", False),
        ("'{{steps.plan.status}}' == 'Succeeded'", False),
        ("'{{item}}' == 'x'", False),
    ],
)
def test_a_task_may_name_the_tasks_it_waits_for(when: str, known: bool) -> None:
    cluster = Cluster()
    cluster.task("iteration", "train")["when"] = when
    assert ("unknown-variable" not in rules(lint(cluster.objects))) is known


def test_a_variable_of_a_retry_needs_a_retry_strategy() -> None:
    cluster = Cluster()
    del cluster["plan"]["retryStrategy"]
    assert "unknown-variable" in rules(lint(cluster.objects))


def test_a_manifest_inside_a_template_that_no_rule_can_read_is_a_finding_and_no_crash() -> None:
    cluster = Cluster()
    cluster.jobset(lambda jobset: jobset["spec"].update(replicatedJobs=["node"]))
    assert any("cannot read" in finding.what for finding in lint(cluster.objects))


def test_the_command_ends_with_0_when_nothing_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([*objects(), {"kind": "Role", "metadata": {"name": "r"}}]))
    found = leti_ctl("lint", "all.yaml", cwd=tmp_path)
    assert (found.returncode, found.stdout) == (0, "") and "no findings in 2 objects" in found.stderr
    piped = leti_ctl("lint", "-", cwd=tmp_path, text=(tmp_path / "all.yaml").read_text())
    assert (piped.returncode, piped.stderr) == (0, found.stderr)


def test_the_command_ends_with_1_and_names_each_finding(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.task("iteration", "train")["depends"] = "biuld.Succeeded"
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(cluster.template))
    found = leti_ctl("lint", ".", "--json", cwd=tmp_path)
    data = json.loads(found.stdout)
    assert found.returncode == 1 and data["objects"] == [f"WorkflowTemplate leti-{PROFILE}"]
    assert data["findings"][0] == {
        "rule": "unknown-dependency",
        "object": f"WorkflowTemplate leti-{PROFILE}",
        "path": "spec.templates[iteration].dag.tasks[train].depends",
        "what": "no task is named 'biuld'",
        "remedy": data["findings"][0]["remedy"],
    }
    text = leti_ctl("lint", "t.yaml", cwd=tmp_path)
    assert text.returncode == 1 and "[unknown-dependency]" in text.stdout


def test_the_command_checks_a_profile_and_refuses_what_is_no_yaml(tmp_path: Path) -> None:
    assert leti_ctl("lint", "--profile", "kind", cwd=tmp_path).returncode == 0
    (tmp_path / "x.yaml").write_text("a: [b")
    found = leti_ctl("lint", "x.yaml", cwd=tmp_path)
    assert found.returncode == 2 and len(found.stderr.splitlines()) == 1 and "x.yaml" in found.stderr
