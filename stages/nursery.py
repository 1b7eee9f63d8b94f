"""Stages as forks of one process that has imported what they all import: seconds less for each of many small units.

    python -m stages.nursery FD PADDING

FD is a Unix stream socket to whoever wants stages started. A request is a line of JSON, `{"line": ["stages.build",
"--run", ...], "log": FILE, "environment": {...}}`; the answers are `{"started": PID}` (in order) and, when a stage has
ended, `{"ended": PID, "status": WAIT_STATUS}`. A stage is started as it is alone: a session of its own, standard input
closed, output to its log, its arguments where `ps` looks for them, signals at their defaults, and SIGTERM when this
process goes; this process goes when the socket closes.

Only libraries are shared. Nothing has computed when a stage is forked: the process has one thread and no accelerator in
use, and ends rather than fork otherwise. PADDING makes room for the arguments of stages.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

PRELOADED = (
    "stages.entrypoint",
    "stages.prepare.checkpoint",
    "stages.generate.transformer",
    "stages.train.deepspeed",
    "deepspeed",
)
AT_IMPORT = {
    "OMP_WAIT_POLICY": "passive",
    "TQDM_DISABLE": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""Read by libraries when they are loaded: what the stages set for themselves, and no threads of NumPy's and Arrow's."""
_PR_SET_PDEATHSIG = 1
_ARG_START, _ARG_END = 45, 46
"""Fields of /proc/self/stat after the process's name, from 0 (proc(5): 48 and 49)."""


class Order(NamedTuple):
    """A stage to start."""

    line: list[str]
    """Module and arguments."""
    log: str
    environment: dict[str, str]


def main() -> NoReturn:
    """Preload, then start stages until the socket closes."""
    os.environ.update(AT_IMPORT)
    driver = socket.socket(fileno=int(sys.argv[1]))
    for module in PRELOADED:
        import_module(module)
    order = _serve(driver)
    if order is None:
        sys.exit(0)
    # From here on this is the forked stage.
    sys.argv = list(order.line)
    runpy.run_module(order.line[0], run_name="__main__", alter_sys=True)
    sys.exit(0)


def _serve(driver: socket.socket) -> Order | None:
    """Fork stages as asked; None when the socket has closed, an order in the stage that is to do it."""
    waker, wakes = socket.socketpair()
    for end in (waker, wakes):
        end.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    read = b""
    while True:
        ready = select.select([driver, waker], [], [])[0]
        if waker in ready:
            waker.recv(4096)
            _report_ended(driver)
        if driver not in ready:
            continue
        data = driver.recv(1 << 16)
        if not data:
            return None
        *lines, read = (read + data).split(b"\n")
        for line in lines:
            order = Order(**json.loads(line))
            if _fork(driver, order) == 0:
                for one in (waker, wakes):
                    one.close()
                return order


def _fork(driver: socket.socket, order: Order) -> int:
    """Return the stage's process id here, once it is fit to be signalled, and 0 in the stage."""
    if len(os.listdir("/proc/self/task")) > 1:
        sys.exit("a library has started threads, which a fork would lose; set LETI_NURSERY=0")
    ready, set_up = os.pipe()
    gc.freeze()
    parent, child = os.getpid(), os.fork()
    if child:
        os.close(set_up)
        os.read(ready, 1)
        os.close(ready)
        _answer(driver, started=child)
        return child
    signal.set_wakeup_fd(-1)
    _become_stage(order, parent)
    driver.close()
    os.write(set_up, b".")
    for end in (ready, set_up):
        os.close(end)
    return 0


def _become_stage(order: Order, parent: int) -> None:
    os.setsid()
    _die_with(parent)
    for each in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)
    output = os.open(order.log, os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.environ.clear()
    os.environ.update(order.environment)
    random.seed()
    _show_arguments([sys.executable, "-m", *order.line])


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent goes, also when it has gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _show_arguments(arguments: list[str]) -> None:
    """Write a command line over this process's own, where ps(1) reads it; what does not fit is left out."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    text = b"\0".join(map(os.fsencode, arguments))[: end - start - 1]
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, len(text))


def _report_ended(driver: socket.socket) -> None:
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if child == 0:
            return
        _answer(driver, ended=child, status=status)


def _answer(driver: socket.socket, **fields: Any) -> None:
    answer: Mapping[str, Any] = fields
    driver.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
