"""The hint of LETI's runs "trained with post-processing": what a cut took from a solution, and how to end instead."""

from __future__ import annotations

QUOTED = 128
"""Characters of what was cut that a hint shows (official code)."""


def hint(solution: str, kept: str) -> str:
    """Return the hint about a solution of which `kept` is the beginning; empty where only blanks were cut.

    The end-of-sequence token belongs at its end. It is not in the text: the encoder adds its id, because text never
    becomes a special token.
    """
    rest = solution[len(kept) :].strip()
    if not rest:
        return ""
    return f"Only the first function is needed; the rest was cut: [{rest[:QUOTED]}]. End the solution there with "


def appended(feedback: str, text: str) -> str:
    """Return a traceback with the hint on a line of its own after it; the hint alone for a success."""
    return f"{feedback}\n{text}" if feedback and text else feedback or text
