"""One command, one or many processes: the stage starts itself again under torchrun where the spec asks for several.

Each of several machines (`nodes`) runs the same line. The first process of the first machine commits; the others end
when it has. A stage that torchrun itself started (RANK is set) simply is one of the processes, so torchrun by hand
works too: `torchrun --nproc-per-node 2 -m -- stages.train --run ...`.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stages.contract import errors
from stages.contract.errors import LetiError, RetryableError, StoreError
from stages.device import find_device, wanted_kind
from stages.entrypoint import Job, threads
from stages.train.nodes import Nodes, check_world, read_nodes

log = logging.getLogger("leti.train")
FAILURES = "LETI_FAILURES"
"""Folder in which a process leaves the error it ends with, because torchrun reports nothing but 1."""
GRACE_SECONDS = 60.0
POLL_SECONDS = 10.0
"""Between two looks, on machines other than the first, whether the work has been committed."""
_PR_SET_PDEATHSIG = 1


def is_rank() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def needs_launch(job: Job) -> bool:
    """Whether this process should start others and not train itself."""
    train = job.spec.train
    if is_rank():
        check_world(train)
        return False
    # A TPU's processes find each other, and even themselves, by what the launcher puts into their environment.
    return read_nodes(train).size * train.processes > 1 or wanted_kind() == "tpu"


def launch(job: Job) -> None:
    """Run the stage in `train.processes` processes until all are done; raises what the first to fail ended with."""
    failures, nodes = job.scratch / "failures", read_nodes(job.spec.train)
    failures.mkdir()
    if wanted_kind() == "tpu":
        _describe_tpus(nodes, job.spec.train.processes)
    environment = {**os.environ, FAILURES: str(failures), "OMP_NUM_THREADS": str(threads(job.spec.train.processes))}
    process = subprocess.Popen(_line(job, nodes), env=environment, preexec_fn=_die_with_parent)
    try:
        code = _wait(process, job) if nodes.rank else process.wait()
    except KeyboardInterrupt:  # also what SIGTERM raises, see stages.entrypoint
        _stop(process)
        raise
    if code and not (nodes.rank and _is_done(job)):
        raise _first_failure(failures) or RetryableError(
            f"torchrun ended with {code} and no process said why (killed for memory?); its output is above"
        )


@contextmanager
def reporting_failure() -> Iterator[None]:
    """Leave an error where `launch` finds it; only the launcher logs it then."""
    folder = os.environ.get(FAILURES)
    if folder is None:
        yield
        return
    _die_with_parent()
    try:
        yield
    except LetiError as error:
        _leave(Path(folder), type(error), str(error))
        raise SystemExit(error.exit_code) from error
    except Exception as bug:  # the process itself logs it, with its traceback
        if _is_lost_peer(bug):
            reason = str(bug).strip().partition("\n")[0]
            _leave(Path(folder), RetryableError, f"another process of this training is gone ({reason})")
            raise SystemExit(RetryableError.exit_code) from bug
        _leave(Path(folder), LetiError, f"{type(bug).__name__} in process {os.environ['RANK']}: {bug}")
        raise


def _is_lost_peer(error: Exception) -> bool:
    """Whether a collective failed, which it does when a process, or the machine it ran on, is gone."""
    # By name: importing torch takes seconds, and a process that fails here may not have needed it yet.
    from_torch = any(kind.__name__ == "DistError" for kind in type(error).__mro__)
    return from_torch or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _leave(folder: Path, kind: type[LetiError], message: str) -> None:
    text = json.dumps({"kind": kind.__name__, "message": message})
    (folder / f"rank-{os.environ['RANK']}.json").write_text(text)


def _line(job: Job, nodes: Nodes) -> list[str]:
    where = ["--standalone"]
    if nodes.size > 1:
        meeting = ["--master-addr", nodes.host, "--master-port", str(nodes.port)]
        where = ["--nnodes", str(nodes.size), "--node-rank", str(nodes.rank), *meeting]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(job.spec.train.processes)]
    # Without the dashes torchrun takes `--run` for an abbreviation of its own `--run-path`.
    return [*torchrun, *where, "-m", "--", "stages.train", "--run", job.run.uri, "--iteration", str(job.iteration)]


def _wait(process: subprocess.Popen[bytes], job: Job) -> int:
    """Return torchrun's exit code, or 0 once the first machine has committed: nobody is left to meet then."""
    while True:
        try:
            return process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if _is_done(job):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_SECONDS)
                _stop(process)
                return 0


def _is_done(job: Job) -> bool:
    try:
        return job.is_done()
    except StoreError as error:
        log.warning("cannot see whether the first machine is done: %s", error)
        return False


def _describe_tpus(nodes: Nodes, processes: int) -> None:
    """Put what a TPU's processes need to know of each other into the environment; `torch-tpu` works it out."""
    find_device()
    import torch

    if nodes.size > 1:
        place = {"NODE_RANK": nodes.rank, "MASTER_ADDR": nodes.host, "MASTER_PORT": nodes.port}
        os.environ.update({name: str(value) for name, value in place.items()})
    torch.tpu.distributed.set_tpu_launch_env(nnodes=nodes.size, nproc_per_node=processes)


def _first_failure(folder: Path) -> LetiError | None:
    """Return the error written first: later ones are mostly its consequences."""
    found = sorted(folder.glob("rank-*.json"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        return None
    failure = json.loads(found[0].read_text())
    kind: Callable[[str], LetiError] = getattr(errors, failure["kind"], LetiError)
    return kind(failure["message"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Pass the request on and give the processes time to write a checkpoint."""
    process.terminate()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    """Have the kernel ask this process to stop when its parent dies, so that a killed stage leaves nothing running."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
