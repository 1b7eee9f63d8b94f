"""The logs of units in the store: what they are called, and how a container leaves its own there before it goes.

A pod's log goes with the pod. With `LETI_KEEP_LOG=true` a stage also writes its entries to a file on scratch and puts
that into the store as its last act; one that is killed leaves none, and one that may not write there says nothing:
a log is worth no failure.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stages.contract.artifacts import Part
from stages.contract.flow import StageName
from stages.contract.run import Run


def log_key(stage: StageName, iteration: int, split: str, part: Part, attempt: str) -> str:
    """Return the key of an attempt's log, relative to the run; `attempt` begins with the time it started."""
    unit = "prepare" if stage == "prepare" else f"{iteration:04d}-{stage}-{split}-{part.stem}"
    return f"logs/{unit}.{attempt}.log"


def attempt_name(started: float) -> str:
    """Return what tells an attempt from others: when it started, its host, and its rank where there are several."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(started))
    host = platform.node().replace(".", "-")
    rank = os.environ.get("RANK")
    return f"{stamp}-{host}" + (f"-rank{rank}" if rank else "")


@contextlib.contextmanager
def kept(log: logging.Logger, run_uri: str, key: str, formatter: logging.Formatter) -> Iterator[None]:
    """Keep what is logged meanwhile under `key` of the run, where the environment asks for that."""
    if os.environ.get("LETI_KEEP_LOG") != "true":
        yield
        return
    handle, name = tempfile.mkstemp(prefix="leti-log-", dir=os.environ.get("LETI_SCRATCH"))
    os.close(handle)
    path, handler = Path(name), logging.FileHandler(name, encoding="utf-8")
    handler.setFormatter(formatter)
    log.addHandler(handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the unit has ended; nothing is left to stop
        log.removeHandler(handler)
        handler.close()
        with contextlib.suppress(Exception):
            run = Run.open(run_uri)
            run.store.put_if_absent(run.key(key), path.read_bytes())
        path.unlink(missing_ok=True)
