"""Every pod of every profile: the stage's command and nothing else, its walls, and retries where they can help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leti_ctl.backends.argo import pods, retries
from leti_ctl.backends.argo.jobset import FINAL_CODES
from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.config.profiles import Profile, load_profile, profile_names
from leti_ctl.pipeline import Unit, plan
from stages.contract.flow import STAGES
from stages.contract.spec import RunSpec
from tests.kube.expressions import evaluate
from tests.kube.templating import substitute

URI = "s3://bucket/runs/demo"
PARAMETERS = {
    "run": "demo", "run-uri": URI, "jobset": "demo", "start": "0", "train-nodes": "2", "train-processes": "4",
    "image-ctl": "ctl", "image-execute": "execute", "image-cpu": "cpu", "image-accelerator": "gpu",
}  # fmt: skip
SCOPE = {f"workflow.parameters.{name}": value for name, value in PARAMETERS.items()} | {"workflow.namespace": "leti"}
FIRST = SCOPE | {"retries": "0", "lastRetry.message": ""}
FILES_PODS_WRITE = {"/scratch", "/tmp", "/plan", "/dev/shm"}


@cache
def templates(profile: str, *overrides: str) -> dict[str, dict[str, Any]]:
    made = workflow_template(load_profile(profile, overrides))
    return {one["name"]: one for one in made["spec"]["templates"]}


def containers(profile: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield every template that runs a container of ours, with its container."""
    for name, one in templates(profile).items():
        if "container" in one:
            yield name, one, one["container"]


def at(template: dict[str, Any], unit: Unit, retry: int = 0) -> dict[str, Any]:
    """Return a template as Argo fills it in for a unit's attempt."""
    given_to = {"iteration": str(unit.iteration), "split": unit.split, "part": str(unit.part)}
    scope = FIRST | {f"inputs.parameters.{name}": value for name, value in given_to.items()} | {"retries": str(retry)}
    filled: dict[str, Any] = substitute(template, scope)
    return filled


SPEC = RunSpec.model_validate(
    {"iterations": 2, "generate": {"parts": 2}, "build": {"parts": 2}, "evaluate": {"splits": ["validation", "test"]}},
    strict=False,
)


@pytest.mark.parametrize("unit", plan(SPEC).units, ids=lambda unit: unit.id)
def test_a_container_runs_the_units_command_and_no_other(unit: Unit) -> None:
    container = at(templates("kind")[unit.stage], unit)["container"]
    assert [*container["command"], *container["args"]] == ["python", "-m", *unit.arguments(URI)]


def test_a_jobset_runs_the_same_command() -> None:
    import yaml

    unit = next(unit for unit in plan(SPEC).units if unit.stage == "train")
    manifest = yaml.safe_load(at(templates("gke-h100")["train"], unit)["resource"]["manifest"])
    (container,) = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert [*container["command"], *container["args"]] == ["python", "-m", *unit.arguments(URI)]


@pytest.mark.parametrize("profile", profile_names())
def test_every_stage_has_a_template_with_limits_a_deadline_and_retries(profile: str) -> None:
    found = templates(profile)
    assert STAGES.keys() <= found.keys()
    for _, template, container in containers(profile):
        assert container["name"] == "main"
        assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["requests"].keys()
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert 0 < int(template["activeDeadlineSeconds"]) <= 7 * 86_400
        assert "maxDuration" not in template["retryStrategy"]["backoff"]


@pytest.mark.parametrize("profile", profile_names())
def test_every_container_is_as_pod_security_restricted_wants_it(profile: str) -> None:
    spec = workflow_template(load_profile(profile))["spec"]
    assert spec["automountServiceAccountToken"] is False and spec["executor"]["serviceAccountName"] == "leti-executor"
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for _, template, container in containers(profile):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
        }  # fmt: skip
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted.keys() == {volume["name"] for volume in template["volumes"]}
        assert set(mounted.values()) <= FILES_PODS_WRITE and {"/scratch", "/tmp"} <= set(mounted.values())
        assert all({"emptyDir", "ephemeral"} & volume.keys() for volume in template["volumes"])


@pytest.mark.parametrize("profile", profile_names())
def test_only_execute_runs_behind_the_outer_wall_and_with_the_narrow_identity(profile: str) -> None:
    for name, template, container in containers(profile):
        patch = json.loads(substitute(template["podSpecPatch"], FIRST))
        secrets = {one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one}
        untrusted = template["metadata"]["labels"].get("leti.dev/untrusted") == "true"
        assert untrusted == (name == "execute")
        assert (patch.get("runtimeClassName") == "gvisor") == untrusted
        assert template.get("serviceAccountName") == ("leti-execute" if untrusted else None)
        assert (secrets == {pods.EXECUTE_SECRET}) == untrusted
        assert (pods.HUB_SECRET in secrets) == (name == "prepare")
        assert ("outputs" in template) == (name == "plan"), "what candidates can write to is never read back by Argo"
        if untrusted:
            assert container["resources"]["limits"] == container["resources"]["requests"]


