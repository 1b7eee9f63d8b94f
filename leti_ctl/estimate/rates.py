"""The table of measured, published and assumed figures, and a person's own laid over it."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from leti_ctl import layers
from leti_ctl.estimate.ranges import Range
from stages.contract.errors import UsageError
from stages.contract.spec import Section

Kind = Literal["measured", "published", "assumed"]


class Figure(Section):
    """One figure and where it comes from."""

    range: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat]
    """Low, likely, high."""
    kind: Kind
    """Measured by leti, published by somebody, or assumed."""
    source: str
    """Which machine and when, or who."""
    unit: str = "tokens per second"
    """What it counts."""

    @model_validator(mode="after")
    def _ordered(self) -> Figure:
        if list(self.range) != sorted(self.range):
            raise ValueError(f"range: write low, likely, high in ascending order, got {list(self.range)}")
        return self

    @property
    def value(self) -> Range:
        """The figure to reckon with."""
        return Range(*self.range)


class Anchor(Figure):
    """Tokens per second of one device at one model size; other sizes are scaled by parameters."""

    parameters: PositiveInt
    """Size of the model it was measured with."""


class Accelerator(Section):
    """A kind of device: its data sheet, or rates of its own, which go first."""

    unit: Literal["GPU", "TPU", "core"] = "GPU"
    """What one of it is called."""
    bf16_tflops: PositiveFloat | None = None
    """Dense bf16 peak."""
    bandwidth_gb: PositiveFloat | None = None
    """Memory bandwidth in GB/s."""
    generate: Anchor | None = None
    """Measured generation."""
    train: Anchor | None = None
    """Measured training."""
    source: str = ""
    """Where the data sheet's figures are from."""

    @model_validator(mode="after")
    def _enough(self) -> Accelerator:
        if self.generate is None and self.bandwidth_gb is None:
            raise ValueError("needs bandwidth_gb or a `generate` anchor")
        if self.train is None and self.bf16_tflops is None:
            raise ValueError("needs bf16_tflops or a `train` anchor")
        return self


class Price(Section):
    """US dollars per device and hour, the host's share included."""

    on_demand: NonNegativeFloat
    """List price."""
    spot: NonNegativeFloat
    """Typical spot price."""
    date: str
    """When it was looked up."""
    source: str
    """Machine type and region."""


class Rates(Section):
    """Everything an estimate reckons with beside the spec and the profile."""

    models: dict[str, PositiveInt]
    """Parameters by `model.source`."""
    problems: dict[str, dict[str, PositiveInt]]
    """Problems by task and split."""
    figures: dict[str, Figure]
    """Figures by name."""
    accelerators: dict[str, Accelerator]
    """Devices by name."""
    prices: dict[str, Price]
    """Prices by key."""

    def figure(self, name: str) -> Range:
        """Return a figure by name."""
        return self.figures[name].value

    def generate_rate(self, accelerator: str, parameters: int, *, vllm: bool) -> Range:
        """Return generated tokens per second of one device."""
        device = self._device(accelerator)
        if device.generate is not None:
            return _scaled(device.generate, parameters)
        assert device.bandwidth_gb is not None
        return self.figure("vllm_reuse" if vllm else "decode_reuse") * (device.bandwidth_gb * 1e9 / parameters)

    def train_rate(self, accelerator: str, parameters: int, *, bf16: bool) -> Range:
        """Return trained tokens per second of one device."""
        device = self._device(accelerator)
        if device.train is not None:
            return _scaled(device.train, parameters)
        assert device.bf16_tflops is not None
        rate = self.figure("train_mfu") * (device.bf16_tflops * 1e12 / (6 * parameters))
        return rate if bf16 else rate / self.figure("fp32_slowdown")

    def price(self, key: str) -> Price:
        """Return a price; `UsageError` names the known keys."""
        if key not in self.prices:
            known = ", ".join(self.prices)
            raise UsageError(f"prices has no {key!r}; add it with --rates FILE, or use one of {known}")
        return self.prices[key]

    def _device(self, name: str) -> Accelerator:
        if name not in self.accelerators:
            known = ", ".join(self.accelerators)
            raise UsageError(f"accelerators has no {name!r}; add it with --rates FILE, or use one of {known}")
        return self.accelerators[name]


def _scaled(anchor: Anchor, parameters: int) -> Range:
    return anchor.value * (anchor.parameters / parameters)


def load_rates(file: Path | None = None) -> Rates:
    """Return the table, with `file` (YAML of the same shape, as much of it as differs) laid over it."""
    if file is None:
        return _table()
    over = layers.mapping(layers.read(file, "--rates"), f"--rates {str(file)!r}", "a table of rates")
    return _validated(layers.merge(_text(), over))


@cache
def _table() -> Rates:
    return _validated(_text())


def _text() -> dict[str, Any]:
    text = resources.files("leti_ctl.estimate").joinpath("rates.yaml").read_text(encoding="utf-8")
    return layers.mapping(text, "rates.yaml", "a table of rates")


def _validated(data: dict[str, Any]) -> Rates:
    known = [f"{table}.{key}" for table in Rates.model_fields for key in data.get(table) or ()]
    return layers.validate(Rates, data, what="rates", known=known, see="leti-ctl estimate --sources")
