"""Where a solution ends: the rules that cut what a model wrote after its answer, by the name the spec gives them.

Decoding itself stops at the end-of-sequence token alone, as in the official code; a rule is applied to the finished
text, before it runs and, where the spec says so, before it is trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_FIRST_BLOCK = re.compile(r'\n(?:class|assert|"""|print|if|<\|/)')
# The official code joins its stop strings into a pattern without escaping the last one, whose bar then splits it:
# a bare slash ends the solution. Kept under its own name so that the published numbers can be chased.
_FIRST_BLOCK_LEGACY = re.compile(r'\n(?:class|assert|"""|print|if|<)|/')
_BLOCK = re.compile(r"\n(?:class|def|#|@|print|if)")
_QUESTION = re.compile(r"\nQ:")
_EVENT = re.compile(r'"""|class|print|#')


def cut(name: str, solution: str) -> str:
    """Return what the rule `name` leaves of a solution; `KeyError` for a name that is not in `CUTS`."""
    return CUTS[name](solution)


def _none(solution: str) -> str:
    return solution


def _first_block(solution: str) -> str:
    """LETI's MBPP rule: up to the first line that opens something else."""
    return _before(_FIRST_BLOCK, solution).rstrip()


def _first_block_legacy(solution: str) -> str:
    return _before(_FIRST_BLOCK_LEGACY, solution).rstrip()


def _stop_words(solution: str) -> str:
    """HumanEval's usual rule: up to the first line that opens another block."""
    return _before(_BLOCK, solution)


def _last_block_dropped(solution: str) -> str:
    """LETI's HumanEval rule: all but the last block, and nothing at all of a solution with no second block."""
    starts = [found.start() for found in _BLOCK.finditer(solution)]
    return solution[: starts[-1]] if starts else ""


def _question(solution: str) -> str:
    """PaL's rule: up to where the model goes on with a question of its own."""
    return _before(_QUESTION, solution)


def _event(solution: str) -> str:
    """LETI's rule for event arguments: up to the first docstring, class, print or comment, wherever it stands."""
    return _before(_EVENT, solution)


def _before(pattern: re.Pattern[str], solution: str) -> str:
    found = pattern.search(solution)
    return solution[: found.start()] if found else solution


CUTS: Mapping[str, Callable[[str], str]] = {
    "none": _none,
    "first_block": _first_block,
    "first_block_legacy": _first_block_legacy,
    "stop_words": _stop_words,
    "humaneval_official": _last_block_dropped,
    "question": _question,
    "event": _event,
}
"""Every rule; the names are `TaskSpec.postprocess`'s."""
