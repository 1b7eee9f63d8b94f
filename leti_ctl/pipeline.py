"""THE graph: which stage runs on what, after what. Both backends read it; neither adds an edge of its own.

```
 prepare ─┬─► generate(train) ─► execute(train) ─┬─► build ─► train ─► next iteration
          │                                      └─► evaluate(train)
          └─► generate(test)  ─► execute(test)  ───► evaluate(test)
```

Iteration i generates with checkpoint i and trains checkpoint i+1. Between generate and execute the edge joins equal
parts, so part 0 executes while part 1 still generates. Held-out passes hang off the checkpoint alone, beside the
training chain; after the last training they run once more, for the model it left. A run with `stop.patience` has one
edge more: an iteration's training chain waits for the held-out passes of the iteration before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from stages.contract.artifacts import Part, Ref
from stages.contract.flow import StageName, division, outputs
from stages.contract.run import Run
from stages.contract.spec import Pass, RunSpec

Join = Literal["part", "all", "previous"]
"""Which units of the other node an edge waits for: the same part, all of them, or all in the iteration before."""
Scope = Literal["run", "train", "held_out", "iteration"]
"""What a node is repeated for: once, the training pass, each held-out pass, each iteration."""
Load = Literal["accelerator", "sandbox", "light"]
"""What a unit keeps busy, which decides what may run beside it and on which node pool."""


class Edge(NamedTuple):
    """`node` must have succeeded before, as `join` says."""

    node: str
    join: Join


class Node(NamedTuple):
    """One use of a stage in the graph."""

    name: str
    stage: StageName
    scope: Scope
    after: tuple[Edge, ...]
    load: Load


GRAPH: tuple[Node, ...] = (
    Node("prepare", "prepare", "run", (), "light"),
    Node("generate-train", "generate", "train", (Edge("prepare", "all"), Edge("train", "previous")), "accelerator"),
    Node("execute-train", "execute", "train", (Edge("generate-train", "part"),), "sandbox"),
    Node("evaluate-train", "evaluate", "train", (Edge("execute-train", "all"),), "light"),
    Node("build", "build", "iteration", (Edge("execute-train", "all"),), "light"),
    Node("generate-test", "generate", "held_out", (Edge("prepare", "all"), Edge("train", "previous")), "accelerator"),
    Node("execute-test", "execute", "held_out", (Edge("generate-test", "part"),), "sandbox"),
    Node("evaluate-test", "evaluate", "held_out", (Edge("execute-test", "all"),), "light"),
    Node("train", "train", "iteration", (Edge("prepare", "all"), Edge("build", "all"), Edge("train", "previous")),
         "accelerator"),
)  # fmt: skip


HELD_OUT = frozenset(node.name for node in GRAPH if node.scope == "held_out")
"""Nodes that score a checkpoint and that nothing trained depends on."""

PATIENT = Edge("evaluate-test", "previous")
"""What `generate-train` and `train` wait for besides, when the spec sets `stop.patience`."""


def edges(node: Node, spec: RunSpec) -> tuple[Edge, ...]:
    """Return what a node waits for in a run with this spec."""
    waits = spec.stop.patience is not None and node.name in ("generate-train", "train")
    return (*node.after, PATIENT) if waits else node.after


class Unit(NamedTuple):
    """One command: a stage on one iteration, pass and part. Hashable; its `id` names logs and rows."""

    node: str
    stage: StageName
    iteration: int
    split: str
    part: Part
    load: Load
    rank: tuple[int, int, int]
    """Order in which units that could all start do start: iteration, place in the graph, part."""

    @property
    def id(self) -> str:
        """`0003-generate-train-00001-of-00004`; `prepare` for the unit that has no coordinates."""
        if self.stage == "prepare":
            return "prepare"
        split = f"-{self.split}" if self.node not in ("build", "train") else ""
        return f"{self.iteration:04d}-{self.stage}{split}-{self.part.stem}"

    @property
    def label(self) -> str:
        """The same for people: `iteration 3 · generate train · part 1 of 4`."""
        if self.stage == "prepare":
            return "prepare"
        split = f" {self.split}" if self.node not in ("build", "train") else ""
        part = f" · part {self.part.number + 1} of {self.part.of}" if self.part.of > 1 else ""
        return f"iteration {self.iteration} · {self.stage}{split}{part}"

    def arguments(self, run_uri: str) -> list[str]:
        """Return the command after `python -m`, the same in a container and on this machine."""
        return [
            f"stages.{self.stage}",
            *("--run", run_uri),
            *("--iteration", str(self.iteration)),
            *("--split", self.split),
            *("--part", str(self.part)),
        ]

    def outputs(self, spec: RunSpec) -> tuple[Ref, ...]:
        """Return what the unit commits."""
        return outputs(self.stage, spec, iteration=self.iteration, split=self.split)


class Plan(NamedTuple):
    """Every unit of a run in starting order, and what each waits for."""

    units: tuple[Unit, ...]
    after: dict[Unit, tuple[Unit, ...]]


def plan(spec: RunSpec) -> Plan:
    """Return the units of all iterations, and of the evaluation that follows the last."""
    units = sorted(_units(spec), key=lambda unit: unit.rank)
    by_place: dict[tuple[str, int], list[Unit]] = {}
    for unit in units:
        by_place.setdefault((unit.node, unit.iteration), []).append(unit)
    before = {node.name: edges(node, spec) for node in GRAPH}
    after = {unit: tuple(u for edge in before[unit.node] for u in _joined(edge, unit, by_place)) for unit in units}
    return Plan(tuple(units), after)


def done_units(run: Run, spec: RunSpec, whole: Plan) -> set[Unit]:
    """Return the units whose outputs are all committed, from one listing of the store."""
    keys = {key for key in run.store.list(run.key("")) if "/parts/" in key}

    def is_done(unit: Unit) -> bool:
        records = (ref.part_key(unit.part) for ref in unit.outputs(spec))
        return all(run.key(record) in keys for record in records)

    return {unit for unit in whole.units if is_done(unit)}


def _units(spec: RunSpec) -> Iterator[Unit]:
    for place, node in enumerate(GRAPH):
        for iteration in _iterations(node, spec):
            for one in _passes(node, spec):
                for number in range(one.parts):
                    rank = (iteration, place, number)
                    yield Unit(node.name, node.stage, iteration, one.name, Part(number, one.parts), node.load, rank)


def _iterations(node: Node, spec: RunSpec) -> range:
    if node.scope == "run":
        return range(1)
    if node.scope == "held_out":
        return range(spec.iterations + 1)
    if node.name != "train" and not spec.uses_samples():
        return range(0)
    return range(spec.iterations)


def _passes(node: Node, spec: RunSpec) -> tuple[Pass, ...]:
    chosen = spec.passes()[1:] if node.scope == "held_out" else spec.passes()[:1]
    return tuple(one._replace(parts=division(node.stage, spec, one.name)) for one in chosen)


def _joined(edge: Edge, unit: Unit, by_place: dict[tuple[str, int], list[Unit]]) -> list[Unit]:
    iteration = 0 if edge.node == "prepare" else unit.iteration - (edge.join == "previous")
    others = by_place.get((edge.node, iteration), [])
    if edge.join == "previous" or edge.node in ("prepare", "build"):
        return others
    same_pass = [other for other in others if other.split == unit.split]
    return same_pass if edge.join == "all" else [other for other in same_pass if other.part == unit.part]
