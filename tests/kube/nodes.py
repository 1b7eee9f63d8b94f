"""Nodes of a Workflow: the tree that Argo keeps in `status.nodes`, its names, phases and child links."""

from __future__ import annotations

import base64
import gzip
import json
import re

from tests.kube.objects import Object, now

DONE = ("Succeeded", "Failed", "Error", "Skipped", "Omitted")
COMPLETED = ("Succeeded", "Failed", "Error")
BAD = ("Failed", "Error")


class ManifestError(Exception):
    """The manifest holds what this controller does not know, or what Argo would refuse."""


def known(where: str, found: Object, *names: str) -> None:
    """Refuse fields that nothing here would act on: to ignore them is to pass tests for the wrong reason."""
    unknown = found.keys() - set(names)
    if unknown:
        raise ManifestError(f"{where}: the fake controller does not know {sorted(unknown)}")


def fnv(text: str) -> int:
    """Return the 32-bit FNV-1a hash, from which Argo makes node ids and pod names."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def is_done(node: Object | None) -> bool:
    """Whether a node exists and will not change."""
    return node is not None and node["phase"] in DONE


class Nodes:
    """The nodes of one workflow by id; reads and writes the two forms in which status holds them."""

    def __init__(self, workflow: Object) -> None:
        self.workflow_name: str = workflow["metadata"]["name"]
        status = workflow.get("status", {})
        packed = status.get("compressedNodes")
        self.by_id: dict[str, Object] = (
            json.loads(gzip.decompress(base64.b64decode(packed))) if packed else dict(status.get("nodes") or {})
        )

    def pack(self, *, compressed: bool) -> Object:
        """Return the fields of status; large workflows have them compressed."""
        if compressed:
            data = base64.b64encode(gzip.compress(json.dumps(self.by_id).encode())).decode()
            return {"compressedNodes": data, "nodes": None}
        return {"nodes": self.by_id}

    def id_of(self, name: str) -> str:
        return name if name == self.workflow_name else f"{self.workflow_name}-{fnv(name)}"

    def find(self, name: str) -> Object | None:
        return self.by_id.get(self.id_of(name))

    def pod_name(self, node: Object) -> str:
        """Return the name of a node's pod: WORKFLOW-TEMPLATE-HASH."""
        if node["name"] == self.workflow_name:
            return self.workflow_name
        return f"{self.workflow_name}-{node['templateName']}"[:242] + f"-{fnv(node['name'])}"

    def start(self, name: str, type: str, template: str, boundary: str, *, phase: str, message: str = "") -> Object:
        """Add a node."""
        node = {
            "id": self.id_of(name),
            "name": name,
            "displayName": self._display(name, boundary),
            "type": type,
            "phase": phase,
            "startedAt": now(),
            "finishedAt": now() if phase in DONE else None,
            "progress": "0/1",
        }
        node.update({key: value for key, value in (("templateName", template), ("boundaryID", boundary)) if value})
        node.update({"message": message} if message else {})
        self.by_id[node["id"]] = node
        return node

    def _display(self, name: str, boundary: str) -> str:
        """Return the part of a name that is a node's own, without its boundary's and the group of a step."""
        outer = self.by_id[boundary]["name"] if boundary else ""
        return re.sub(r"^(\[\d+\])?\.", "", name.removeprefix(outer))

    def mark(self, node: Object, phase: str, message: str = "") -> Object:
        """Move a node to a phase."""
        if phase in DONE and node["phase"] not in DONE:
            node["finishedAt"] = now()
            node["progress"] = "1/1" if phase == "Succeeded" else node["progress"]
        node["phase"] = phase
        if message or phase == "Succeeded":
            node["message"] = message
        if not node.get("message"):
            node.pop("message", None)
        return node

    def link(self, parent: str, child: str) -> None:
        """Make one node the child of another, by name."""
        children = self.by_id[self.id_of(parent)].setdefault("children", [])
        if self.id_of(child) not in children:
            children.append(self.id_of(child))

    def outbound(self, node: Object) -> list[str]:
        """Return the names of the nodes at which a node ends, to which what comes after is linked."""
        children = [self.by_id[child] for child in node.get("children", []) if child in self.by_id]
        if node["type"] == "Retry":
            return self.outbound(children[-1]) if children else [node["name"]]
        if node["type"] == "TaskGroup":
            return [name for child in children for name in self.outbound(child)] or [node["name"]]
        if node["type"] in ("DAG", "Steps"):
            return [self.by_id[one]["name"] for one in node.get("outboundNodes", [])] or [node["name"]]
        return [node["name"]]
