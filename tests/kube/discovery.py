"""What an API server says about itself: versions, groups, resources and just enough OpenAPI for kubectl."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from tests.kube.kinds import KINDS, Kind

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
SHORT = {"pods": ["po"], "namespaces": ["ns"], "configmaps": ["cm"], "serviceaccounts": ["sa"], "workflows": ["wf"],
         "workflowtemplates": ["wftmpl"], "customresourcedefinitions": ["crd"], "deployments": ["deploy"]}  # fmt: skip


def describe(path: str, version: str) -> Any:
    """Return the document served at a path outside the resources; KeyError when there is none."""
    minor = version.removeprefix("v").split(".")[1]
    if path == "/version":
        return {"major": "1", "minor": minor, "gitVersion": version, "platform": "linux/amd64"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": _groups()}
    if path in ("/healthz", "/livez", "/readyz"):
        return "ok"
    if path == "/openapi/v3":
        return {"paths": {root.strip("/"): {"serverRelativeURL": f"/openapi/v3{root}"} for root in _roots()}}
    if path.startswith("/openapi/v3/"):
        return _openapi(path.removeprefix("/openapi/v3"))
    resources = _roots()[path]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": resources[0].api_version,
        "resources": [entry for kind in resources for entry in _entries(kind)],
    }


def _roots() -> dict[str, list[Kind]]:
    """Return the kinds by the path of their group and version."""
    ordered = sorted(KINDS, key=lambda kind: kind.api_version)
    by_version = {version: list(kinds) for version, kinds in groupby(ordered, key=lambda kind: kind.api_version)}
    return {f"/api{'s' if kinds[0].group else ''}/{version}": kinds for version, kinds in by_version.items()}


def _groups() -> list[dict[str, Any]]:
    versions = {kind.group: kind.version for kind in KINDS if kind.group}
    found = []
    for group, version in versions.items():
        one = {"groupVersion": f"{group}/{version}", "version": version}
        found.append({"name": group, "versions": [one], "preferredVersion": one})
    return found


def _entries(kind: Kind) -> list[dict[str, Any]]:
    verbs = ["create"] if kind.plural == "selfsubjectaccessreviews" else VERBS
    entry: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.kind.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": verbs,
        "shortNames": SHORT.get(kind.plural, []),
    }
    extra = (["status"] if kind.status else []) + (["log"] if kind.plural == "pods" else [])
    return [
        entry,
        *({**entry, "name": f"{kind.plural}/{one}", "verbs": ["get", "patch"], "shortNames": []} for one in extra),
    ]


def _openapi(root: str) -> dict[str, Any]:
    """Return a document in which kubectl finds that the server validates fields and supports dry runs."""
    query = [{"name": name, "in": "query"} for name in ("dryRun", "fieldManager", "fieldValidation", "force")]
    paths = {}
    for kind in _roots()[root]:
        place = f"{root}/namespaces/{{namespace}}" if kind.namespaced else root
        which = {"group": kind.group, "version": kind.version, "kind": kind.kind}
        patch = {"parameters": query, "x-kubernetes-group-version-kind": which, "responses": {}}
        paths[f"{place}/{kind.plural}/{{name}}"] = {"patch": patch}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1"}, "paths": paths, "components": {}}
