"""The JSON Schemas of everything a run stores, as published in `schemas/` for whoever reads a store without leti.

`python -m stages.contract.schemas` writes them again; a test holds them to the classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.contract.artifacts import ARTIFACTS, FORMAT, Index, MidStage, PartRecord
from stages.contract.spec import RunSpec

FOLDER = Path(__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def documents() -> dict[str, type[BaseModel]]:
    """Return the class behind every schema, by file stem."""
    rows = {name: artifact.record for name, artifact in ARTIFACTS.items() if artifact.record is not None}
    return {"spec": RunSpec, "part": PartRecord, "index": Index, "midstage": MidStage, **rows}


def schema(name: str) -> dict[str, Any]:
    """Return one schema; `KeyError` for a name that has none."""
    return schema_of(documents()[name])


def schema_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of a class."""
    return {"$schema": DIALECT, "$comment": f"leti artifact format {FORMAT}", **kind.model_json_schema()}


def write(folder: Path = FOLDER) -> None:
    """Write every schema to a folder, two-space indented."""
    folder.mkdir(exist_ok=True)
    for name in documents():
        (folder / f"{name}.json").write_text(json.dumps(schema(name), indent=2) + "\n")


if __name__ == "__main__":
    write()
