"""Requests for resources: which verb on which object, and what the server makes of it."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from tests.kube import patches
from tests.kube.kinds import PODS, Kind, find_kind
from tests.kube.objects import Object, Objects
from tests.kube.refusals import Refused
from tests.kube.strict import faults
from tests.kube.watches import Watch

PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?/?"
)
MANAGED = "tests.leti.dev/applied-by-"
LISTED = {"labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch"}
WATCHED = {"watch", "timeoutSeconds", "allowWatchBookmarks", "sendInitialEvents"}
LOGGED = {"container", "follow", "tailLines", "limitBytes", "timestamps", "sinceSeconds", "sinceTime", "previous"}
WRITTEN = {"dryRun", "fieldManager", "fieldValidation", "force"}
DELETED = {"gracePeriodSeconds", "propagationPolicy", "orphanDependents", "dryRun"}
KNOWN = LISTED | WATCHED | LOGGED | WRITTEN | DELETED | {"pretty", "timeout"}
TRUE = ("true", "True", "1")


@dataclass
class Request:
    """One request, read whole."""

    method: str
    path: str
    query: dict[str, str]
    data: bytes
    content_type: str
    token: str | None

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") in TRUE

    @property
    def is_dry(self) -> bool:
        return "dryRun" in self.query

    def body(self) -> Any:
        """Return the decoded body; 400 when it is none."""
        try:
            return yaml.safe_load(self.data) if self.content_type.endswith("yaml") else json.loads(self.data or b"{}")
        except ValueError as error:
            raise Refused(400, f"couldn't decode the body: {error}") from error


class Reply(NamedTuple):
    """An answer, or the source of a stream of them."""

    code: int
    body: Any
    watch: Watch | None = None
    follow_log: tuple[Object, str] | None = None


class Route(NamedTuple):
    """What a path names."""

    kind: Kind
    namespace: str | None
    name: str | None
    sub: str | None


def route(path: str) -> Route | None:
    """Return what a path names, or None for paths outside the resources."""
    found = PATH.fullmatch(path)
    if found is None:
        return None
    kind = find_kind(found["group"] or "", found["core"] or found["version"], found["plural"])
    return Route(kind, found["namespace"], found["name"], found["sub"]) if kind else None


class Resources:
    """Carries out one request on one resource."""

    def __init__(
        self, objects: Objects, request: Request, found: Route, denied: set[tuple[str, str]], argo: str
    ) -> None:
        self.objects, self.request, self.argo, self.denied = objects, request, argo, denied
        self.kind, self.namespace, self.name, self.sub = found

    def answer(self) -> Reply:
        """Return the reply; what is wrong with the request is raised."""
        unknown = self.request.query.keys() - KNOWN
        if unknown:
            raise Refused(400, f"unknown query parameters {sorted(unknown)}")
        if self.kind.plural == "selfsubjectaccessreviews":
            return self._review()
        verb = self._verb()
        resource = f"{self.kind.title}/{self.sub}" if self.sub else self.kind.title
        if (verb, resource) in self.denied:
            said = f'{resource} is forbidden: User "tester" cannot {verb} resource "{resource}" in API group '
            raise Refused(403, f'{said}"{self.kind.group}" in the namespace "{self.namespace}"')
        if self.sub and not ((self.sub == "status" and self.kind.status) or (self.sub == "log" and self.kind is PODS)):
            raise Refused(404, "the server could not find the requested resource")
        reply: Reply = getattr(self, f"_{verb}")()
        return reply

    def _verb(self) -> str:
        if self.request.method == "GET":
            if self.request.is_watch:
                return "watch"
            return "log" if self.sub == "log" else "get" if self.name else "list"
        if self.request.method == "DELETE":
            return "delete" if self.name else "deletecollection"
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch"}
        if (self.request.method == "POST") == (self.name is not None):
            raise Refused(405, "the server does not allow this method on the requested resource")
        return verbs[self.request.method]

    def _get(self) -> Reply:
        return Reply(200, self.objects.get(self.kind, self.namespace or "", self.name or ""))

    def _list(self) -> Reply:
        query = self.request.query
        with self.objects.changed:
            version = self.objects.version
            items = self._selected()
        start = self._position(query.get("continue", ""))
        limit = int(query.get("limit") or 0) or len(items)
        meta: dict[str, Any] = {"resourceVersion": str(version)}
        if start + limit < len(items):
            token = json.dumps({"at": start + limit, "rv": version}).encode()
            meta.update(
                {"continue": base64.b64encode(token).decode(), "remainingItemCount": len(items) - start - limit}
            )
        bare = [{key: item[key] for key in item if key not in ("apiVersion", "kind")} for item in items]
        page = (items if self.kind.is_custom else bare)[start : start + limit]
        kind = f"{self.kind.kind}List"
        return Reply(200, {"apiVersion": self.kind.api_version, "kind": kind, "metadata": meta, "items": page})

    def _selected(self) -> list[Object]:
        labels, fields = (self.request.query.get(f"{what}Selector", "") for what in ("label", "field"))
        return self.objects.list(self.kind, self.namespace, labels=labels, fields=fields)

    def _position(self, token: str) -> int:
        if not token:
            return 0
        place: dict[str, int] = json.loads(base64.b64decode(token))
        if place["rv"] < self.objects.forgotten:
            raise Refused(410, "The provided continue parameter is too old to display a consistent list result.")
        return place["at"]

    def _watch(self) -> Reply:
        query = dict(self.request.query)
        if self.name:
            query["fieldSelector"] = f"metadata.name={self.name}"
        return Reply(200, None, watch=Watch(self.objects, self.kind, self.namespace, query))

    def _log(self) -> Reply:
        pod = self.objects.get(PODS, self.namespace or "", self.name or "")
        names = [one["name"] for part in ("initContainers", "containers") for one in pod["spec"].get(part, [])]
        wanted = self.request.query.get("container")
        if wanted is None and len(pod["spec"]["containers"]) > 1:
            raise Refused(
                400, f"a container name must be specified for pod {self.name}, choose one of: [{' '.join(names)}]"
            )
        container = wanted or pod["spec"]["containers"][0]["name"]
        if container not in names:
            raise Refused(400, f"container {container} is not valid for pod {self.name}")
        if self.request.query.get("previous") in TRUE:
            raise Refused(400, f'previous terminated container "{container}" in pod "{self.name}" not found')
        states = {one["name"]: one["state"] for one in pod["status"].get("containerStatuses", [])}
        waiting = states.get(container, {"waiting": {"reason": "ContainerCreating"}}).get("waiting")
        if waiting:
            why = {
                "ErrImagePull": "trying and failing to pull image",
                "ImagePullBackOff": "trying and failing to pull image",
            }
            reason = why.get(waiting["reason"], f"waiting to start: {waiting['reason']}")
            raise Refused(400, f'container "{container}" in pod "{self.name}" is {reason}')
        return Reply(200, None, follow_log=(pod, container))

    def _create(self) -> Reply:
        body = self.request.body()
        self._check(body)
        made = self.objects.create(self.kind, self.namespace or "", body, dry_run=self.request.is_dry)
        return Reply(201, made)

    def _update(self) -> Reply:
        body = self.request.body()
        self._check(body)
        return Reply(200, self._change(lambda _: body))

    def _patch(self) -> Reply:
        style = self.request.content_type
        if style == "application/apply-patch+yaml":
            return self._apply()
        if style == "application/strategic-merge-patch+json" and self.kind.is_custom:
            raise Refused(415, "the body of the request was in an unknown format - accepted media types include: "
                               "application/json-patch+json, application/merge-patch+json, "
                               "application/apply-patch+yaml")  # fmt: skip
        ways = {
            "application/merge-patch+json": patches.merge,
            "application/strategic-merge-patch+json": patches.strategic,
            "application/json-patch+json": patches.json_patch,
        }
        if style not in ways:
            raise Refused(415, f"the body of the request was in an unknown format: {style!r}")
        patch = self.request.body()

        def edit(old: Object) -> Object:
            new: Object = ways[style](old, patch)
            self._check(new)
            return new

        return Reply(200, self._change(edit))

    def _apply(self) -> Reply:
        """Server-side apply: create, or merge what this manager wants and drop what it no longer does."""
        wanted = self.request.body()
        self._check(wanted)
        key = MANAGED + self.request.query["fieldManager"]
        mark = {key: json.dumps(wanted, sort_keys=True)}

        def edit(old: Object) -> Object:
            last = (old["metadata"].get("annotations") or {}).get(key)
            new = patches.apply(old, wanted, json.loads(last) if last else None)
            new["metadata"].setdefault("annotations", {}).update(mark)
            return new

        if self.objects.find(self.kind, self.namespace or "", self.name or "") is None:
            body = patches.merge(wanted, {"metadata": {"annotations": mark}})
            return Reply(201, self.objects.create(self.kind, self.namespace or "", body, dry_run=self.request.is_dry))
        return Reply(200, self._change(edit))

    def _change(self, edit: Any) -> Object:
        where = (self.kind, self.namespace or "", self.name or "")
        return self.objects.change(*where, edit, subresource=self.sub or "", dry_run=self.request.is_dry)

    def _delete(self) -> Reply:
        where = (self.kind, self.namespace or "", self.name or "")
        if self.request.is_dry:
            return Reply(200, self.objects.get(*where))
        options = self.request.body() or {}
        grace = options.get("gracePeriodSeconds", self.request.query.get("gracePeriodSeconds"))
        uid = (options.get("preconditions") or {}).get("uid", "")
        gone = self.objects.delete(*where, grace=None if grace is None else int(grace), uid=uid)
        if self.kind is PODS:
            return Reply(200, gone)
        details = {"name": self.name, "kind": self.kind.plural, "uid": gone["metadata"]["uid"]}
        return Reply(
            200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    def _deletecollection(self) -> Reply:
        items = self._selected()
        for item in items if not self.request.is_dry else []:
            self.objects.delete(self.kind, self.namespace or "", item["metadata"]["name"])
        return Reply(
            200, {"apiVersion": self.kind.api_version, "kind": f"{self.kind.kind}List", "metadata": {}, "items": items}
        )

    def _check(self, body: Any) -> None:
        """Refuse what is not an object of this kind and place, and with strict validation what has unknown fields."""
        if (
            not isinstance(body, dict)
            or body.get("kind") != self.kind.kind
            or body.get("apiVersion") != self.kind.api_version
        ):
            stated = f"{body.get('apiVersion')}/{body.get('kind')}" if isinstance(body, dict) else repr(body)
            raise Refused(400, f"the object provided ({stated}) is not a {self.kind.api_version}/{self.kind.kind}")
        meta = body.get("metadata") or {}
        if self.name and meta.get("name", self.name) != self.name:
            raise Refused(
                400, f"the name of the object ({meta['name']}) does not match the name on the URL ({self.name})"
            )
        if self.kind.namespaced and meta.get("namespace", self.namespace) != self.namespace:
            raise Refused(400, "the namespace of the provided object does not match the namespace sent on the request")
        if self.request.query.get("fieldValidation", "Warn" if self.kind.is_custom else "Strict") == "Strict":
            wrong = faults(self.kind, body, self.argo)
            if wrong:
                name = f'"{meta.get("name", "")}"'
                raise Refused(
                    400, f"{self.kind.kind} in version {self.kind.version!r} {name} cannot be handled: {wrong[0]}"
                )

    def _review(self) -> Reply:
        body = self.request.body()
        asked = body["spec"]["resourceAttributes"]
        title = f"{asked['resource']}.{asked['group']}" if asked.get("group") else asked["resource"]
        title += f"/{asked['subresource']}" if asked.get("subresource") else ""
        allowed = (asked["verb"], title) not in self.denied
        return Reply(
            201, {**body, "status": {"allowed": allowed, **({} if allowed else {"reason": "RBAC: not allowed"})}}
        )
