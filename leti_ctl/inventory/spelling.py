"""Token ids as text in which special tokens can be told from text that spells one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from leti_ctl.inventory.ledger import Ledger
from leti_ctl.inventory.parquet import scratch_folder
from stages.contract.artifacts import DataObject, Ref
from stages.contract.errors import ArtifactError
from stages.contract.prompts import escape
from stages.contract.transfer import download


def tokenizer_file(objects: Iterable[DataObject]) -> DataObject | None:
    """Return the file of a checkpoint that holds its whole tokenizer, or None."""
    return next((item for item in objects if item.key.endswith("/tokenizer.json")), None)


class Speller:
    """A checkpoint's tokenizer, read from its one file, whose SHA-256 is verified."""

    def __init__(self, ledger: Ledger, checkpoint: Ref) -> None:
        """`ArtifactError` where the checkpoint is incomplete, its tokenizer damaged or none of `tokenizers`' files."""
        from tokenizers import Tokenizer  # here: an audit only asks for the file

        item = tokenizer_file(ledger.need(checkpoint).objects)
        if item is None:
            raise ArtifactError(f"{checkpoint} has no tokenizer.json, so token ids cannot be read as text")
        with tempfile.TemporaryDirectory(prefix="leti-tokenizer-", dir=scratch_folder()) as folder:
            path = Path(folder) / "tokenizer.json"
            download(ledger.run.store, ledger.run.key(item.key), item, path, ledger.damaged)
            self._tokenizer = Tokenizer.from_file(str(path))
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {number: token.content for number, token in added.items() if token.special}

    def spell(self, ids: Sequence[int]) -> str:
        """Return the ids as text: special tokens as they are called; `<|name|>` in plain text as `<\\|name|>`."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        plain: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        if escape(plain) == plain:
            return text
        runs = groupby(ids, key=lambda number: number in self._special)
        return "".join(
            "".join(self._special[number] for number in run) if special else escape(self._tokenizer.decode(list(run)))
            for special, run in runs
        )
