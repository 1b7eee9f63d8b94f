"""What an audit says: one line per thing that is not as it should be."""

from __future__ import annotations

from typing import Literal, NamedTuple

from stages.contract.errors import ArtifactError

Level = Literal["error", "warning"]

CHECKS: dict[str, str] = {
    "readable": "every object that was listed can be read",
    "record": "a part record or index can be read and belongs under its key",
    "spec": "everything was made with the run's spec",
    "digest": "the run is the one whose digest was expected",
    "index": "an index is the sum of its parts",
    "complete": "every unit of the run is committed",
    "lineage": "every input is written down, exists and has the digest written down",
    "seed": "seeds follow from the run's seed",
    "existence": "every object that a record names is in the store",
    "names": "objects are named after what they hold",
    "size": "objects have the size their record says",
    "checksum": "objects have the SHA-256 their record says",
    "schema": "rows have the columns of their artifact",
    "rows": "objects hold as many rows as their record says",
    "pairs": "each problem has each of its samples once, in samples and in executions",
    "verdict": "a row of executions does not contradict itself",
    "scores": "metrics follow from samples and executions",
    "facts": "what a part record says of its rows follows from them",
    "programs": "programs follow from problems and samples",
    "examples": "every verdict became its training example, once an epoch",
    "tokens": "special tokens stand only where a sequence has them",
    "steps": "the training log follows from the examples and the spec, and has finite losses",
    "rederived": "the stage, run again, gives the same bytes",
    "reexecuted": "programs, judged again, get the same verdict",
    "code": "all parts were made by one version of the stages",
    "orphans": "every object is named by a record",
    "keys": "every key is of a form that a run has",
}
"""Every check and what it holds a run to."""
CAUSES = (("digest",), ("readable",), ("record", "spec"), ("existence", "size", "checksum"))
"""Checks of what lies in the store, records before the objects they name; the others are of what follows from it."""


class Finding(NamedTuple):
    """One thing that is not as it should be. A warning tells of garbage or unfinished work, which harms nothing."""

    check: str
    key: str
    """Relative to the run."""
    expected: str
    found: str
    level: Level = "error"

    @classmethod
    def unread(cls, key: str, error: Exception, check: str, expected: str) -> Finding:
        """Return what to say of an object whose reading failed: it is not what it should be, or nobody knows."""
        if isinstance(error, ArtifactError):
            return cls(check, key, expected, str(error))
        return cls("readable", key, "an object that can be read", str(error))

    @property
    def line(self) -> str:
        """The finding in one line."""
        return f"{self.level} {self._told}"

    def as_error(self) -> ArtifactError:
        """Return the finding as the error of a command that cannot go on with what is so."""
        return ArtifactError(self._told)

    @property
    def _told(self) -> str:
        return _plain(f"{self.check}: {self.key}: expected {self.expected}, found {self.found}")


def warning(check: str, key: str, expected: str, found: str) -> Finding:
    """Return a finding that leaves the run clean."""
    return Finding(check, key, expected, found, "warning")


def _plain(text: str) -> str:
    """Return the text without what would break a line or steer a terminal: keys may hold anything."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
