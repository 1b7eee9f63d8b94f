"""Rules of pods: volumes, environment, scheduling, images, retries; what a server takes and a node trips over."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from leti_ctl.backends.argo.rules.manifest import Manifest, Problem, Rule, load, nodes, patch

QUANTITY = re.compile(r"\d+(\.\d+)?([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)?")
MOVING_TAGS = ("latest", "stable", "main", "master", "edge", "nightly")


def unknown_volume(manifest: Manifest) -> Iterator[Problem]:
    """Every mount names a volume of the template or of the workflow."""
    claims = {claim.get("metadata", {}).get("name") for claim in manifest.spec.get("volumeClaimTemplates") or ()}
    for pod in manifest.pods:
        known = {volume.get("name") for volume in pod.spec.get("volumes") or ()} | claims
        for path, container in pod.containers:
            for mount in container.get("volumeMounts") or ():
                if mount.get("name") not in known:
                    what = f"no volume is named {mount.get('name')!r}"
                    yield Problem(f"{path}.volumeMounts", what, "declare it in volumes, or remove the mount")


def unused_volume(manifest: Manifest) -> Iterator[Problem]:
    """Every volume of a pod is mounted by one of its containers."""
    for pod in manifest.pods:
        mounts = {mount.get("name") for _, one in pod.containers for mount in one.get("volumeMounts") or ()}
        for volume in pod.spec.get("volumes") or ():
            if volume.get("name") not in mounts and volume not in (manifest.spec.get("volumes") or ()):
                where = f"{pod.path}.volumes[{volume.get('name')}]"
                yield Problem(where, "no container mounts it", "mount it, or remove the volume")


def mount_conflict(manifest: Manifest) -> Iterator[Problem]:
    """A container mounts one volume at a path."""
    for pod in manifest.pods:
        for path, container in pod.containers:
            paths = Counter(str(mount.get("mountPath")) for mount in container.get("volumeMounts") or ())
            for where in (where for where, count in paths.items() if count > 1):
                yield Problem(f"{path}.volumeMounts", f"{where} is mounted more than once", "keep one mount of a path")


def toleration_value(manifest: Manifest) -> Iterator[Problem]:
    """A toleration with operator Exists has no value; one without a key tolerates everything and must say so."""
    for pod in manifest.pods:
        for toleration in pod.spec.get("tolerations") or ():
            path = f"{pod.path}.tolerations[{toleration.get('key')}]"
            if toleration.get("operator") == "Exists" and "value" in toleration:
                yield Problem(path, "operator Exists takes no value", "remove the value, or use operator Equal")
            if not toleration.get("key") and toleration.get("operator") != "Exists":
                yield Problem(path, "a toleration without key needs operator Exists", "name the taint's key")


def env_conflict(manifest: Manifest) -> Iterator[Problem]:
    """An environment variable has a value or a source, and a name of its own."""
    for pod in manifest.pods:
        for path, container in pod.containers:
            variables = container.get("env") or ()
            for one in variables:
                if "value" in one and "valueFrom" in one:
                    yield Problem(f"{path}.env[{one.get('name')}]", "has value and valueFrom", "keep one of them")
            names = Counter(str(one.get("name")) for one in variables)
            for name in (name for name, count in names.items() if count > 1):
                yield Problem(f"{path}.env[{name}]", "is set more than once", "keep one; the last would win")


def moving_image(manifest: Manifest) -> Iterator[Problem]:
    """Every image carries a digest or a tag that stays."""
    for pod in manifest.pods:
        for path, container in pod.containers:
            image = manifest.sample(str(container.get("image", "")))
            tag = image.rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in image and (not tag or tag in MOVING_TAGS):
                what = f"image {image!r} may be another one tomorrow"
                yield Problem(f"{path}.image", what, "name a version tag, or better a digest")


def quantity(manifest: Manifest) -> Iterator[Problem]:
    """Resources and sizes are quantities as Kubernetes spells them: 16Gi, not 16GB."""
    for pod in manifest.pods:
        found = [
            node
            for path, container in pod.containers
            for node in nodes(container.get("resources"), f"{path}.resources")
        ]
        for volume in pod.spec.get("volumes") or ():
            found += nodes((volume.get("emptyDir") or {}).get("sizeLimit"), f"{pod.path}.volumes[{volume.get('name')}]")
        for path, value in found:
            if isinstance(value, str) and not QUANTITY.fullmatch(manifest.sample(value)):
                yield Problem(path, f"{value!r} is no quantity", "write a number with m, k, Ki, M, Mi, G, Gi, T or Ti")


def unbounded_container(manifest: Manifest) -> Iterator[Problem]:
    """Every container requests CPU and memory, and limits memory: quotas refuse it otherwise, and neighbours suffer."""
    for pod in manifest.pods:
        for path, container in pod.containers:
            resources = container.get("resources") or {}
            requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
            missing = [f"requests.{key}" for key in ("cpu", "memory") if key not in requests and key not in limits]
            missing += [] if "memory" in limits else ["limits.memory"]
            if missing:
                yield Problem(f"{path}.resources", f"lacks {' and '.join(missing)}", "state what the container needs")


def patched_containers(manifest: Manifest) -> Iterator[Problem]:
    """A podSpecPatch is YAML and patches `main` only: `wait` has other names and is absent from resource pods."""
    for template in manifest.all_templates:
        path, found = f"{template.path}.podSpecPatch", patch(template)
        if found is None:
            yield Problem(path, "is no YAML mapping", "write a pod spec's fields as YAML")
            continue
        for container in found.get("containers") or ():
            if container.get("name") != "main":
                what = f"patches container {container.get('name')!r}, which not every Argo version starts"
                yield Problem(path, what, "patch main; the executor's settings are in the controller's ConfigMap")


def backoff_max_duration(manifest: Manifest) -> Iterator[Problem]:
    """No retry is bounded by maxDuration: it counts from the first attempt and kills a long retry half-way."""
    for template in manifest.all_templates:
        if "maxDuration" in template.body.get("retryStrategy", {}).get("backoff", {}):
            path = f"{template.path}.retryStrategy.backoff.maxDuration"
            yield Problem(path, "becomes the deadline of every later attempt", "use backoff.cap and limit")


def unlimited_retry(manifest: Manifest) -> Iterator[Problem]:
    """Every retryStrategy has a limit, and an expression if it retries whatever happened."""
    for template in manifest.all_templates:
        if (retry := template.body.get("retryStrategy")) is not None:
            if "limit" not in retry:
                yield Problem(f"{template.path}.retryStrategy", "retries without end", "add a limit")
            if retry.get("retryPolicy", "Always") == "Always" and "expression" not in retry:
                what = "retries failures that a retry cannot cure"
                yield Problem(f"{template.path}.retryStrategy", what, "add an expression on lastRetry.exitCode")


def output_default(manifest: Manifest) -> Iterator[Problem]:
    """Every output read from a file has a default, so that a skipped or killed task does not end the workflow."""
    for template in manifest.all_templates:
        for name, output in template.outputs.items():
            source = output.get("valueFrom") or {}
            if "path" in source and "default" not in source:
                path = f"{template.path}.outputs.parameters[{name}].valueFrom"
                yield Problem(path, "has no default; a skipped task would be an error", "add a default")


def unreadable_manifest(manifest: Manifest) -> Iterator[Problem]:
    """What a resource template creates is YAML once its variables are filled in."""
    for template in manifest.all_templates:
        text = template.body.get("resource", {}).get("manifest")
        if text is not None and not isinstance(load(manifest.sample(str(text))), dict):
            yield Problem(f"{template.path}.resource.manifest", "is no YAML mapping", "quote its {{...}} values")


RULES: tuple[Rule, ...] = (
    unknown_volume, unused_volume, mount_conflict, toleration_value, env_conflict, moving_image, quantity,
    unbounded_container,
    patched_containers, backoff_max_duration, unlimited_retry, output_default, unreadable_manifest,
)  # fmt: skip
