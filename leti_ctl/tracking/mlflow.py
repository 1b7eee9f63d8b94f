"""MLflow: a server, a database (`sqlite:///mlflow.db`) or, where its user allows it, a folder.

A run is found by the tag `leti.id`. Points are named there as here; times are theirs, so that charts over wall time
are those of the run and not of the export. MLflow keeps at most 6000 characters of a parameter and 8000 of a tag, and
longer ones are cut here: `leti/spec.json` beside them has everything.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Telling about a run is between its owner and the tracker: the library's own reports of its use stay off.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from leti_ctl.tracking.card import Card, Scalar
from leti_ctl.tracking.points import Point
from leti_ctl.tracking.sink import Place
from stages.contract.errors import RetryableError, UsageError

IDENTITY = "leti.id"
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 8000
FOLDER = "leti"
"""Of the documents among a run's artifacts."""
STATUS = {"Succeeded": "FINISHED", "Failed": "FAILED", "Stopped": "KILLED"}


class MlflowSink:
    """One experiment of one tracking server."""

    def __init__(self, address: str, experiment: str) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.address = address or os.environ.get("MLFLOW_TRACKING_URI", "")
        if not self.address:
            raise UsageError("--to mlflow: names no server; write mlflow:URI or set MLFLOW_TRACKING_URI")
        with self._told():
            self.client = MlflowClient(tracking_uri=self.address)
            self.experiment = self._experiment(experiment)
        self.run = ""
        self._known: dict[str, set[Place]] = {}

    def open_run(self, card: Card) -> None:
        """Find the run by its identity, or make it."""
        with self._told():
            found = self.client.search_runs(
                [self.experiment], f"tags.`{IDENTITY}` = '{card.identity}'", order_by=["attributes.start_time ASC"]
            )
            if not found:
                start = int(card.started * 1000) or None
                tags = {IDENTITY: card.identity, "mlflow.source.name": "leti"}
                found = [self.client.create_run(self.experiment, start, tags, card.name)]
            self.run = found[0].info.run_id

    def known(self, names: Sequence[str]) -> set[Place]:
        """Return which points are there; asked of the server once per run, remembered afterwards."""
        if self.run not in self._known:
            with self._told():
                there = self.client.get_run(self.run).data.metrics
                histories = (self.client.get_metric_history(self.run, name) for name in names if name in there)
                self._known[self.run] = {(each.key, each.step) for history in histories for each in history}
        return self._known[self.run]

    def write(self, new: Sequence[Point]) -> None:
        """Add points, in the batches that the client makes."""
        with self._told():
            metrics = [Metric(each.name, each.value, int(each.at * 1000), each.step) for each in new]
            self.client.log_batch(self.run, metrics=metrics)
        self._known[self.run] |= {(each.name, each.step) for each in new}

    def describe(self, card: Card) -> None:
        """Add parameters that are not there, set tags, replace documents, set the state."""
        with self._told():
            there = self.client.get_run(self.run).data
            params = {name: _cut(spell(value), PARAM_CHARACTERS) for name, value in card.params.items()}
            missing = [Param(name, value) for name, value in params.items() if name not in there.params]
            tags = {name: _cut(value, TAG_CHARACTERS) for name, value in card.tags.items()}
            changed = [RunTag(name, value) for name, value in tags.items() if there.tags.get(name) != value]
            self.client.log_batch(self.run, params=missing, tags=changed)
            for name, text in card.documents.items():
                self.client.log_text(self.run, text, f"{FOLDER}/{name}")
            if card.phase == "Running":
                self.client.update_run(self.run, "RUNNING")
            else:
                self.client.set_terminated(self.run, STATUS[card.phase], int(card.ended * 1000) or None)

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage != "active":
            raise UsageError(f"--experiment {name!r}: was deleted there; restore it or name another")
        return str(found.experiment_id if found else self.client.create_experiment(name, _beside(self.address)))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what MLflow raises into one line."""
        try:
            yield
        except MlflowException as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            kind = UsageError if error.get_http_status_code() < 500 else RetryableError
            raise kind(f"--to mlflow:{self.address}: {line}") from error


def open_sink(address: str, experiment: str) -> MlflowSink:
    """Return the tracker at an address; empty takes MLFLOW_TRACKING_URI."""
    return MlflowSink(address, experiment)


def spell(value: Scalar) -> str:
    """Return a parameter's value as text, booleans as the spec spells them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 3] + "..."


def _beside(address: str) -> str | None:
    """Return where a new experiment of a database file keeps documents: beside it, not in whatever folder this is."""
    scheme, slashes, path = address.partition(":///")
    return str(Path(path).absolute().parent / "mlartifacts") if slashes and scheme == "sqlite" else None
