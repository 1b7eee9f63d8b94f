"""The WorkflowTemplate of a profile: the loop, one template per stage, the plan step and the exit handler.

It is the same for every run; what a run varies is in string parameters. Everything that matters to security is here
and not in the Workflow, so that a controller which admits only references (`templateReferencing: Strict`) admits runs.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from leti_ctl.backends.argo import jobset, loop, names, pods, retries
from leti_ctl.config.profiles import Profile
from leti_ctl.pipeline import GRAPH, Node
from stages.contract.flow import STAGES, StageName

Template = dict[str, Any]
API = "argoproj.io/v1alpha1"
PLAN_FOLDER = "/plan"
FAILURES_CHARS = 60_000
"""What the exit handler is told of the failures: Linux starts no program with an argument of 128 KiB or more, and when
every part of a large run fails in all its attempts the list is longer (argo-workflows issue 15471)."""
DAY = 86_400
_WHOSE = ("--run", "{{workflow.parameters.run-uri}}", "--workflow", "{{workflow.namespace}}/{{workflow.name}}")
_SMALL = {"cpu": 1, "memory_gib": 1, "memory_retry_gib": (2, 4), "scratch_gib": 1, "deadline_hours": 0.5}
"""What the plan step and the exit handler take of the light pool."""


def workflow_template(profile: Profile) -> Template:
    """Return the WorkflowTemplate `leti-<profile>` as a dict ready for YAML; a run needs no other."""
    spec = workflow_spec(profile)
    return {
        "apiVersion": API,
        "kind": "WorkflowTemplate",
        "metadata": {
            "name": names.template_name(profile),
            "namespace": profile.namespace,
            "labels": {names.PART_OF: "leti"},
            "annotations": {
                "workflows.argoproj.io/description": f"LETI on profile {profile.name}: generate, execute, build, train",
                names.MANIFEST_DIGEST: digest(spec),
            },
        },
        "spec": spec,
    }


def digest(spec: Template) -> str:
    """Return the SHA-256 of a template's spec as canonical JSON.

    Without the parameters: a deployment puts its own images there, and each pod records the image it ran.
    """
    fixed = {name: value for name, value in spec.items() if name != "arguments"}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def workflow_spec(profile: Profile) -> Template:
    """Return the spec that the WorkflowTemplate and a standalone Workflow share."""
    optional: Template = {}
    if profile.images.pull_secrets:
        optional["imagePullSecrets"] = [{"name": name} for name in profile.images.pull_secrets]
    if profile.archive_logs:
        optional["archiveLogs"] = True
        optional["artifactRepositoryRef"] = {"configMap": profile.archive_logs, "key": "s3"}
    return {
        "entrypoint": "run",
        "onExit": "finish",
        "serviceAccountName": "leti-stage",
        # The token is then mounted from a Secret into Argo's own containers and never into a stage's.
        "automountServiceAccountToken": False,
        "executor": {"serviceAccountName": "leti-executor"},
        "securityContext": pods.POD_SECURITY,
        "podMetadata": {"labels": {names.PART_OF: "leti", names.RUN: "{{workflow.parameters.run}}"}},
        # Failed pods stay for their logs until the Workflow goes; the store holds everything else.
        "podGC": {"strategy": "OnPodSuccess", "deleteDelayDuration": "600s"},
        "ttlStrategy": {"secondsAfterSuccess": 7 * DAY, "secondsAfterFailure": 30 * DAY},
        "parallelism": profile.parallelism,
        # Two workflows of one run would do all work twice; the store would keep the first.
        "synchronization": {"mutexes": [{"name": "leti-{{workflow.parameters.run}}"}]},
        **optional,
        "arguments": {"parameters": parameters(profile)},
        "templates": [
            *loop.templates(clears=profile.train_backend == "jobset"),
            _plan(profile),
            *(_stage(profile, stage) for stage in STAGES if stage != "train"),
            *_train(profile),
            *_finish(profile),
        ],
    }


def parameters(profile: Profile) -> list[dict[str, str]]:
    """Return the workflow's parameters: those without a value come with each run."""
    images = profile.images
    return [
        {"name": "run"},
        {"name": "run-uri"},
        {"name": "jobset"},
        {"name": "start", "value": "0"},
        {"name": "train-nodes", "value": "1"},
        {"name": "train-processes", "value": "1"},
        {"name": "image-ctl", "value": images.ctl},
        {"name": "image-execute", "value": images.execute},
        {"name": "image-cpu", "value": images.cpu},
        {"name": "image-accelerator", "value": images.accelerator},
    ]


