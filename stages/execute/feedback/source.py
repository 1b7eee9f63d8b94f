"""The interface of feedback sources."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from stages.contract.artifacts import Input
from stages.contract.errors import SpecError
from stages.contract.records import Execution, Problem, Sample
from stages.execute.judge import Program


class Judged(NamedTuple):
    """A sample with its verdict: a failure, or a success where the spec wants those commented too."""

    problem: Problem
    sample: Sample
    program: Program
    execution: Execution
    """Its `feedback` is the traceback, or what the task's evaluator said; empty when passed."""


class Comments(NamedTuple):
    """What a source says."""

    texts: Sequence[str]
    """One per solution, in order; empty where there is nothing to say. They are sanitised and capped afterwards."""
    inputs: tuple[Input, ...] = ()
    """What they were made from, for the lineage."""


def load_source(name: str) -> ModuleType:
    """Return a source's module: it has `read(program, first_line) -> str` or `comment(job, judged) -> Comments`."""
    module = import_module(f"stages.execute.feedback.{name}")
    if hasattr(module, "read") == hasattr(module, "comment"):
        raise SpecError(f"feedback.source: module {module.__name__} must have either `read` or `comment`")
    return module
