"""Semantic lint of Argo objects: what no schema sees and a cluster tells too late, or never.

Each rule is a function in `rules/` whose name is the rule's name and whose docstring says what holds; the module a rule
stands in says what it is about. A finding is one line with the path in the YAML and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from leti_ctl.backends.argo.check import check_structure
from leti_ctl.backends.argo.rules import flow, jobset, objects, pods, security, variables
from leti_ctl.backends.argo.rules.manifest import Manifest, Rule

RULES: dict[str, Rule] = {
    rule.__name__.replace("_", "-"): rule
    for module in (objects, flow, variables, pods, security, jobset)
    for rule in module.RULES
}
KINDS = ("Workflow", "WorkflowTemplate")
STRUCTURE = "structure"
"""The name under which `check_structure` appears among the rules."""


class Finding(NamedTuple):
    """One line of a lint: the rule broken, by which object, where and what to do."""

    rule: str
    object: str
    path: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.object}: {self.path}: {self.what}; {self.remedy} [{self.rule}]"


def lint(objects: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """Return what is wrong with the Workflows and WorkflowTemplates among `objects`, which may refer to one another.

    An object whose structure is wrong is told so and nothing else: the rules read what the structure promises.
    """
    sound: list[Mapping[str, Any]] = []
    found: list[Finding] = []
    for body in (body for body in objects if body.get("kind") in KINDS):
        lines = check_structure(body)
        found += [_structural(body, line) for line in lines]
        sound += [] if lines else [body]
    templates = {str(body["metadata"].get("name")): Manifest(body) for body in sound if body["kind"] == KINDS[1]}
    return found + [finding for body in sound for finding in _broken(Manifest(body, templates))]


def _broken(manifest: Manifest) -> list[Finding]:
    """Return the findings of all rules; a rule that cannot read what a resource template creates says so."""
    found: list[Finding] = []
    for name, rule in RULES.items():
        try:
            found += [Finding(name, manifest.title, *problem) for problem in rule(manifest)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            what = f"this rule cannot read it ({type(error).__name__}: {error})"
            found.append(Finding(name, manifest.title, "spec.templates", what, "correct the manifest in a resource"))
    return found


def _structural(body: Mapping[str, Any], line: str) -> Finding:
    path, _, rest = line.partition(": ")
    what, _, remedy = rest.rpartition("; ")
    return Finding(STRUCTURE, Manifest(body).title, path, what, remedy)
