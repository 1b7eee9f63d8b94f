"""What etcd and the API machinery keep: objects with versions, history, owners, finalizers and graceful deletion."""

from __future__ import annotations

import base64
import copy
import re
import secrets
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from tests.kube.kinds import EVENTS, NAMESPACES, PODS, SECRETS, Kind
from tests.kube.refusals import Refused
from tests.kube.selectors import fields_match, labels_match

Object = dict[str, Any]
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
RBAC_NAME = re.compile(r"[^/%]+")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class Change(NamedTuple):
    """One entry of the history that watches read."""

    version: int
    type: str
    kind: Kind
    item: Object
    before: Object | None


Key = tuple[Kind, str, str]


def now() -> str:
    """Return the time as Kubernetes writes it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Objects:
    """Thread-safe; `changed` is notified at every change. What goes in and comes out is copied."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.history: list[Change] = []
        self.forgotten = 0
        """Watches from before this version are answered with 410 Gone."""
        self._version = 100
        self._items: dict[Key, Object] = {}

    @property
    def version(self) -> int:
        """The resource version of the newest change."""
        return self._version

    def compact(self) -> None:
        """Forget the history, as etcd does every five minutes."""
        with self.changed:
            self.history.clear()
            self.forgotten = self._version
            self.changed.notify_all()

    def create(self, kind: Kind, namespace: str, body: Object, *, dry_run: bool = False) -> Object:
        """Keep a new object; 409 when its name is taken, 404 without its namespace, 422 when it is malformed."""
        with self.changed:
            item = copy.deepcopy(body)
            meta = item.setdefault("metadata", {})
            if kind.namespaced:
                self._check_namespace(kind, namespace)
                meta["namespace"] = namespace
            if not meta.get("name") and meta.get("generateName"):
                meta["name"] = f"{meta['generateName'][:58]}{secrets.token_hex(3)[:5]}"
            self._check_metadata(kind, meta)
            key = (kind, namespace if kind.namespaced else "", meta["name"])
            if key in self._items:
                raise Refused(409, f'{kind.title} "{meta["name"]}" already exists', reason="AlreadyExists")
            meta.update(uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
            meta.pop("resourceVersion", None)
            if kind.status:
                item.pop("status", None) if kind is not PODS else item.update(status={"phase": "Pending"})
            return copy.deepcopy(item) if dry_run else self._put("ADDED", key, item)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return an object; 404 when there is none."""
        with self.changed:
            return copy.deepcopy(self._find(kind, namespace, name))

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object or None."""
        with self.changed:
            item = self._items.get((kind, namespace if kind.namespaced else "", name))
            return copy.deepcopy(item)

    def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = "") -> list[Object]:
        """Return objects sorted by namespace and name."""
        with self.changed:
            found = [
                item
                for (one, space, _), item in sorted(self._items.items(), key=lambda pair: pair[0][1:])
                if one is kind and namespace in (None, space) and selected(kind, item, labels, fields)
            ]
            return copy.deepcopy(found)

    def change(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        edit: Callable[[Object], Object | None],
        *,
        subresource: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Replace an object by what `edit` makes of it (or in it, when it returns None); 409 for a stale version."""
        with self.changed:
            old = self._find(kind, namespace, name)
            draft = copy.deepcopy(old)
            item = edit(draft) or draft
            stated = item.get("metadata", {}).get("resourceVersion")
            if stated not in (None, "", old["metadata"]["resourceVersion"]):
                raise Refused(
                    409,
                    f'Operation cannot be fulfilled on {kind.title} "{name}": the object has been modified; '
                    "please apply your changes to the latest version and try again",
                )
            item = _merge_parts(kind, old, item, subresource)
            self._check_metadata(kind, item["metadata"])
            if dry_run or item == old:
                return copy.deepcopy(item)
            key = (kind, namespace if kind.namespaced else "", name)
            if (
                item["metadata"].get("deletionTimestamp")
                and not item["metadata"].get("finalizers")
                and kind is not PODS
            ):
                return self._remove(key)
            return self._put("MODIFIED", key, item)

    def delete(self, kind: Kind, namespace: str, name: str, *, grace: int | None = None, uid: str = "") -> Object:
        """Remove an object and what it owns. A pod on a node is only marked: its kubelet removes it, with grace 0."""
        with self.changed:
            item = self._find(kind, namespace, name)
            meta = item["metadata"]
            if uid and uid != meta["uid"]:
                raise Refused(
                    409, f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}"
                )
            key = (kind, namespace if kind.namespaced else "", name)
            runs = (
                kind is PODS and item["spec"].get("nodeName") and item["status"].get("phase") in ("Pending", "Running")
            )
            if (runs and grace != 0) or meta.get("finalizers"):
                if "deletionTimestamp" in meta:
                    return copy.deepcopy(item)
                draft = copy.deepcopy(item)
                default = item["spec"].get("terminationGracePeriodSeconds", 30) if runs else 0
                seconds = default if grace is None else grace
                draft["metadata"].update(deletionTimestamp=now(), deletionGracePeriodSeconds=seconds)
                return self._put("MODIFIED", key, draft)
            return self._remove(key)

    def _remove(self, key: Key) -> Object:
        item = self._items.pop(key)
        self._note("DELETED", key[0], item, item)
        for kind, namespace, name in [key for key, other in self._items.items() if _owns(item, other)]:
            self.delete(kind, namespace, name)
        return copy.deepcopy(item)

    def _find(self, kind: Kind, namespace: str, name: str) -> Object:
        item = self._items.get((kind, namespace if kind.namespaced else "", name))
        if item is None:
            raise Refused(404, f'{kind.title} "{name}" not found')
        return item

    def _put(self, type: str, key: Key, item: Object) -> Object:
        if key[0] is SECRETS and "stringData" in item:
            plain = item.pop("stringData")
            encoded = {name: base64.b64encode(value.encode()).decode() for name, value in plain.items()}
            item["data"] = {**item.get("data", {}), **encoded}
        before = self._items.get(key)
        self._items[key] = item
        self._note(type, key[0], item, before)
        return copy.deepcopy(item)

    def _note(self, type: str, kind: Kind, item: Object, before: Object | None) -> None:
        self._version += 1
        item["metadata"]["resourceVersion"] = str(self._version)
        self.history.append(Change(self._version, type, kind, copy.deepcopy(item), copy.deepcopy(before)))
        self.changed.notify_all()

    def _check_namespace(self, kind: Kind, namespace: str) -> None:
        if kind is not EVENTS and (NAMESPACES, "", namespace) not in self._items:
            raise Refused(404, f'namespaces "{namespace}" not found')

    def _check_metadata(self, kind: Kind, meta: Object) -> None:
        name = meta.get("name")
        if not name:
            raise Refused(
                422, f'{kind.kind} "" is invalid: metadata.name: Required value: name or generateName is required'
            )
        allowed = RBAC_NAME if "rbac" in kind.group else NAME
        limit = 63 if kind.plural in ("namespaces", "services", "jobsets") else 253
        if not allowed.fullmatch(name) or len(name) > limit:
            raise Refused(422, f'{kind.kind} "{name}" is invalid: metadata.name: Invalid value: "{name}"')
        for key, value in (meta.get("labels") or {}).items():
            if not isinstance(value, str) or not LABEL_KEY.fullmatch(key) or not LABEL_VALUE.fullmatch(value):
                raise Refused(422, f'{kind.kind} "{name}" is invalid: metadata.labels: Invalid value: {key}={value!r}')
        for key, value in (meta.get("annotations") or {}).items():
            if not isinstance(value, str):
                raise Refused(
                    400, f"json: cannot unmarshal annotation {key} = {value!r} into Go struct field of type string"
                )


def selected(kind: Kind, item: Object, labels: str, fields: str) -> bool:
    """Whether both selectors match."""
    return labels_match(labels, item["metadata"].get("labels") or {}) and fields_match(fields, kind, item)


def _merge_parts(kind: Kind, old: Object, new: Object, subresource: str) -> Object:
    """Take from `new` what the endpoint may change; count a generation when the spec changed."""
    item = copy.deepcopy(new)
    if kind.status and subresource != "status" and subresource != "all":
        item["status"] = copy.deepcopy(old.get("status", {}))
        item.pop("status") if "status" not in old else None
    elif subresource == "status":
        item = {**copy.deepcopy(old), "status": item.get("status", {})}
    fixed = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "namespace", "name", "resourceVersion")
    meta = item.setdefault("metadata", {})
    meta.update({key: old["metadata"][key] for key in fixed if key in old["metadata"]})
    if item.get("spec") != old.get("spec"):
        meta["generation"] = old["metadata"]["generation"] + 1
    return item


def _owns(owner: Object, other: Object) -> bool:
    references = other["metadata"].get("ownerReferences") or []
    return bool(references) and any(one["uid"] == owner["metadata"]["uid"] for one in references)
