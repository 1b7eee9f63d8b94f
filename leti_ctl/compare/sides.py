"""What is compared with what: the artifacts of either side, under names that match."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from leti_ctl import control
from leti_ctl.inventory.catalog import Catalog
from leti_ctl.pipeline import plan
from stages.contract.artifacts import ARTIFACTS, PartRecord, Ref, parse_ref
from stages.contract.errors import UsageError
from stages.contract.run import Run
from stages.contract.spec import RunSpec


class Side:
    """One run, whole or one iteration of it. Names of artifacts are those that the other side has for its own."""

    def __init__(self, run: Run, iteration: int | None = None) -> None:
        self.run, self.iteration = run, iteration
        self.catalog = Catalog(run)
        if iteration is not None and not self.refs:
            self.catalog.need_iteration(iteration, "--iterations")
            raise UsageError(f"--iterations {iteration}: run {run.name} has no complete artifact of it yet")

    @cached_property
    def spec(self) -> RunSpec:
        """The run's spec, amendments included."""
        return control.current_spec(self.run)

    @cached_property
    def refs(self) -> dict[str, Ref]:
        """Complete artifacts by the name they are compared under, in the order in which the graph makes them."""
        order = [ref for unit in plan(self.spec).units for ref in unit.outputs(self.spec)]
        whole = [ref for ref in dict.fromkeys([*order, *self.catalog.refs]) if self.catalog.is_complete(ref)]
        return {self.name(ref): ref for ref in whole if self.iteration is None or ref.iteration == self.iteration}

    def name(self, ref: Ref) -> str:
        """Return an artifact's name; of one iteration, without its number."""
        return str(ref) if self.iteration is None else str(ref._replace(iteration=None))

    def at(self, iteration: int) -> int | None:
        """Return an iteration's number for comparison, None where all that is compared is one."""
        return iteration if self.iteration is None else None

    def contents(self, ref: Ref) -> list[str]:
        """Return the SHA-256 of an artifact's objects in order, those of a folder with their paths within it."""
        return [text for part in self.parts(ref) for text in self.part_contents(part)]

    def parts(self, ref: Ref) -> list[PartRecord]:
        """Return an artifact's part records in order."""
        records = self.catalog.parts[ref]
        return [records[number] for number in sorted(records)]

    def part_contents(self, record: PartRecord) -> list[str]:
        """Return what a part holds, without the keys, which tell the iteration."""
        is_folder = ARTIFACTS[record.artifact].format == "folder"
        return [f"{item.sha256} {record.ref.path(item.key) if is_folder else ''}" for item in record.objects]

    def inputs(self, record: PartRecord) -> Iterator[tuple[str, list[str] | str]]:
        """Yield what a part was made from: its name, and what that holds where it is of this run."""
        for each in record.inputs:
            named = parse_ref(each.ref)
            if named is None:
                yield each.ref, each.sha256
                continue
            ref, part = named
            held = self.catalog.part(ref, part) if part else None
            yield (
                self.name(ref) + (f"#{part}" if part else ""),
                self.part_contents(held) if held else self.contents(ref) if ref in self.catalog.parts else each.sha256,
            )

    def about(self) -> dict[str, Any]:
        """Return which run this is."""
        return {
            "run": self.run.name,
            "uri": self.run.uri,
            "iteration": self.iteration,
            "spec_sha256": self.run.spec_sha256,
        }
