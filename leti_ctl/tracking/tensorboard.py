"""TensorBoard: event files in a folder per run, which `tensorboard --logdir DIR` shows beside each other.

Points that event files in the folder hold are not written again; new ones go to a new file, as after a restart. The
spec is told as hyper-parameters and, with the tags, as text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util.tensor_util import make_tensor_proto

from leti_ctl.tracking.points import Point, clean
from stages.contract.errors import UsageError

if TYPE_CHECKING:
    from leti_ctl.tracking.card import Card
    from leti_ctl.tracking.sink import Place

ALL = {SCALARS: 0, TENSORS: 0}
"""How many points of each kind are kept when reading: 0 keeps all, where the default is a sample."""
SPEC, ABOUT = "spec", "about"
HPARAMS = "_hparams_/session_start_info"
OWNER = "leti-id"
"""File that holds the identity of the run whose events lie beside it."""


class TensorboardSink:
    """A folder of runs."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root

    def open_run(self, card: Card) -> None:
        """Take the run's own folder: by its name, and by its identity too where another run has that name."""
        named = self.root / clean(card.name)
        self.folder = named if _owner(named) in ("", card.identity) else named / card.identity
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / OWNER).write_text(card.identity)

    def known(self, names: Sequence[str]) -> set[Place]:
        """Return which points the folder's event files hold, as TensorBoard itself reads them."""
        there = _read(self.folder)
        tags = set(there.Tags()[SCALARS]) & set(names)
        return {(name, event.step) for name in tags for event in there.Scalars(name)}

    def write(self, new: Sequence[Point]) -> None:
        """Add points in a new event file; none where there is nothing new."""
        self._append(
            [
                Event(wall_time=each.at, step=each.step, summary=Summary(value=[_scalar(each)]))
                for each in sorted(new, key=lambda each: (each.at, each.name, each.step))
            ]
        )

    def describe(self, card: Card) -> None:
        """Add the spec once, and what the run is whenever that has changed."""
        there = _read(self.folder)
        tags, events = there.Tags()[TENSORS], []
        if HPARAMS not in tags:
            events.append(Event(wall_time=card.started, summary=hparams_pb(card.params, card.identity, card.started)))
        for step, name, text in ((0, SPEC, card.documents["spec.json"]), (1, ABOUT, json.dumps(card.tags, indent=2))):
            told = there.Tensors(name) if name in tags else []
            if not told or told[-1].tensor_proto.string_val[0].decode() != fenced(text):
                events.append(_text(name, text, step + len(told), card.ended))
        self._append(events)

    def _append(self, events: Sequence[Event]) -> None:
        if not events:
            return
        writer = EventFileWriter(str(self.folder))
        for event in events:
            writer.add_event(event)
        writer.close()


def open_sink(address: str, _experiment: str) -> TensorboardSink:
    """Return the tracker that a folder is; it is made when there is something to write."""
    if not address:
        raise UsageError("--to tensorboard: names no folder; write tensorboard:DIR")
    return TensorboardSink(Path(address))


def fenced(text: str) -> str:
    """Return text as TensorBoard shows it unchanged: it renders Markdown."""
    return f"```\n{text.rstrip()}\n```"


def _read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance=ALL).Reload()


def _owner(folder: Path) -> str:
    """Return the identity of the run whose folder it is; empty for a new one."""
    mark = folder / OWNER
    return mark.read_text() if mark.exists() else ""


def _scalar(point: Point) -> Summary.Value:
    return Summary.Value(tag=point.name, simple_value=point.value)


def _text(name: str, text: str, step: int, at: float) -> Event:
    value = Summary.Value(
        tag=name, tensor=make_tensor_proto([fenced(text).encode()]), metadata=create_summary_metadata(name, None)
    )
    return Event(wall_time=at, step=step, summary=Summary(value=[value]))