@pytest.mark.parametrize("profile", profile_names())
def test_gvisor_is_told_to_share_argos_volume_where_nobody_else_tells_it(profile: str) -> None:
    hints = {name: value for name, value in templates(profile)["execute"]["metadata"].get("annotations", {}).items()
             if name.startswith("dev.gvisor.")}  # fmt: skip
    own = load_profile(profile).platform != "gke"
    assert hints == ({f"dev.gvisor.spec.mount.var-run-argo.{key}": value for key, value in
                      {"share": "pod", "type": "tmpfs", "options": "rw"}.items()} if own else {})  # fmt: skip


@pytest.mark.parametrize("profile", profile_names())
@pytest.mark.parametrize("retry", [0, 1, 2, 3, 9])
def test_a_patch_is_json_whose_memory_never_shrinks_and_whose_spot_gives_way(profile: str, retry: int) -> None:
    loaded = load_profile(profile)
    for name, template, container in containers(profile):
        last = {"retries": str(retry), "lastRetry.message": OUT_OF_MEMORY if retry else ""}
        patch = json.loads(substitute(template["podSpecPatch"], SCOPE | last))
        assert patch["terminationGracePeriodSeconds"] >= 15
        assert all(one["name"] == "main" for one in patch.get("containers", []))
        pool = _pool(loaded, name)
        if pool.spot:
            (term,) = patch["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
                "nodeSelectorTerms"
            ]
            (expression,) = term["matchExpressions"]
            assert expression["operator"] == ("In" if retry < pool.spot.attempts else "NotIn")
        main = patch["containers"][0]["resources"] if "containers" in patch else container["resources"]
        memory = main["requests"]["memory"]
        assert memory == main["limits"]["memory"]
        assert int(memory.removesuffix("Gi")) >= int(container["resources"]["requests"]["memory"].removesuffix("Gi"))


def _pool(profile: Profile, template: str) -> Any:
    uses = {"execute": "sandbox", "generate": "generate", "train": "train"}
    return profile.pools[uses.get(template, "light")]  # type: ignore[index]


@pytest.mark.parametrize(("profile", "device"), [("kind", None), ("gke-l4", "cuda"), ("gke-tpu-v6e", "tpu")])
def test_a_pod_that_was_given_an_accelerator_must_find_it(profile: str, device: str | None) -> None:
    for name, _, container in containers(profile):
        environment = {one["name"]: one["value"] for one in container["env"]}
        assert environment.get("LETI_DEVICE") == (device if name == "generate" else None)


def test_archived_logs_are_those_of_trusted_pods() -> None:
    spec = workflow_template(load_profile("kind", ["archive_logs=leti-artifacts"]))["spec"]
    assert spec["archiveLogs"] is True and spec["artifactRepositoryRef"] == {"configMap": "leti-artifacts", "key": "s3"}
    for one in spec["templates"]:
        assert one.get("archiveLocation") == ({"archiveLogs": False} if one["name"] == "execute" else None)


