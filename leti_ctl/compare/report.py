"""The whole comparison as one JSON shape."""

from __future__ import annotations

from typing import Any

from leti_ctl.compare import divergence, rows, surroundings, verdicts
from leti_ctl.compare.sides import Side
from stages.contract.errors import UsageError


def compare(one: Side, other: Side, *, artifact: str | None = None, limit: int = 1) -> dict[str, Any]:
    """Return everything that differs. `same` is about data and the spec's fields that decide it: hosts and times differ
    between any two runs, and other code that makes the same bytes is no difference either.

    `artifact` and `limit` choose whose rows are shown, and how many; by default the first of the artifact where the
    sides part. `UsageError` where one of the sides does not have that artifact, or neither has any.
    """
    artifacts = divergence.compare(one, other)
    if not artifacts:
        raise UsageError(
            f"runs {one.run.name} and {other.run.name} have committed nothing yet; there is nothing to compare"
        )
    fields = surroundings.spec(one.spec, other.spec)
    parted = divergence.first(one, other, artifacts)
    shown = _shown(artifact, artifacts) if artifact else parted and parted["artifact"]
    findings = [each._asdict() for side in (one, other) for each in side.catalog.findings if each.level == "error"]
    return {
        "sides": [one.about(), other.about()],
        "same": not findings
        and all(row["state"] in ("same", "divided") for row in artifacts)
        and all(each["compatible"] for each in fields),
        "spec": fields,
        "environment": surroundings.environment(one, other),
        "artifacts": artifacts,
        "parted": parted,
        "rows": {"artifact": shown, "differing": rows.differing(one, other, shown, limit)} if shown else None,
        "verdicts": list(verdicts.compare(one, other)),
        "method": verdicts.METHOD,
        "findings": findings,
    }


def _shown(name: str, artifacts: list[dict[str, Any]]) -> str:
    row = next((each for each in artifacts if each["artifact"] == name), None)
    if row is None or row["state"].startswith("only"):
        known = ", ".join(each["artifact"] for each in artifacts[:3])
        where = "neither side has" if row is None else f"only {row['state'][5:]} has"
        raise UsageError(f"--artifact {name!r}: {where} it; both have {known} ...")
    return name
