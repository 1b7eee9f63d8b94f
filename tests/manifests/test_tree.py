"""The files: one object each, all of them used, the rendered ones as rendered."""

import re
from pathlib import Path

import pytest
import yaml

from leti_ctl.backends.argo.drift import in_folder
from leti_ctl.backends.argo.templates import workflow_template
from leti_ctl.config.profiles import load_profile, profile_names
from tests.manifests.tree import MANIFESTS

FILES = sorted(path for path in MANIFESTS.rglob("*.yaml"))
SOURCES = [path for path in FILES if path.name not in ("kustomization.yaml", "kustomizeconfig.yaml")]
ALONE = {MANIFESTS / name for name in ("controller/workflow-controller-configmap.yaml", "overlays/kind/cluster.yaml")}
"""What is applied or read by itself."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(MANIFESTS)))
def test_a_file_holds_one_object(path: Path) -> None:
    documents = list(yaml.load_all(path.read_text(), yaml.CSafeLoader))
    assert len(documents) == 1 and {"apiVersion", "kind"} <= documents[0].keys()


def test_every_file_is_part_of_a_kustomization() -> None:
    used = set()
    for path in (path for path in FILES if path.name == "kustomization.yaml"):
        body = yaml.safe_load(path.read_text())
        named = [*body.get("resources", ()), *body.get("components", ()), *body.get("configurations", ())]
        used |= {(path.parent / name).resolve() for name in named}
    assert {path.resolve() for path in SOURCES} - used == {path.resolve() for path in ALONE}


def test_every_component_has_its_use_or_is_offered_where_overlays_list_theirs() -> None:
    overlays = "".join((path / "kustomization.yaml").read_text() for path in (MANIFESTS / "overlays").iterdir())
    for component in (MANIFESTS / "components").iterdir():
        assert f"../../components/{component.name}" in overlays, component.name


def test_the_committed_templates_are_those_that_render_makes() -> None:
    templates = [workflow_template(load_profile(name)) for name in profile_names()]
    remedy = "run: leti-ctl render --out manifests/workflows"
    assert in_folder(templates, MANIFESTS / "workflows") == [], remedy
    listed = yaml.safe_load((MANIFESTS / "workflows/kustomization.yaml").read_text())["resources"]
    found = sorted(path.name for path in (MANIFESTS / "workflows").iterdir())
    assert listed == [f"{name}.yaml" for name in profile_names()]
    assert found == sorted([*listed, "kustomization.yaml"])


def test_no_digest_is_written_that_nobody_looked_up() -> None:
    for path in FILES:
        assert not re.search(r"@?sha256:[0-9a-f]{64}", re.sub(r"manifest-sha256: \S+", "", path.read_text())), path
