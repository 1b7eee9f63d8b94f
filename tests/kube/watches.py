"""Watches: the history of a kind from a version on, seen through selectors."""

from __future__ import annotations

from typing import Any

from tests.kube.kinds import Kind
from tests.kube.objects import Change, Object, Objects, selected
from tests.kube.refusals import Refused

Event = tuple[str, Object]


class Watch:
    """Reads changes after a resource version; without one it begins with what exists."""

    def __init__(self, objects: Objects, kind: Kind, namespace: str | None, query: dict[str, str]) -> None:
        self.objects, self.kind, self.namespace = objects, kind, namespace
        self.labels, self.fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        self.initial = query.get("sendInitialEvents") in ("true", "True", "1")
        stated = query.get("resourceVersion", "")
        self.from_now = stated in ("", "0") or self.initial
        self.seen = 0 if self.from_now else int(stated)

    def first(self) -> list[Event]:
        """Return what exists, for a watch that names no version; the end of it is marked where the client asked so."""
        if not self.from_now:
            return []
        with self.objects.changed:
            self.seen = self.objects.version
            items = self.objects.list(self.kind, self.namespace, labels=self.labels, fields=self.fields)
        events = [("ADDED", item) for item in items]
        if self.initial:
            mark = self.bookmark()
            mark["metadata"]["annotations"] = {"k8s.io/initial-events-end": "true"}
            events.append(("BOOKMARK", mark))
        return events

    def next(self) -> list[Event]:
        """Return what changed since; an ERROR event with 410 when that is forgotten."""
        if self.seen < self.objects.forgotten:
            gone = Refused(410, f"too old resource version: {self.seen} ({self.objects.forgotten})")
            return [("ERROR", gone.as_status())]
        changes = [change for change in self.objects.history if change.version > self.seen]
        self.seen = self.objects.version
        return [event for change in changes if (event := self._event(change))]

    def bookmark(self) -> dict[str, Any]:
        """Return an object that says nothing but how far the watch has come."""
        meta: dict[str, Any] = {"resourceVersion": str(self.seen)}
        return {"apiVersion": self.kind.api_version, "kind": self.kind.kind, "metadata": meta}

    def _event(self, change: Change) -> Event | None:
        """Return a change as this watch sees it: what enters or leaves the selection was added or deleted."""
        namespace = change.item["metadata"].get("namespace")
        if change.kind is not self.kind or self.namespace not in (None, namespace):
            return None
        was = change.before is not None and selected(self.kind, change.before, self.labels, self.fields)
        is_now = change.type != "DELETED" and selected(self.kind, change.item, self.labels, self.fields)
        if was and is_now:
            return "MODIFIED", change.item
        if is_now:
            return "ADDED", change.item
        return ("DELETED", change.item) if was else None
