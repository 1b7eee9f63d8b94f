"""Rules of security: every pod meets Pod Security "restricted", and the one that runs model-written code has nothing.

Whatever the pod of untrusted code can read or write is in reach of a sandbox escape: its outputs, which the executor
reads with its own rights, its Secrets, its token. So there is one Secret, no token and no output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from leti_ctl.backends.argo.rules.manifest import Manifest, Pod, Problem, Rule, nodes

EXECUTE_SECRET = "leti-store-execute"
"""The store access of the execute stage: read samples, write executions, nothing else."""
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
HOST = ("hostNetwork", "hostPID", "hostIPC")


def restricted_pod(manifest: Manifest) -> Iterator[Problem]:
    """Pods run as non-root under the runtime's seccomp profile, off the host's namespaces and files."""
    for pod in manifest.pods:
        context = pod.spec.get("securityContext") or {}
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            yield Problem(f"{pod.path}.securityContext", "may run as root", "set runAsNonRoot: true and a runAsUser")
        if (context.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield Problem(f"{pod.path}.securityContext", "has no seccomp profile", "set seccompProfile RuntimeDefault")
        for key in (key for key in HOST if pod.spec.get(key)):
            yield Problem(f"{pod.path}.{key}", "shares a namespace of the node", "remove it")
        yield from _host_volumes(pod)


def restricted_container(manifest: Manifest) -> Iterator[Problem]:
    """Containers gain no privileges, hold no capabilities and cannot write to their image."""
    for pod in manifest.pods:
        for path, container in pod.containers:
            for key, wanted in _lacking(container.get("securityContext") or {}):
                yield Problem(f"{path}.securityContext.{key}", "is not as restricted as it must be", f"set {wanted}")


def executor_token(manifest: Manifest) -> Iterator[Problem]:
    """Main containers hold no API token, so the executor has a service account of its own."""
    for pod in manifest.pods:
        if "resource" in pod.template.body:
            mounted = pod.spec.get("automountServiceAccountToken")
            if mounted is not False:
                yield _token(f"{pod.path}.automountServiceAccountToken")
            continue
        inherited = manifest.spec.get("automountServiceAccountToken")
        if pod.template.body.get("automountServiceAccountToken", inherited) is not False:
            yield _token(f"{pod.path}.automountServiceAccountToken")
        executor = pod.template.body.get("executor") or manifest.spec.get("executor") or {}
        if not executor.get("serviceAccountName"):
            what = "the executor has no service account and cannot report results"
            yield Problem(f"{pod.path}.executor", what, "set executor.serviceAccountName, with a token Secret for it")


def untrusted_output(manifest: Manifest) -> Iterator[Problem]:
    """The template that runs model-written code has no outputs: the executor would follow a planted link."""
    for template in manifest.all_templates:
        if template.is_untrusted and (template.body.get("outputs") or "script" in template.body):
            what = "the executor reads outputs with its own rights from files that untrusted code could replace"
            yield Problem(f"{template.path}.outputs", what, "commit results through the store and remove the outputs")


def untrusted_secret(manifest: Manifest) -> Iterator[Problem]:
    """That template sees no Secret but its own store access."""
    for template in (template for template in manifest.all_templates if template.is_untrusted):
        for path, value in nodes(template.body, template.path):
            for name in _secret_names(path, value):
                if name != EXECUTE_SECRET:
                    yield Problem(path, f"gives untrusted code the Secret {name!r}", f"use {EXECUTE_SECRET} only")


def untrusted_identity(manifest: Manifest) -> Iterator[Problem]:
    """That template has a service account that no other template shares."""
    shared = {manifest.spec.get("serviceAccountName"), "default"}
    shared |= {each.body.get("serviceAccountName") for each in manifest.all_templates if not each.is_untrusted}
    for template in manifest.all_templates:
        if template.is_untrusted and template.body.get("serviceAccountName", "default") in shared:
            what = "untrusted code runs as a service account that other templates use as well"
            yield Problem(f"{template.path}.serviceAccountName", what, "give it one of its own, with narrow rights")


def untrusted_runtime(manifest: Manifest) -> Iterator[Problem]:
    """That template names a sandboxing RuntimeClass."""
    for pod in manifest.pods:
        if pod.template.is_untrusted and not pod.spec.get("runtimeClassName"):
            path = f"{pod.path}.podSpecPatch"
            yield Problem(path, "untrusted code would run on the node's kernel", "set runtimeClassName: gvisor")


def unmarked_execute(manifest: Manifest) -> Iterator[Problem]:
    """Whatever starts the execute stage carries the label that NetworkPolicies and these rules select by."""
    for pod in manifest.pods:
        for path, container in pod.containers:
            words = [str(word) for key in ("command", "args") for word in container.get(key) or ()]
            if "stages.execute" in words and not pod.template.is_untrusted:
                remedy = 'add metadata.labels leti.dev/untrusted: "true" to the template'
                yield Problem(path, "runs model-written code without saying so", remedy)


RULES: tuple[Rule, ...] = (
    restricted_pod, restricted_container, executor_token, untrusted_output, untrusted_secret, untrusted_identity,
    untrusted_runtime, unmarked_execute,
)  # fmt: skip


def _host_volumes(pod: Pod) -> Iterator[Problem]:
    for volume in pod.spec.get("volumes") or ():
        for kind in volume.keys() - {"name"} - VOLUMES:
            path = f"{pod.path}.volumes[{volume.get('name')}].{kind}"
            yield Problem(path, "is a kind of volume that Pod Security restricted forbids", "use an emptyDir")


def _lacking(context: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation", "allowPrivilegeEscalation: false"
    if (context.get("capabilities") or {}).get("drop") != ["ALL"] or context["capabilities"].get("add"):
        yield "capabilities", "capabilities: {drop: [ALL]} and add none"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem", "readOnlyRootFilesystem: true"
    if context.get("privileged"):
        yield "privileged", "privileged: false"
    if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
        yield "runAsNonRoot", "runAsNonRoot: true"


def _token(path: str) -> Problem:
    return Problem(path, "a token for the API server is mounted into main", "set it to false")


def _secret_names(path: str, value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    last = path.rpartition(".")[2]
    if last in ("secretRef", "secretKeyRef") or last.endswith("SecretRef"):
        yield str(value.get("name"))
    elif last == "secret":
        yield str(value.get("secretName", value.get("name")))
