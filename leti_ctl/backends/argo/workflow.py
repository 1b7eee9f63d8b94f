"""The Workflow object of one attempt at a run: a reference to the profile's template, and the run's parameters."""

from __future__ import annotations

from typing import Any

from leti_ctl.backends.argo import names, templates
from leti_ctl.config.profiles import Profile, refuse
from stages.contract.spec import RunSpec


def workflow(
    run_name: str,
    run_uri: str,
    spec: RunSpec,
    profile: Profile,
    *,
    attempt: int = 0,
    start: int = 0,
) -> dict[str, Any]:
    """Return the object to submit; `run_uri` is `STORE/runs/NAME` as pods see it, `start` the first iteration.

    Raises `UsageError` for a name that cannot be a label and `SpecError` for a spec the profile cannot run.
    """
    names.check_run_name(run_name)
    refuse(spec, profile, start)
    return {
        "apiVersion": templates.API,
        "kind": "Workflow",
        "metadata": {
            "name": names.workflow_name(run_name, attempt),
            "namespace": profile.namespace,
            "labels": {names.PART_OF: "leti", names.RUN: run_name},
            "annotations": {
                "workflows.argoproj.io/title": f"leti run {run_name}",
                names.RUN_URI: run_uri,
                names.SPEC_DIGEST: spec.digest(),
                names.MANIFEST_DIGEST: templates.digest(templates.workflow_spec(profile)),
            },
        },
        "spec": {
            "workflowTemplateRef": {"name": names.template_name(profile)},
            "arguments": {"parameters": _parameters(run_name, run_uri, spec, start=start)},
        },
    }


def standalone(
    run_name: str,
    run_uri: str,
    spec: RunSpec,
    profile: Profile,
    *,
    attempt: int = 0,
    start: int = 0,
) -> dict[str, Any]:
    """Return the object with the templates in it, for people who may create Workflows but no WorkflowTemplates."""
    made = workflow(run_name, run_uri, spec, profile, attempt=attempt, start=start)
    given = {one["name"]: one["value"] for one in made["spec"]["arguments"]["parameters"]}
    made["spec"] = templates.workflow_spec(profile)
    defaults = {one["name"]: one.get("value") for one in made["spec"]["arguments"]["parameters"]}
    made["spec"]["arguments"] = {
        "parameters": [{"name": name, "value": given.get(name, value)} for name, value in defaults.items()]
    }
    return made


def _parameters(run_name: str, run_uri: str, spec: RunSpec, *, start: int) -> list[dict[str, str]]:
    values = {
        "run": run_name,
        "run-uri": run_uri,
        "jobset": names.slug(run_name),
        "start": str(start),
        "train-nodes": str(spec.train.nodes),
        "train-processes": str(spec.train.processes),
    }
    return [{"name": name, "value": value} for name, value in values.items()]
