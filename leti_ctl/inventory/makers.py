"""Who made parts, and with what, as their records say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stages.contract.artifacts import PartRecord

ENVIRONMENT = {"images": "image", "packages": "packages", "python": "python"}
"""What is told of the environments of several parts, and what a single record calls it."""


def makers(records: Iterable[PartRecord], environment: Mapping[str, str] = ENVIRONMENT) -> dict[str, list[str]]:
    """Return versions of the stages (`code`), machines (`hosts`) and what `environment` names, each sorted, once."""
    records = list(records)
    return {
        "code": sorted({record.code for record in records}),
        **{
            name: sorted({found for record in records if (found := record.made.environment.get(key))})
            for name, key in environment.items()
        },
        "hosts": sorted({record.made.host for record in records}),
    }
