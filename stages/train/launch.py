"""One command, one or many processes: the stage starts itself again under torchrun where the spec asks for several.

Two environment variables widen that to several machines, each running the same line: `LETI_NODES` and
`LETI_NODE_RANK`, with `LETI_RENDEZVOUS` as `host:port` of the first. A stage that torchrun itself started (RANK is set)
simply is one of the processes.
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
from contextlib import contextmanager
from pathlib import Path

from stages.contract import errors
from stages.contract.errors import LetiError, RetryableError
from stages.entrypoint import Job, threads

log = logging.getLogger("leti.train")
FAILURES = "LETI_FAILURES"
"""Folder in which a process leaves the error it ends with, because torchrun reports nothing but 1."""
GRACE_SECONDS = 60.0
_PR_SET_PDEATHSIG = 1


def is_rank() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def nodes() -> int:
    """Return the number of machines that run this stage together."""
    return int(os.environ.get("LETI_NODES", "1"))


def needs_launch(job: Job) -> bool:
    """Whether this process should start others and not train itself."""
    return not is_rank() and job.spec.train.processes * nodes() > 1


def launch(job: Job) -> None:
    """Run the stage in `train.processes` processes until all are done; raises what the first to fail ended with."""
    failures = job.scratch / "failures"
    failures.mkdir()
    environment = {**os.environ, FAILURES: str(failures), "OMP_NUM_THREADS": str(threads(job.spec.train.processes))}
    process = subprocess.Popen(_line(job), env=environment, preexec_fn=_die_with_parent)
    try:
        code = process.wait()
    except KeyboardInterrupt:  # also what SIGTERM raises, see stages.entrypoint
        _stop(process)
        raise
    if code:
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
        _leave(Path(folder), LetiError, f"{type(bug).__name__} in process {os.environ['RANK']}: {bug}")
        raise


def _leave(folder: Path, kind: type[LetiError], message: str) -> None:
    text = json.dumps({"kind": kind.__name__, "message": message})
    (folder / f"rank-{os.environ['RANK']}.json").write_text(text)


def _line(job: Job) -> list[str]:
    nodes = os.environ.get("LETI_NODES", "1")
    where = ["--standalone"]
    if nodes != "1":
        host, _, port = os.environ["LETI_RENDEZVOUS"].partition(":")
        rank = os.environ["LETI_NODE_RANK"]
        where = ["--nnodes", nodes, "--node-rank", rank, "--master-addr", host, "--master-port", port]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(job.spec.train.processes)]
    # Without the dashes torchrun takes `--run` for an abbreviation of its own `--run-path`.
    return [*torchrun, *where, "-m", "--", "stages.train", "--run", job.run.uri, "--iteration", str(job.iteration)]


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
