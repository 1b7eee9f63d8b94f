"""One pass over one Workflow, as Argo's controller makes it: read the nodes, look at the pods, start what may start.

Everything it knows it finds in the API server, so a controller that dies between two passes loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from tests.kube import flows, pods
from tests.kube.expressions import Malformed, Scope, Unresolved, evaluate
from tests.kube.kinds import PODS, TASK_RESULTS, TEMPLATES, WORKFLOWS
from tests.kube.nodes import BAD, ManifestError, Nodes, is_done, known
from tests.kube.objects import Object, Objects, now
from tests.kube.refusals import Refused
from tests.kube.templating import parameters, substitute

DEPTH = 100
SPEC = (
    "entrypoint", "onExit", "arguments", "templates", "serviceAccountName", "automountServiceAccountToken",
    "executor", "podMetadata", "securityContext", "synchronization", "parallelism", "podGC", "ttlStrategy",
    "workflowTemplateRef", "workflowMetadata", "volumes", "tolerations", "nodeSelector", "affinity",
    "podSpecPatch", "imagePullSecrets", "podPriorityClassName", "shutdown", "suspend", "hostAliases",
    "podDisruptionBudget",
)  # fmt: skip
TEMPLATE = (
    "name", "inputs", "outputs", "metadata", "retryStrategy", "dag", "steps", "container", "resource",
    *pods.FIELDS,
)  # fmt: skip
RETRY = ("limit", "retryPolicy", "expression", "backoff")
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


@dataclass
class Settings:
    """How the controller runs in a test."""

    pace: float = 0.02
    """A backoff of one second lasts this long."""
    compressed: bool = False
    """Writes `status.compressedNodes`, as for large workflows."""
    finished: dict[str, float] = field(default_factory=dict)
    """When attempts were seen to end; lost with the controller, which then begins the backoff anew."""


def seconds(text: str) -> float:
    """Return a duration such as `20s` or `10m`."""
    number = text.rstrip("msh")
    if not number or text[len(number) :] not in UNITS:
        raise ManifestError(f"{text!r} is no duration")
    return float(number) * UNITS[text[len(number) :]]


class Operation:
    """A pass; `run` makes it. Faults of the manifest end the workflow with phase Error and a message."""

    def __init__(self, objects: Objects, workflow: Object, settings: Settings) -> None:
        self.objects, self.workflow, self.settings = objects, workflow, settings
        self.meta: Object = workflow["metadata"]
        self.namespace: str = self.meta["namespace"]
        self.name: str = self.meta["name"]
        self.status: Object = workflow.setdefault("status", {})
        self.nodes = Nodes(workflow)
        self.scope: dict[str, Any] = {}
        self.spec: Object = {}
        self.starting = True
        self.requeue = False
        """Whether something will be due without any object changing."""

    def run(self) -> Object:
        """Return the workflow as it stands after the pass."""
        try:
            self.spec = self._resolve_spec()
            self.scope = self._globals()
            if self._hold_mutex():
                self._operate()
        except (ManifestError, Malformed, Unresolved, TypeError, Refused) as error:
            self._finish("Error", str(error))
        self.status.update(self.nodes.pack(compressed=self.settings.compressed))
        return self.workflow

    @property
    def shutdown(self) -> str:
        """`Stop`, `Terminate` or nothing."""
        return str(self.workflow["spec"].get("shutdown") or "")

    def _operate(self) -> None:
        if not self.status.get("phase"):
            self.status.update(phase="Running", startedAt=now(), progress="0/0", conditions=[])
            self.meta.setdefault("labels", {})["workflows.argoproj.io/phase"] = "Running"
        pods.reconcile(self)
        self.starting = not self.workflow["spec"].get("suspend")
        root = self.execute(self.name, self.spec["entrypoint"], {}, "")
        if not is_done(root):
            return
        phase, message = root["phase"], root.get("message", "")
        if self.shutdown:
            phase, message = "Failed", f"Stopped with strategy '{self.shutdown}'"
        if self.spec.get("onExit") and self.shutdown != "Terminate":
            self.starting = True
            self.scope["workflow.status"] = phase
            self.scope["workflow.failures"] = json.dumps(json.dumps(self._failures()))
            handler = self.execute(f"{self.name}.onExit", self.spec["onExit"], {}, "", on_exit=True)
            if not is_done(handler):
                return
            if handler["phase"] in BAD:
                phase, message = handler["phase"], handler.get("message", "")
        self._finish(phase, message)

    def _finish(self, phase: str, message: str) -> None:
        self.status.update(phase=phase, message=message, finishedAt=now())
        labels = self.meta.setdefault("labels", {})
        labels.update({"workflows.argoproj.io/completed": "true", "workflows.argoproj.io/phase": phase})
        self.status.pop("synchronization", None)
        for pod in self.objects.list(PODS, self.namespace, labels=f"workflows.argoproj.io/workflow={self.name}"):
            if pod["status"]["phase"] in ("Pending", "Running"):
                with contextlib.suppress(Refused):
                    self.objects.delete(PODS, self.namespace, pod["metadata"]["name"])

    def _resolve_spec(self) -> Object:
        """Return the spec to execute: the referenced template's, overridden by the workflow's, kept in status."""
        own = self.workflow["spec"]
        known("Workflow.spec", own, *SPEC)
        if "workflowTemplateRef" not in own:
            return self._check(own)
        known("workflowTemplateRef", own["workflowTemplateRef"], "name")
        if "storedWorkflowTemplateSpec" not in self.status:
            template = self.objects.get(TEMPLATES, self.namespace, own["workflowTemplateRef"]["name"])["spec"]
            merged = {**template, **{key: value for key, value in own.items() if key != "workflowTemplateRef"}}
            given = {one["name"]: one for one in own.get("arguments", {}).get("parameters", [])}
            listed = template.get("arguments", {}).get("parameters", [])
            if given.keys() - {one["name"] for one in listed}:
                raise ManifestError(f"parameters {sorted(given)} are not all declared by the WorkflowTemplate")
            merged["arguments"] = {"parameters": [given.get(one["name"], one) for one in listed]}
            self.status["storedWorkflowTemplateSpec"] = merged
        return self._check(self.status["storedWorkflowTemplateSpec"])

    def _check(self, spec: Object) -> Object:
        known("spec", spec, *SPEC)
        for one in spec.get("arguments", {}).get("parameters", []):
            if "value" not in one:
                raise ManifestError(f"spec.arguments.{one['name']}.value is required")
        for template in spec["templates"]:
            known(f"template {template.get('name')}", template, *TEMPLATE)
        return spec

    def _globals(self) -> dict[str, Any]:
        listed = self.spec.get("arguments", {}).get("parameters", [])
        scope: dict[str, Any] = {
            "workflow.name": self.name,
            "workflow.namespace": self.namespace,
            "workflow.uid": self.meta["uid"],
            "workflow.serviceAccountName": self.spec.get("serviceAccountName", "default"),
            "workflow.creationTimestamp": self.meta["creationTimestamp"],
            **parameters("workflow.parameters", listed),
        }
        for what in ("labels", "annotations"):
            scope.update({f"workflow.{what}.{key}": value for key, value in (self.meta.get(what) or {}).items()})
        return scope

    def _hold_mutex(self) -> bool:
        """Take the mutexes, unless another workflow of the namespace holds one."""
        known("synchronization", self.spec.get("synchronization", {}), "mutexes")
        wanted = substitute(self.spec.get("synchronization", {}).get("mutexes", []), self.scope)
        names = {f"{self.namespace}/Mutex/{one['name']}" for one in wanted}
        for other in self.objects.list(WORKFLOWS, self.namespace) if names else []:
            held = other.get("status", {}).get("synchronization", {}).get("mutex", {}).get("holding", [])
            if other["metadata"]["name"] != self.name and names & {one["mutex"] for one in held}:
                self.status.update(phase="Pending", message=f"Waiting for {sorted(names)[0]} lock. Lock status: 0/1")
                self.requeue = True
                return False
        if names:
            holding = [{"mutex": name, "holder": f"{self.namespace}/{self.name}"} for name in sorted(names)]
            self.status["synchronization"] = {"mutex": {"holding": holding}}
        if self.status.get("phase") == "Pending":
            self.status.update(phase="", message="")
        return True

    def _failures(self) -> list[Object]:
        """Return the failed nodes, pods and what holds them, as `workflow.failures` lists them."""
        return [
            {
                "displayName": node["displayName"],
                "message": node.get("message", ""),
                "templateName": node.get("templateName", ""),
                "phase": node["phase"],
                "podName": self.nodes.pod_name(node) if "templateName" in node else "",
                "finishedAt": node["finishedAt"],
            }
            for node in self.nodes.by_id.values()
            if node["phase"] in BAD
        ]

    def template(self, name: str) -> Object:
        """Return a template by name."""
        for one in self.spec["templates"]:
            if one["name"] == name:
                return dict(one)
        raise ManifestError(f"template {name!r} is not there")

    def execute(
        self, name: str, template: str, arguments: Object, boundary: str, *, on_exit: bool = False, depth: int = 0
    ) -> Object | None:
        """Bring the node of a template further; None when it may not start yet."""
        node = self.nodes.find(name)
        if is_done(node):
            return node
        if depth > DEPTH:
            raise ManifestError("Maximum recursion depth exceeded")
        found = self.template(template)
        inputs = self._inputs(found, arguments)
        values = {f"inputs.parameters.{key}": value for key, value in inputs.items()}
        bound = substitute(found, {**self.scope, **values}, keep=True)
        context = flows.Context(name, boundary, on_exit, depth, inputs)
        if "retryStrategy" in bound:
            return self._retry(bound, context)
        return self.start(bound, context)

    def start(self, template: Object, context: flows.Context) -> Object | None:
        """Start or advance one attempt, by the template's type."""
        kinds = [kind for kind in ("container", "resource", "steps", "dag") if kind in template]
        if len(kinds) != 1:
            raise ManifestError(f"template {template['name']}: has {kinds or 'no type'}, must have one")
        if kinds[0] in ("container", "resource"):
            return pods.start(self, template, context)
        return flows.FLOWS[kinds[0]](self, template, context)

    def _inputs(self, template: Object, arguments: Object) -> dict[str, str]:
        """Return the values of a template's input parameters."""
        known(f"{template['name']}.inputs", template.get("inputs", {}), "parameters")
        given = parameters("", arguments.get("parameters"))
        values = {}
        for one in template.get("inputs", {}).get("parameters", []):
            known(f"{template['name']}.inputs.{one['name']}", one, "name", "value", "default", "description", "enum")
            value = given.pop(f".{one['name']}", one.get("value", one.get("default")))
            if value is None:
                raise ManifestError(f"inputs.parameters.{one['name']} was not supplied to {template['name']}")
            values[one["name"]] = value
        if given:
            raise ManifestError(f"{template['name']} takes no parameters {sorted(given)}")
        return values

    def _retry(self, template: Object, context: flows.Context) -> Object | None:
        """Bring a Retry node further: judge the last attempt, wait, start the next."""
        strategy = template["retryStrategy"]
        known(f"{template['name']}.retryStrategy", strategy, *RETRY)
        node = self.nodes.find(context.name)
        if node is None:
            node = self.nodes.start(context.name, "Retry", template["name"], context.boundary, phase="Running")
            node["inputs"] = {"parameters": [{"name": key, "value": value} for key, value in context.inputs.items()]}
        attempts = [self.nodes.by_id[child] for child in node.get("children", [])]
        last = attempts[-1] if attempts else None
        if last is not None and is_done(last):
            if self._is_settled(node, last, strategy, len(attempts)):
                return node
            last = None
        number = len(attempts) if last is None else len(attempts) - 1
        before = attempts[number - 1] if number else None
        scope = {**self.scope, **_last_retry(before, "0"), "retries": str(number)}
        bound = substitute(template, scope, keep=True)
        child = context._replace(name=f"{context.name}({number})")
        started = self.start(bound, child)
        if started is not None:
            started["nodeFlag"] = {"retried": True}
            self.nodes.link(context.name, child.name)
            if is_done(started):
                self.requeue = True
        return node

    def _is_settled(self, node: Object, last: Object, strategy: Object, attempts: int) -> bool:
        """Whether a Retry node is done, or must wait, now that its last attempt is done."""
        if last["phase"] not in BAD:
            node.update({"outputs": last["outputs"]} if "outputs" in last else {})
            self.nodes.mark(node, "Succeeded")
            return True
        if self.shutdown:  # the exit handler's pods have one attempt then, too
            self.nodes.mark(node, last["phase"], f"Stopped with strategy '{self.shutdown}'")
            return True
        backoff = strategy.get("backoff", {})
        known("backoff", backoff, "duration", "factor", "cap")
        if backoff:
            delay = seconds(backoff["duration"]) * int(backoff.get("factor", 1)) ** (attempts - 1)
            delay = min(delay, seconds(backoff["cap"]) if "cap" in backoff else delay) * self.settings.pace
            if time.monotonic() < self.settings.finished.setdefault(last["id"], time.monotonic()) + delay:
                self.nodes.mark(node, "Running", f"Backoff for {delay:.1f}s")
                self.requeue = True
                return True
        policy = strategy.get("retryPolicy", "Always" if "expression" in strategy else "OnFailure")
        if policy not in ("Always", {"Failed": "OnFailure", "Error": "OnError"}[last["phase"]]):
            self.nodes.mark(node, last["phase"], last.get("message", ""))
            return True
        if "limit" in strategy and attempts > int(strategy["limit"]):
            self.nodes.mark(node, last["phase"], "No more retries left")
            return True
        scope = {**_last_retry(last, "-1"), "retries": str(attempts - 1)}
        if "expression" in strategy and not evaluate(strategy["expression"], scope):
            self.nodes.mark(node, last["phase"], "retryStrategy.expression evaluated to false")
            return True
        node.pop("message", None)
        return False

    def result(self, node: Object) -> Object:
        """Return what the executor reported of a node's outputs."""
        found = self.objects.find(TASK_RESULTS, self.namespace, node["id"])
        outputs: Object = (found or {}).get("outputs", {})
        return outputs


def _last_retry(last: Object | None, unknown: str) -> Scope:
    """Return the variables that describe the attempt before."""
    outputs = (last or {}).get("outputs", {})
    return {
        "lastRetry.exitCode": outputs.get("exitCode", unknown),
        "lastRetry.status": (last or {}).get("phase", ""),
        "lastRetry.duration": "0",
        "lastRetry.message": (last or {}).get("message", ""),
    }
