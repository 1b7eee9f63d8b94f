"""How many tokens a solution may have."""

from __future__ import annotations

from stages.contract.rules import PROMPT_MULTIPLE
from stages.contract.spec import Sampling


def token_limit(num_prompt_tokens: int, sampling: Sampling) -> int:
    """Return how many tokens a solution may have: the paper's reading of the limit, or the official code's."""
    if sampling.length_mode == "new_tokens":
        return sampling.max_new_tokens
    padded = -(-num_prompt_tokens // PROMPT_MULTIPLE) * PROMPT_MULTIPLE
    return max(0, sampling.max_new_tokens - padded)
