"""The device that the environment asks for, or none: nothing computes on the CPU because an accelerator is missing."""

from __future__ import annotations

import pytest

from stages.contract.errors import LetiError, RetryableError, UsageError
from stages.device import count_accelerators, find_device, wanted_kind


@pytest.fixture(autouse=True)
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without one."""
    import torch

    if torch.accelerator.is_available():
        pytest.skip("this machine has an accelerator")
    for name in ("LETI_DEVICE", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("wanted", ["", "cpu"])
def test_without_an_accelerator_it_is_the_cpu(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETI_DEVICE", wanted)
    assert find_device().type == "cpu" and count_accelerators() == 0


@pytest.mark.parametrize(
    ("wanted", "kind", "said"),
    [
        ("gpu", UsageError, r"LETI_DEVICE: 'gpu'; set cpu, cuda or tpu"),
        ("cuda", RetryableError, r"LETI_DEVICE: cuda, but torch finds none"),
        ("tpu", UsageError, r"LETI_DEVICE: tpu, and the package torch-tpu is not installed"),
    ],
)
def test_a_device_that_is_not_there_is_an_error(
    wanted: str, kind: type[LetiError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETI_DEVICE", wanted)
    with pytest.raises(kind, match=said):
        find_device()


def test_a_container_that_was_given_tpus_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "leti-train-0.leti")
    assert wanted_kind() == "tpu"
    monkeypatch.setenv("LETI_DEVICE", "cpu")
    assert wanted_kind() == "cpu"
