"""Variables of a Workflow manifest: `{{name}}` and `{{= expression }}` in every string of a template."""

from __future__ import annotations

import re
from typing import Any

from tests.kube.expressions import Scope, Unresolved, as_text, evaluate

TAG = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


def substitute(value: Any, scope: Scope, *, keep: bool = False) -> Any:
    """Return `value` with every tag replaced; `keep` leaves those whose names are not in scope yet."""
    if isinstance(value, dict):
        return {key: substitute(item, scope, keep=keep) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, scope, keep=keep) for item in value]
    if not isinstance(value, str):
        return value

    def replace(tag: re.Match[str]) -> str:
        try:
            return resolve(tag[1], scope)
        except Unresolved as missing:
            if keep:
                return tag[0]
            raise Unresolved(f"failed to resolve {tag[0]}: {missing} is not in scope") from None

    return TAG.sub(replace, value)


def resolve(tag: str, scope: Scope) -> str:
    """Return the text of one tag."""
    if tag.startswith("="):
        return as_text(evaluate(tag[1:], scope))
    name = tag.strip()
    if name not in scope:
        raise Unresolved(name)
    return as_text(scope[name])


def parameters(prefix: str, listed: list[dict[str, Any]] | None) -> dict[str, str]:
    """Return `{prefix}.NAME` for a list of name and value; a value that is no string is an error, as with full CRDs."""
    found = {}
    for one in listed or []:
        if "value" in one:
            if not isinstance(one["value"], str):
                raise TypeError(f"parameter {one['name']}: {one['value']!r} must be a string")
            found[f"{prefix}.{one['name']}"] = one["value"]
    return found
