"""Limits of one program."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.contract.spec import ExecuteSpec


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use, and how its feedback is shown."""

    timeout_seconds: float = 5.0
    """Wall time of solution and tests together."""
    memory_mib: int = 512
    """Address space of each process of the program."""
    output_kib: int = 1024
    """Standard output and standard error together."""
    processes: int = 16
    """Processes and threads of the program."""
    file_mib: int = 16
    """Size of a file it writes; all files together share little more."""
    feedback_chars: int = 4096
    """Longest feedback; of a longer one the end is kept."""
    carets: bool = True
    """Whether tracebacks have the lines of `^` with which CPython marks the failing part."""

    @classmethod
    def from_spec(cls, spec: ExecuteSpec) -> Limits:
        """The limits a run spec sets, field by field of the same name."""
        return cls(**{limit.name: getattr(spec, limit.name) for limit in fields(cls)})
