"""Label and field selectors, as list and watch requests carry them."""

from __future__ import annotations

import re
from typing import Any

from tests.kube.kinds import Kind
from tests.kube.refusals import Refused

_SET = re.compile(r"(?P<key>[\w./-]+)\s+(?P<how>in|notin)\s*\((?P<values>[^)]*)\)\s*(?:,|$)")
_EQUAL = re.compile(r"(?P<key>[\w./-]+)\s*(?P<how>==|=|!=)\s*(?P<values>[\w.-]*)\s*(?:,|$)")
_EXISTS = re.compile(r"(?P<how>!?)\s*(?P<key>[\w./-]+)\s*(?:,|$)")

FIELDS: dict[str, tuple[str, ...]] = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase"),
    "events": ("involvedObject.kind", "involvedObject.name", "involvedObject.uid", "reason", "type"),
    "secrets": ("type",),
}
"""Fields one may select by, beside name and namespace, which every kind has."""


def labels_match(selector: str, labels: dict[str, str]) -> bool:
    """Whether labels satisfy every requirement; 400 for a selector that does not parse."""
    rest = selector.strip()
    while rest:
        found = _SET.match(rest) or _EQUAL.match(rest) or _EXISTS.match(rest)
        if found is None:
            raise Refused(400, f"unable to parse requirement: {selector!r}")
        if not _holds(found.groupdict(), labels):
            return False
        rest = rest[found.end() :].strip()
    return True


def _holds(requirement: dict[str, str], labels: dict[str, str]) -> bool:
    key, how = requirement["key"], requirement["how"]
    if "values" not in requirement:
        return (key in labels) != (how == "!")
    values = {value.strip() for value in requirement["values"].split(",")}
    if how in ("in", "=", "=="):
        return labels.get(key) in values
    return labels.get(key) not in values


def fields_match(selector: str, kind: Kind, item: dict[str, Any]) -> bool:
    """Whether fields have the values asked for; 400 for a field that the kind cannot be selected by."""
    for requirement in filter(None, selector.split(",")):
        field, how, value = re.split(r"(==|!=|=)", requirement, maxsplit=1)
        if field not in ("metadata.name", "metadata.namespace", *FIELDS.get(kind.plural, ())):
            raise Refused(400, f"field label not supported: {field}")
        found: Any = item
        for name in field.split("."):
            found = found.get(name, {}) if isinstance(found, dict) else {}
        if ((found or "") == value) == (how == "!="):
            return False
    return True
