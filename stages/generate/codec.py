"""Text to ids and back with the checkpoint's tokenizer, without transformers (which takes seconds to import)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from stages.contract.errors import ModelError


class Codec:
    """The checkpoint's tokenizer, as LETI uses it: special tokens come from their names, never from text."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"checkpoint {folder} has no tokenizer.json; prepare the run again")
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        added = self._tokenizer.get_added_tokens_decoder()
        self.special = frozenset(number for number, token in added.items() if token.special)
        """Ids of all special tokens, the model's own and LETI's four."""
        self.size = self._tokenizer.get_vocab_size()
        """Ids from here on are spare embedding rows without a text."""
        self.ends = _ends(folder)
        """Ids that end a solution."""

    def encode(self, text: str, reward_token: str = "") -> list[int]:
        """Return the ids of the reward token, if there is one, and of the text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._reward_id(reward_token), *ids] if reward_token else ids

    def decode(self, ids: Sequence[int], *, after: int) -> str:
        """Return the text of ids that follow the id `after`, character for character.

        Decoders of SentencePiece kind drop a leading blank; with the id before them they do not.
        """
        before: str = self._tokenizer.decode([after], skip_special_tokens=False)
        text: str = self._tokenizer.decode([after, *ids], skip_special_tokens=False)
        return text.removeprefix(before)

    def _reward_id(self, name: str) -> int:
        number = self._tokenizer.token_to_id(name)
        if number is None:
            raise ModelError(f"the checkpoint's tokenizer does not know {name}; prepare the run again")
        return int(number)


def _ends(folder: Path) -> frozenset[int]:
    """Return the end-of-sequence ids: the generation config's, which may name several, or else the config's."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        declared = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
        if declared is not None:
            return frozenset([declared] if isinstance(declared, int) else declared)
    raise ModelError(f"checkpoint {folder} names no eos_token_id; prepare the run again")
