"""Which backend a run goes to: the nearer word counts, and the reason is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from leti_ctl.config import contexts
from stages.contract.errors import LetiError, SpecError, UsageError

FILE = """
# ours
current: prod
contexts:
  prod: {backend: argo, store: "s3://team/leti", profile: gke-l4, namespace: ml}
  desk: {backend: local}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty configuration folder, and nothing in the environment."""
    for name in ("LETI_BACKEND", "LETI_CONFIG", "LETI_CONTEXT", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def file(home: Path) -> Path:
    (home / "leti").mkdir()
    (home / "leti" / "config.yaml").write_text(FILE)
    return home / "leti" / "config.yaml"


def test_without_any_word_runs_stay_here() -> None:
    assert contexts.choose(None) == ("local", "default")
    assert contexts.default_store() == "leti-store"


def test_a_kubeconfig_alone_sends_nothing_to_a_cluster(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "kubeconfig").write_text("{}")
    monkeypatch.setenv("KUBECONFIG", str(home / "kubeconfig"))
    assert contexts.choose(None).backend == "local"


def test_the_option_beats_the_environment_beats_the_context(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert contexts.choose(None) == ("argo", f"context prod of {file}")
    monkeypatch.setenv("LETI_BACKEND", "local")
    assert contexts.choose(None) == ("local", "LETI_BACKEND")
    assert contexts.choose("argo") == ("argo", "--backend")


def test_a_named_context_beats_the_current_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert contexts.default_store() == "s3://team/leti"
    monkeypatch.setenv("LETI_CONTEXT", "desk")
    assert contexts.choose(None).backend == "local" and contexts.default_store() == "leti-store"


def test_what_drove_a_run_beats_the_context_but_no_explicit_word(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert contexts.choose_again(None, "local", "it ran here") == ("local", "it ran here")
    assert contexts.choose_again("argo", "local", "it ran here") == ("argo", "--backend")
    assert contexts.choose_again(None, None, "").backend == "argo"
    monkeypatch.setenv("LETI_BACKEND", "argo")
    assert contexts.choose_again(None, "local", "it ran here") == ("argo", "LETI_BACKEND")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("contexts: {a: {bakend: argo}}", SpecError, ("contexts.a.bakend", "did you mean backend")),
        ("contexts: {a: {backend: k8s}}", SpecError, ("contexts.a.backend", "'local' or 'argo'", "k8s")),
        ("current: prdo\ncontexts: {prod: {}}", UsageError, ("prdo", "did you mean prod")),
        ("contexts: [", SpecError, ("config.yaml", "not YAML")),
        ("- a", SpecError, ("a context file is a mapping",)),
    ],
)
def test_a_mistake_in_the_file_is_one_line(
    file: Path, text: str, error: type[LetiError], words: tuple[str, ...]
) -> None:
    file.write_text(text)
    with pytest.raises(error) as caught:
        contexts.choose(None)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("name", "value"), [("LETI_BACKEND", "k8s"), ("LETI_CONTEXT", "dsk"), ("LETI_CONFIG", "/none")]
)
def test_a_mistake_in_the_environment_names_the_variable(
    file: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"{name}.*{value}"):
        contexts.choose(None)


def test_choosing_a_context_changes_one_line(file: Path) -> None:
    contexts.use("desk")
    assert file.read_text() == FILE.replace("current: prod", "current: desk")
    assert contexts.current()[0] == "desk"
    with pytest.raises(UsageError, match="no context 'des', did you mean desk"):
        contexts.use("des")
