"""The profile's WorkflowTemplate: there, rendered by this leti-ctl, unedited, its images pinned."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from leti_ctl.backends.argo import names, templates
from leti_ctl.doctor.cluster import Object, readable
from leti_ctl.doctor.report import Finding, Subject, fail, ok, warn

ROOT = "/apis/argoproj.io/v1alpha1"


def template(subject: Subject) -> Iterator[Finding]:
    """Compare what the cluster has with what this leti-ctl renders."""
    cluster, profile = subject.api, subject.pools
    name = names.template_name(profile)
    remedy = f"leti-ctl render --profile {profile.name} | kubectl apply -n {cluster.namespace} -f -"
    found = cluster.find(cluster.own("workflowtemplates", name, root=ROOT))
    if found is None:
        yield fail(f"no WorkflowTemplate {name} in {cluster.namespace}", remedy)
        return
    ours = templates.workflow_spec(profile)
    marked = (found["metadata"].get("annotations") or {}).get(names.MANIFEST_DIGEST, "")
    if marked != templates.digest(ours):
        yield fail(f"WorkflowTemplate {name} is of another leti ({marked[:12] or 'unmarked'})", remedy)
    elif templates.digest(_with_images_of(found["spec"], ours)) != templates.digest(ours):
        yield warn(f"WorkflowTemplate {name} was edited after it was rendered", f"{remedy} puts it right")
    else:
        yield ok(f"WorkflowTemplate {name}, {marked[:12]}")
    yield from _images(found["spec"])


def _with_images_of(spec: Object, other: Object) -> Object:
    """Return a spec with the images of another: kustomize may set those, and nothing else."""
    made = copy.deepcopy(spec)
    values = {one["name"]: one.get("value") for one in _image_parameters(other)}
    for one in _image_parameters(made):
        one["value"] = values.get(one["name"])
    return made


def _image_parameters(spec: Object) -> list[dict[str, Any]]:
    parameters = (spec.get("arguments") or {}).get("parameters") or []
    return [one for one in parameters if one["name"].startswith("image-")]


def _images(spec: Object) -> Iterator[Finding]:
    given = {str(one["name"]): str(one.get("value", "")) for one in _image_parameters(spec)}
    loose = [f"{name} {image}" for name, image in given.items() if "@sha256:" not in image]
    if loose:
        remedy = "pin them (kustomize: images, digest), so that a checkpoint's lineage names what ran"
        yield warn(f"not pinned by digest: {', '.join(loose)}", remedy)
    else:
        yield ok(f"{len(given)} images, all pinned by digest")


CHECKS = (readable("template", template),)
