"""Rules of the JobSets that resource templates create: what its webhook refuses, and what would run training twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from leti_ctl.backends.argo.rules.manifest import Manifest, Problem, Rule, Template

NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
LONGEST = 63
SUFFIX = "-abcde"
"""What the Job controller appends to a pod's name."""
RULE_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
QUALIFIED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""What may stand left of an operator in a condition: Argo reads it as a label selector."""


def jobset_restart(manifest: Manifest) -> Iterator[Problem]:
    """Pods of a JobSet are not restarted one by one: training starts again as a gang, from its checkpoint."""
    for path, job in _jobs(manifest):
        spec = job.get("template", {}).get("spec", {})
        if spec.get("template", {}).get("spec", {}).get("restartPolicy") != "Never":
            what = "restartPolicy is not Never; one rank would restart without the others"
            yield Problem(f"{path}.template.spec.template.spec.restartPolicy", what, "set Never")
        if spec.get("backoffLimit") != 0:
            what = "backoffLimit is not 0; one rank would restart without the others"
            yield Problem(f"{path}.template.spec.backoffLimit", what, "set 0 and use the JobSet's failurePolicy")


def jobset_name(manifest: Manifest) -> Iterator[Problem]:
    """The longest pod name it makes is a DNS label: the webhook refuses a JobSet whose pods could not be created."""
    for template, jobset in _jobsets(manifest):
        name = str(jobset.get("metadata", {}).get("name", ""))
        for job in jobset.get("spec", {}).get("replicatedJobs") or ():
            last = int(job.get("template", {}).get("spec", {}).get("completions", 1)) - 1
            pod = f"{name}-{job.get('name')}-{int(job.get('replicas', 1)) - 1}-{last}{SUFFIX}"
            if len(pod) > LONGEST or not NAME.fullmatch(pod):
                what = f"its pods would be called {pod!r} ({len(pod)} characters)"
                path = f"{template.path}.resource.manifest:metadata.name"
                yield Problem(path, what, f"begin with a letter and keep pod names within {LONGEST}")


def jobset_policy(manifest: Manifest) -> Iterator[Problem]:
    """Its policies name jobs and rules that exist, and rules with names the webhook accepts."""
    for template, jobset in _jobsets(manifest):
        path, spec = f"{template.path}.resource.manifest:spec", jobset.get("spec", {})
        known = {job.get("name") for job in spec.get("replicatedJobs") or ()}
        for policy in ("successPolicy", "failurePolicy"):
            for target in _targets(spec.get(policy) or {}):
                if target not in known:
                    what = f"no replicated job is named {target!r}"
                    yield Problem(f"{path}.{policy}", what, f"name one of {', '.join(sorted(map(str, known)))}")
        for rule in (spec.get("failurePolicy") or {}).get("rules") or ():
            if not RULE_NAME.fullmatch(str(rule.get("name", ""))):
                what = f"{rule.get('name')!r} is no rule name"
                yield Problem(f"{path}.failurePolicy.rules", what, "use letters, digits and _, beginning with a letter")


def jobset_condition(manifest: Manifest) -> Iterator[Problem]:
    """A template that creates a JobSet waits for both ends of it, through paths that Argo's selectors can read."""
    for template, _ in _jobsets(manifest):
        for key in ("successCondition", "failureCondition"):
            path, condition = f"{template.path}.resource.{key}", str(template.body["resource"].get(key, ""))
            left = re.split(r"\s*(?:==|=|!=|>|<|in)\s*", condition)[0]
            if not condition:
                yield Problem(path, "is missing; the task would end as soon as the JobSet exists", "add it")
            elif not QUALIFIED.fullmatch(left):
                what = f"{left!r} cannot be read by a label selector"
                yield Problem(path, what, "compare a scalar such as status.terminalState")


def jobset_reattach(manifest: Manifest) -> Iterator[Problem]:
    """A JobSet is applied under a fixed name, so that a retried task finds the one that runs already."""
    for template, jobset in _jobsets(manifest):
        action, metadata = template.body["resource"].get("action"), jobset.get("metadata", {})
        if action != "apply" or "generateName" in metadata or not metadata.get("name"):
            what = "a retried task would start training a second time"
            yield Problem(f"{template.path}.resource", what, "use action: apply and metadata.name")


RULES: tuple[Rule, ...] = (jobset_restart, jobset_name, jobset_policy, jobset_condition, jobset_reattach)


def _jobsets(manifest: Manifest) -> Iterator[tuple[Template, Mapping[str, Any]]]:
    for template in manifest.all_templates:
        created = manifest.created(template)
        if created and created.get("kind") == "JobSet":
            yield template, created


def _jobs(manifest: Manifest) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for template, jobset in _jobsets(manifest):
        for job in jobset.get("spec", {}).get("replicatedJobs") or ():
            yield f"{template.path}.resource.manifest:spec.replicatedJobs[{job.get('name')}]", job


def _targets(policy: Mapping[str, Any]) -> list[Any]:
    rules = policy.get("rules") or ()
    return [target for each in (policy, *rules) for target in each.get("targetReplicatedJobs") or ()]
