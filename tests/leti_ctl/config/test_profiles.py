"""Profiles: every one is whole, a wrong one is one line, and a spec its cluster cannot run is refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from leti_ctl.config import profiles
from leti_ctl.config.profiles import load_profile, profile_names, refuse
from stages.contract.errors import LetiError, SpecError, UsageError
from stages.contract.spec import RunSpec

DEVICES = {"none": None, "gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"}


def spec(**sections: dict[str, object]) -> RunSpec:
    return RunSpec.model_validate(sections, strict=False)


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_whole_and_says_what_it_is_for(name: str) -> None:
    loaded = load_profile(name)
    assert loaded.name == name
    assert set(loaded.pools) == set(profiles.POOLS)
    assert len(profiles.profile_summary(name)) > 20
    for use in ("generate", "train"):
        device = loaded.pools[use].device  # type: ignore[index]
        assert (device.resource if device else None) == DEVICES[loaded.accelerator]


def test_files_that_exist_to_be_extended_are_no_profiles() -> None:
    assert not [name for name in profile_names() if name.startswith("_")]
    with pytest.raises(LetiError):
        load_profile("_gke")


def test_a_profile_lies_over_the_one_it_extends() -> None:
    base, over = load_profile("gke-h100"), load_profile("gke-h200")
    assert over.pools["train"].cpu == base.pools["train"].cpu
    assert over.pools["train"].node_selector | base.pools["train"].node_selector == base.pools["train"].node_selector
    assert over.pools["train"].node_selector["cloud.google.com/gke-accelerator"] == "nvidia-h200-141gb"
    assert over.pools["generate"].spot == base.pools["generate"].spot


def test_ones_own_profile_is_a_file_named_after_itself(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text("extends: gke-l4\nnamespace: research\npools: {train: {queue: team}}\n")
    loaded = load_profile(str(file))
    assert (loaded.name, loaded.namespace, loaded.pools["train"].queue) == ("ours", "research", "team")
    assert loaded.pools["generate"] == load_profile("gke-l4").pools["generate"]


def test_overrides_lie_over_everything() -> None:
    loaded = load_profile(
        "kind", ["pools.train.cpu=2", "train_backend=jobset", "images.ctl=registry/leti-ctl@sha256:0"]
    )
    assert (loaded.pools["train"].cpu, loaded.train_backend) == (2, "jobset")
    assert loaded.images.ctl == "registry/leti-ctl@sha256:0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: kind\npools: {train: {cpus: 2}}", ("pools.train.cpus", "did you mean pools.train.cpu?")),
        ("extends: kind\npools: {train: {cpu: 0}}", ("pools.train.cpu", "greater than 0", "got 0")),
        ("extends: kind\npools: {trains: {cpu: 1, memory_gib: 1}}", ("pools.trains",)),
        ("platform: kind\naccelerator: none\npools: {}", ("pools.light", "missing")),
        ("extends: kind\naccelerator: gpu", ("pools.generate.device", "nvidia.com/gpu")),
        ("extends: gke-tpu-v5e\ntrain_backend: pod", ("train_backend", "hosts")),
        ("extends: kind\npools: {train: {memory_retry_gib: [2]}}", ("pools.train.memory_retry_gib", "grow")),
        ("extends: kind\npools: {train: {memory_gib: 4, shm_gib: 4}}", ("pools.train.shm_gib", "memory_gib 4")),
        ("extends: kind\nname: Upper", ("name", "Upper")),
        ("extends: nowhere", ("nowhere", "leti-ctl profiles")),
        ("- a list", ("a profile is a mapping",)),
        ("platform: kind", ("accelerator", "missing")),
    ],
)
def test_a_wrong_profile_is_one_line_with_field_and_remedy(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(LetiError) as raised:
        load_profile(str(file))
    assert "\n" not in str(raised.value)
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_a_name_nobody_has_is_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean gke-h100"):
        load_profile("gke-h10")
    with pytest.raises(UsageError, match="No such file"):
        load_profile("./absent.yaml")


GPU, TPU, KIND = "gke-h100", "gke-tpu-v5e", "kind"
TPU_READY = {"train": {"engine": "torch", "nodes": 4, "processes": 4}, "generate": {"engine": "static"}}


@pytest.mark.parametrize(
    ("profile", "sections", "words"),
    [
        (TPU, {}, ("train.engine", "deepspeed", "torch")),
        (TPU, TPU_READY | {"train": {"engine": "torch", "nodes": 1}}, ("train.nodes: 1", "set 4")),
        (TPU, TPU_READY | {"train": {"engine": "torch", "nodes": 4}}, ("train.processes: 1", "set 4")),
        (TPU, TPU_READY | {"generate": {"engine": "transformers"}}, ("generate.engine", "static")),
        (TPU, TPU_READY | {"generate": {"engine": "vllm"}}, ("generate.engine", "vllm")),
        (KIND, {"train": {"nodes": 2}}, ("train.nodes: 2", "train_backend=jobset")),
        (GPU, {"train": {"processes": 9}}, ("train.processes: 9", "at most 8", "train.nodes")),
        (GPU, {"iterations": 91}, ("iterations: 91", "--iterations 90", "resume")),
    ],
)
def test_a_spec_that_the_cluster_cannot_run_is_refused(
    profile: str, sections: dict[str, dict[str, object]], words: tuple[str, ...]
) -> None:
    with pytest.raises(SpecError) as raised:
        refuse(spec(**sections), load_profile(profile))
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_a_spec_that_fits_is_not_refused() -> None:
    refuse(spec(), load_profile(KIND))
    refuse(spec(train={"nodes": 4, "processes": 8}), load_profile(GPU))
    refuse(spec(**TPU_READY), load_profile(TPU))
    refuse(spec(iterations=150), load_profile(GPU), start=60)  # type: ignore[arg-type]


def test_the_outer_wall_is_not_dropped_without_a_word() -> None:
    with pytest.raises(SpecError, match="runtime_class"):
        load_profile(KIND, ["runtime_class="])
    bare = load_profile(KIND, ["runtime_class=null"])
    with pytest.raises(SpecError, match=r"execute\.sandbox"):
        refuse(spec(), bare)
    refuse(spec(execute={"sandbox": "process"}), bare)


def test_every_field_is_explained() -> None:
    rows = profiles.fields()
    assert all(meaning for _, _, meaning in rows)
    assert {"pools.*.spot.attempts", "images.execute", "runtime_class"} <= {path for path, _, _ in rows}