def test_a_training_pod_takes_one_accelerator_per_process() -> None:
    template = templates("generic", "train_backend=pod", "pools.train.device.count=8")["train"]
    patch = json.loads(substitute(template["podSpecPatch"], FIRST))
    assert patch["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"


def test_what_a_pool_asks_for_is_rendered() -> None:
    made = templates(
        "kind", "pools.generate.queue=team", "pools.generate.priority_class=low", "pools.generate.scratch_class=fast",
        "pools.generate.node_selector={disk: ssd}", "pools.generate.pod_annotations={a/b: c}",
        "pools.generate.limits={example.com/nic: '2'}", "pools.generate.environment={NCCL_DEBUG: WARN}",
        "pools.generate.tolerations=[{key: gpu}]", "pools.generate.scratch_gib=7",
    )["generate"]  # fmt: skip
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert made["metadata"]["annotations"] == {"a/b": "c"}
    assert (made["priorityClassName"], made["nodeSelector"]) == ("low", {"disk": "ssd"})
    assert made["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert made["container"]["resources"]["limits"]["example.com/nic"] == "2"
    assert {"name": "NCCL_DEBUG", "value": "WARN"} in made["container"]["env"]
    scratch = made["volumes"][0]["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert (scratch["storageClassName"], scratch["resources"]["requests"]["storage"]) == ("fast", "7Gi")


OUT_OF_MEMORY = "main: OOMKilled (exit code 137)"
SHUTDOWN = "Pod was terminated in response to imminent node shutdown."
DEADLINE = "Pod was active on the node longer than the specified deadline"


@given(st.lists(st.sampled_from(["1Gi", "2Gi", "3Gi"]), min_size=1, max_size=5), st.integers(1, 9))
def test_memory_grows_with_the_attempts_where_it_was_too_little_and_not_otherwise(
    values: list[str], attempt: int
) -> None:
    text = retries.memory(values)
    scope = {"retries": str(attempt)}
    for message in (OUT_OF_MEMORY, "main: Error (exit code 128)"):
        assert substitute(text, {**scope, "lastRetry.message": message}) == values[min(attempt, len(values) - 1)]
    for message in ("", "pod deleted", SHUTDOWN, "main: Error (exit code 143)"):
        assert substitute(text, {**scope, "lastRetry.message": message}) == values[0]


@pytest.mark.parametrize(
    ("status", "code", "message", "attempt", "again"),
    [
        ("Error", -1, "pod deleted", 0, True),
        ("Failed", -1, SHUTDOWN, 0, True),
        ("Failed", -1, "The node was low on resource: ephemeral-storage.", 1, True),
        ("Failed", -1, "The node had condition: [DiskPressure]. ", 0, True),
        ("Failed", -1, "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, requested: 1", 0, True),
        ("Failed", -1, "Pod Allocate failed due to no healthy devices present; which is unexpected", 0, True),
        ("Failed", -1, "pod failed: neither main nor wait container completed successfully", 0, True),
        ("Failed", -1, "can't find failed message for pod x namespace leti", 0, True),
        ("Failed", 137, 'Usage of EmptyDir volume "scratch" exceeds the limit "30Gi". ', 0, False),
        ("Failed", 137, "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. ", 0, False),
        ("Failed", 137, 'Container main exceeded its local ephemeral storage limit "10Gi". ', 0, False),
        ("Failed", 75, "main: Error (exit code 75)", 5, True),
        ("Failed", 143, "main: Error (exit code 143)", 0, True),
        ("Failed", 137, OUT_OF_MEMORY, 0, True),
        ("Failed", 137, OUT_OF_MEMORY, 3, True),
        ("Failed", 137, OUT_OF_MEMORY, 4, False),
        ("Failed", 128, "main: Error (exit code 128)", 3, True),
        ("Failed", 128, "main: OOMKilled (exit code 128)", 4, False),
        ("Failed", 128, 'main: StartError (exit code 128): exec: "python": not found', 0, False),
        ("Failed", 1, "main: Error (exit code 1)", 0, False),
        ("Failed", 143, DEADLINE, 0, False),
        ("Error", -1, 'pods "x" is forbidden: pod rejected: RuntimeClass "gvisor" not found', 0, False),
        *(("Failed", code, f"main: Error (exit code {code})", 0, False) for code in FINAL_CODES),
    ],
)
def test_a_stage_is_tried_again_when_that_can_help(
    status: str, code: int, message: str, attempt: int, again: bool
) -> None:
    last = {"status": status, "exitCode": str(code), "message": message, "duration": "1"}
    scope = {f"lastRetry.{name}": value for name, value in last.items()} | {"retries": str(attempt)}
    assert evaluate(retries.stage()["expression"], scope) is again


@pytest.mark.parametrize(
    ("status", "code", "message", "again"),
    [
        ("Error", -1, "pod deleted", True),
        ("Failed", -1, SHUTDOWN, True),
        ("Failed", 1, "main: failure condition 'status.terminalState=Failed' evaluated true", False),
        ("Error", 1, "failure condition 'status.terminalState=Failed' evaluated true", False),
        ("Failed", 1, "main: Error (exit code 1): no more retries dial tcp 10.96.0.1:443: connection refused", True),
        ("Failed", 1, 'main: Error (exit code 1): failed calling webhook "vjobset.kb.io": EOF', True),
        ("Failed", 1, 'main: Error (exit code 1): error: no matches for kind "JobSet" in version "x"', False),
        ("Failed", 1, "main: Error (exit code 1): The resource has been deleted while its status was checked", False),
        ("Failed", 1, 'main: jobsets.jobset.x-k8s.io is forbidden: User "x" cannot patch', False),
    ],
)
def test_a_lost_watcher_attaches_again_and_a_failed_jobset_stays_failed(
    status: str, code: int, message: str, again: bool
) -> None:
    scope = {"lastRetry.status": status, "lastRetry.exitCode": str(code), "lastRetry.message": message, "retries": "0"}
    assert evaluate(retries.watcher()["expression"], scope) is again