def stage_args(*varied: str) -> tuple[str, ...]:
    """Return the arguments of any stage as `Unit.arguments` gives them; `varied` coordinates are template inputs."""
    fixed = {"iteration": "0", "split": "train", "part": "0/1"}
    given = {name: f"{{{{inputs.parameters.{name}}}}}" if name in varied else value for name, value in fixed.items()}
    return ("--run", "{{workflow.parameters.run-uri}}", *(word for n, v in given.items() for word in (f"--{n}", v)))


def _stage(profile: Profile, stage: StageName) -> Template:
    """Return the template of one stage."""
    node = next(node for node in GRAPH if node.stage == stage)
    varied = _coordinates(node)
    sandboxed = node.load == "sandbox"
    work = pods.Work(("python", "-m", f"stages.{stage}"), stage_args(*varied), *_placed(node))
    if sandboxed:
        work = work._replace(secrets=(pods.EXECUTE_SECRET,))
    elif stage == "prepare":
        work = work._replace(secrets=(pods.STORE_SECRET, pods.HUB_SECRET))
    return _pod(profile, work, stage, varied, sandboxed=sandboxed)


def _pod(
    profile: Profile, work: pods.Work, stage: str, varied: tuple[str, ...], *, sandboxed: bool = False
) -> Template:
    pool = profile.pools[work.pool]
    labels = pods.labels(pool, stage) | _unit_labels(varied)
    annotations = dict(pool.pod_annotations)
    if sandboxed:
        labels[names.UNTRUSTED] = "true"
        annotations |= pods.gvisor_annotations(profile)
    return {
        "name": stage,
        **({"inputs": loop.inputs(*varied)} if varied else {}),
        "metadata": {"labels": labels, **({"annotations": annotations} if annotations else {})},
        # The identity may read this run's samples and write its executions, and nothing else.
        **({"serviceAccountName": "leti-execute"} if sandboxed else {}),
        # Nor may it write logs: the harness tells what candidates printed in its rows, and nowhere else.
        **({"archiveLocation": {"archiveLogs": False}} if sandboxed and profile.archive_logs else {}),
        "activeDeadlineSeconds": str(round(pool.deadline_hours * 3600)),
        "retryStrategy": retries.stage(),
        **pods.placement(pool),
        "podSpecPatch": pods.patch(profile, pool, sandboxed=sandboxed, devices=_devices(stage)),
        "container": pods.container(profile, work),
        "volumes": pods.volumes(pool),
    }


def _train(profile: Profile) -> list[Template]:
    """Return the training template, and what removes JobSets where it makes them."""
    node = next(node for node in GRAPH if node.stage == "train")
    if profile.train_backend == "pod":
        return [_stage(profile, "train")]
    manifest = jobset.manifest(profile, stage_args(*_coordinates(node)))
    return [
        {
            "name": "train",
            "inputs": loop.inputs("iteration"),
            "metadata": {"labels": {names.STAGE: "train-watch", **_unit_labels(("iteration",))}},
            **_trainer(profile),
            # A lost watcher applies the same manifest again, finds the JobSet running and goes on watching.
            "retryStrategy": retries.watcher(),
            "resource": {
                "action": "apply",
                "setOwnerReference": True,
                "successCondition": "status.terminalState == Completed",
                "failureCondition": "status.terminalState == Failed",
                "manifest": manifest,
            },
        },
        # A JobSet that an earlier workflow left has the name this one needs, and its old end would count as ours.
        _removal(profile, "clear"),
        _removal(profile, "reap"),
    ]


