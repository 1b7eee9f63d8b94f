"""What the cluster checks read with: a server, a namespace, and answers that tell "not there" from "not allowed"."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from leti_ctl.backends.argo.api import Api, ApiError
from leti_ctl.backends.argo.submission import open_target
from leti_ctl.config.contexts import Context
from leti_ctl.doctor.report import Check, Finding, Subject, warn

Object = dict[str, Any]


SIDE_BY_SIDE = 4
"""Requests at the same time: as many as the client's connection pool holds on a small machine, with room to spare."""


class Cluster:
    """One API server and the namespace of the runs."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.host = api.host
        self._turns = threading.BoundedSemaphore(SIDE_BY_SIDE)

    def find(self, path: str) -> Object | None:
        """Return an object, or None when there is none; `ApiError` when it may not be read."""
        try:
            with self._turns:
                return self.api.get(path)
        except ApiError as error:
            if error.code != 404:
                raise
            return None

    def items(self, path: str) -> list[Object]:
        """Return every object of a collection."""
        with self._turns:
            return self.api.list(path)[0]

    def own(self, plural: str, name: str = "", *, root: str = "/api/v1") -> str:
        """Return the path of a collection, or an object, of the namespace."""
        return f"{root}/namespaces/{quote(self.namespace)}/{plural}" + (f"/{quote(name)}" if name else "")

    def may(self, verb: str, resource: str, *, group: str = "", sub: str = "") -> bool:
        """Ask whether the user may do something in the namespace."""
        asked = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource, "subresource": sub}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {name: value for name, value in asked.items() if value}},
        }
        with self._turns:
            answer = self.api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer.get("status", {}).get("allowed"))


def reach(context: Context, profile: str | None) -> dict[str, Any]:
    """Return the profile and the cluster that the checks are about, found as `submit` finds them."""
    target = open_target(context, profile)
    return {"profile": target.profile, "cluster": Cluster(target.cluster.api, target.cluster.namespace)}


def readable(name: str, ask: Callable[[Subject], Iterable[Finding]]) -> Check:
    """Return a check that only warns where the user may not read: then nobody can tell."""

    def asked(subject: Subject) -> Iterator[Finding]:
        try:
            yield from ask(subject)
        except ApiError as error:
            if not denied(error):
                raise
            yield warn(f"unknown: {error}", "have somebody who may read it run doctor too")

    return Check(name, asked)


def denied(error: ApiError) -> bool:
    """Whether an error says that the user may not read, and nothing about the cluster."""
    return error.code == 403


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of a version: (4, 1, 2) of `v4.1.2-rc1`; empty for `latest` and digests."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups() if part is not None) if found else ()


def tag(image: str) -> str:
    """Return the tag of an image reference, empty when it has none."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2]
