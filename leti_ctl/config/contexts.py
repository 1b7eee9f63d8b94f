"""Where a run goes, and why there: options, then the environment, then a context file, then this machine.

The context file is YAML at `LETI_CONFIG`, else `$XDG_CONFIG_HOME/leti/config.yaml`, else `~/.config/leti/config.yaml`:

    current: prod
    contexts:
      prod: {backend: argo, store: "s3://team/leti", profile: gke-l4, kube_context: prod-cluster, namespace: leti,
             argo_url: "https://argo.example.com"}
      desk: {backend: local, store: ~/runs}

`LETI_CONTEXT` names another context than `current` for one command. Nothing is guessed: a kubeconfig alone does not
make a run go to a cluster.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

from leti_ctl import layers
from stages.contract.errors import UsageError
from stages.contract.spec import Section

Backend = Literal["local", "argo"]
BACKENDS: tuple[Backend, ...] = ("local", "argo")
DEFAULT_STORE = "leti-store"
DEFAULT_NAMESPACE = "leti"


class Context(Section):
    """One place where runs go."""

    backend: Backend = "local"
    """`local` runs stages on this machine, `argo` on a cluster."""
    store: str | None = None
    """Folder or s3://bucket/prefix that holds the runs; null takes `leti-store`."""
    preset: str | None = None
    """What `submit` runs when it is given neither --preset nor -f; null takes quickstart."""
    profile: str | None = None
    """Node pools of the cluster: a profile's name or file."""
    kube_context: str | None = None
    """Context of the kubeconfig; null takes its current one."""
    namespace: str | None = None
    """Namespace of the workflows; null takes the kubeconfig context's, else `leti`."""
    argo_url: str | None = None
    """Address of the Argo UI, for links."""


class Config(Section):
    """The context file."""

    current: str | None = None
    """Context that counts when nothing else names one."""
    contexts: dict[str, Context] = {}
    """Contexts by name."""


DEFAULT_PRESET = "quickstart"


class Choice(NamedTuple):
    """A backend and the reason for it."""

    backend: Backend
    why: str


def config_file() -> Path:
    """Return where the context file is looked for."""
    if named := os.environ.get("LETI_CONFIG"):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "leti" / "config.yaml"


def load() -> Config:
    """Return the context file, empty where there is none; `UsageError` for one that `LETI_CONFIG` names in vain."""
    file = config_file()
    if not file.is_file():
        if "LETI_CONFIG" in os.environ:
            raise UsageError(f"LETI_CONFIG: {str(file)!r} is no file; correct it or unset it")
        return Config()
    data = layers.mapping(file.read_text(encoding="utf-8"), str(file), "a context file")
    known = [*Config.model_fields, *Context.model_fields]
    return layers.validate(Config, data, what=str(file), known=known, see="leti-ctl context --help")


def current() -> tuple[str | None, Context]:
    """Return the context that counts and its name; an empty one under None where nothing names one."""
    config = load()
    name = os.environ.get("LETI_CONTEXT") or config.current
    if name is None:
        return None, Context()
    if name not in config.contexts:
        source = "LETI_CONTEXT" if os.environ.get("LETI_CONTEXT") else f"{config_file()}: current"
        known = ", ".join(sorted(config.contexts)) or "none"
        hint = layers.hint(name, config.contexts)
        raise UsageError(f"{source}: no context {name!r}{hint}; those in the context file: {known}")
    return name, config.contexts[name]


def choose(option: str | None) -> Choice:
    """Return the backend for a new run: `--backend`, then `LETI_BACKEND`, then the context, then this machine."""
    environment = os.environ.get("LETI_BACKEND")
    name, context = current()
    if option is not None:
        return Choice(_backend(option, "--backend"), "--backend")
    if environment:
        return Choice(_backend(environment, "LETI_BACKEND"), "LETI_BACKEND")
    if name is not None:
        return Choice(context.backend, f"context {name} of {config_file()}")
    return Choice("local", "default")


def choose_again(option: str | None, driven_by: str | None, last: str) -> Choice:
    """Return the backend for a run that exists: as above, but what drove it last comes before the context.

    `driven_by` is the backend that drove it, None where that is not recorded; `last` says what did.
    """
    if option is None and not os.environ.get("LETI_BACKEND") and driven_by is not None:
        return Choice(_backend(driven_by, "control record"), last)
    return choose(option)


def default_store() -> str:
    """Return the store where no option and no `LETI_STORE` names one."""
    return current()[1].store or DEFAULT_STORE


def use(name: str) -> Path:
    """Make a context the current one; only that line of the file changes."""
    config, file = load(), config_file()
    if name not in config.contexts:
        known = ", ".join(sorted(config.contexts)) or "none"
        raise UsageError(f"{file}: no context {name!r}{layers.hint(name, config.contexts)}; there are: {known}")
    text, line = file.read_text(encoding="utf-8"), f"current: {name}"
    changed, found = re.subn(r"^current:.*$", line, text, count=1, flags=re.MULTILINE)
    file.write_text(changed if found else f"{line}\n{text}", encoding="utf-8")
    return file


def _backend(text: str, source: str) -> Backend:
    for known in BACKENDS:
        if text == known:
            return known
    raise UsageError(f"{source}: {text!r} is no backend; choose {' or '.join(BACKENDS)}")