def _removal(profile: Profile, name: str) -> Template:
    selector = f"{names.RUN}={{{{workflow.parameters.run}}}}"
    where = ["--namespace={{workflow.namespace}}", "--selector", selector]
    flags = [jobset.RESOURCE, *where, "--cascade=foreground", "--timeout=10m"]
    return {
        "name": name,
        "metadata": {"labels": {names.STAGE: name}},
        **_trainer(profile),
        "activeDeadlineSeconds": "1200",
        "retryStrategy": retries.watcher(),
        "resource": {"action": "delete", "flags": flags},
    }


def _trainer(profile: Profile) -> Template:
    account = "leti-trainer"
    light = profile.pools["light"]
    return {"serviceAccountName": account, "executor": {"serviceAccountName": account}, **pods.placement(light)}


def _plan(profile: Profile) -> Template:
    """Return the step that asks the store what is missing, so that no accelerator starts to find that out."""
    args = ("plan", *_WHOSE, "--iteration", "{{inputs.parameters.iteration}}", "--out", PLAN_FOLDER)
    template = _step(profile, "plan", args, ("iteration",))
    template["container"]["volumeMounts"].append({"name": "plan", "mountPath": PLAN_FOLDER})
    template["volumes"].append({"name": "plan", "emptyDir": {"sizeLimit": "64Mi"}})
    outputs = [
        {"name": name, "valueFrom": {"path": f"{PLAN_FOLDER}/{name}", "default": default}}
        for name, default in loop.PLAN_OUTPUTS.items()
    ]
    place = list(template).index("metadata")
    items = list(template.items())
    return dict([*items[:place], ("outputs", {"parameters": outputs}), *items[place:]])


def _finish(profile: Profile) -> list[Template]:
    """Return the exit handler, which also runs after a stop or a failure (but not after `terminate`).

    Steps and not a DAG: before 3.7.17 and 4.0.8 Argo ends every DAG of a stopped workflow at once, the exit handler's
    too, and then nothing would be removed or recorded (argo-workflows issue 13964).
    """
    steps: list[list[Template]] = [[{"name": "finalize", "template": "finalize"}]]
    if profile.train_backend == "jobset":
        anyway = {"failed": True, "error": True}
        steps.insert(0, [{"name": "reap", "template": "reap", "continueOn": anyway}])
    told = f"{{{{=workflow.failures[:{FAILURES_CHARS}]}}}}"
    args = ("finalize", *_WHOSE, "--status", "{{workflow.status}}", "--failures", told)
    finalize = _step(profile, "finalize", args, ())
    return [{"name": "finish", "steps": steps}, finalize]


def _step(profile: Profile, name: str, args: tuple[str, ...], varied: tuple[str, ...]) -> Template:
    """Return the template of a step of leti_ctl's own, small and on the light pool."""
    small = profile.pools["light"].model_copy(update=_SMALL)
    profile = profile.model_copy(update={"pools": {**profile.pools, "light": small}})
    return _pod(profile, pods.Work(("python", "-m", "leti_ctl.steps"), args, "ctl", "light"), name, varied)


def _placed(node: Node) -> tuple[pods.ImageName, Any]:
    """Return the image and the pool of a node of the graph."""
    if node.load == "accelerator":
        return "accelerator", "train" if node.stage == "train" else "generate"
    return ("execute", "sandbox") if node.load == "sandbox" else ("cpu", "light")


def _coordinates(node: Node) -> tuple[str, ...]:
    """Return which of a stage's coordinates vary; the others are the same in every unit."""
    per = STAGES[node.stage].per
    split = ("split",) if per == "pass" else ()
    part = ("part",) if STAGES[node.stage].fans_out else ()
    return () if per == "run" else ("iteration", *split, *part)


def _unit_labels(varied: tuple[str, ...]) -> dict[str, str]:
    values = {
        "iteration": (names.ITERATION, "{{inputs.parameters.iteration}}"),
        "split": (names.SPLIT, "{{inputs.parameters.split}}"),
        # A label holds no slash. The function is expr's own: sprig's of that name is deprecated from Argo 3.7 on.
        "part": (names.PART, "{{=replace(inputs.parameters.part, '/', '-of-')}}"),
    }
    return dict(values[name] for name in varied)


def _devices(stage: str) -> str | None:
    """Training takes one accelerator per process; the figure is a parameter, which only a patch can hold."""
    return "{{workflow.parameters.train-processes}}" if stage == "train" else None
