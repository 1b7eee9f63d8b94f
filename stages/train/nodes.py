"""Which of the machines that train together this one is, as the environment tells.

`LETI_NODES` is their number, `LETI_NODE_RANK` this one's (or `JOB_COMPLETION_INDEX`, which Kubernetes sets in indexed
jobs), `LETI_RENDEZVOUS` `host:port` of the first. Unset, there is one machine.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from stages.contract.errors import SpecError, UsageError
from stages.contract.spec import TrainSpec


class Nodes(NamedTuple):
    """The machines, and this one's place among them."""

    size: int = 1
    rank: int = 0
    host: str = ""
    """Where the processes of all machines meet: an address of the first."""
    port: int = 0


def read_nodes(train: TrainSpec) -> Nodes:
    """Return what the environment says; `SpecError` unless it is as many machines as the spec trains on."""
    count = _number("LETI_NODES", "1", least=1)
    if count != train.nodes:
        raise SpecError(
            f"train.nodes: {train.nodes}, but LETI_NODES says {count}; start the stage on {train.nodes} machines with "
            f"LETI_NODES={train.nodes}, LETI_NODE_RANK and LETI_RENDEZVOUS set on each, or start a run with "
            f"train.nodes {count}"
        )
    if count == 1:
        return Nodes()
    rank = _number("LETI_NODE_RANK", os.environ.get("JOB_COMPLETION_INDEX", ""), least=0)
    if rank >= count:
        raise UsageError(f"LETI_NODE_RANK: {rank} of {count} machines; number them from 0 to {count - 1}")
    return Nodes(count, rank, *_rendezvous())


def check_world(train: TrainSpec) -> None:
    """Refuse a process group of another size than the spec's: the sums of a step would be rounded differently."""
    wanted, found = train.nodes * train.processes, _number("WORLD_SIZE", "1", least=1)
    if found != wanted:
        raise SpecError(
            f"train.processes: {train.processes} on train.nodes {train.nodes} make {wanted} processes, but torchrun "
            f"started {found}; start {wanted}"
        )


def _number(name: str, default: str, *, least: int) -> int:
    text = os.environ.get(name) or default
    if not text.isdecimal() or int(text) < least:
        raise UsageError(f"{name}: {text!r}; set a whole number from {least}")
    return int(text)


def _rendezvous() -> tuple[str, int]:
    text = os.environ.get("LETI_RENDEZVOUS", "")
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"LETI_RENDEZVOUS: {text!r}; set host:port of the machine with LETI_NODE_RANK 0")
    return host.strip("[]"), int(port)
