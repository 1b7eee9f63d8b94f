"""The process that reads candidates' programs for a source. It never runs them, but what parses them can be brought
down: by depth, by size, by what nobody has thought of. So it owns nothing and may do nothing but answer.

It says `{"ready"}`, then answers frames `{"prompt", "solution"}` with `{"text"}`; a source that ends in an exception
has nothing to say.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Callable
from importlib import import_module

from stages.execute.inside import seccomp, wall, wire

MEMORY_BYTES = 1 << 30
SECONDS = 10
"""Processor time for one program; then the process is killed. Not wall time: a busy machine must change no text."""
LONGEST = 20_000
"""Characters of an answer; far above what is kept of it."""
NOBODY = 65534


def main() -> None:
    """Answer until the input ends. The source's name is the last argument."""
    read: Callable[[str, int], str] = import_module(f"stages.execute.feedback.{sys.argv[-1]}").read
    requests, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    give_up_everything()
    wire.write_frame(answers, {"ready": True})
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    while True:
        try:
            message, _ = wire.read_frame(requests)
        except wire.Closed:
            return
        allow(SECONDS)
        wire.write_frame(answers, {"text": answer(read, message["prompt"], message["solution"])})


def allow(seconds: int) -> None:
    """Grant this process so much processor time from now on. Only the soft limit moves: of a hard one a process gets
    nothing back, and the tenth second of all programs together would end it.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime) + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (until if hard == resource.RLIM_INFINITY else min(until, hard), hard))


def answer(read: Callable[[str, int], str], prompt: str, solution: str) -> str:
    """Return what a source says of the candidate's lines of a program: those of the solution, the prompt's last one
    included where the solution goes on in it.
    """
    first_line = newlines(prompt).count("\n") + 1
    try:
        return read(newlines(prompt + solution), first_line)[:LONGEST]
    except (Exception, RecursionError, MemoryError):
        return ""


def newlines(text: str) -> str:
    """Return the text with each line end as one newline: CPython reads CR LF and CR as such."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def give_up_everything() -> None:
    """Leave the network, the user and the right to more memory, files and processes; what is refused is left out."""
    kernel = wall.Kernel()
    wall.die_with_parent(kernel)
    wall.separate(kernel)
    wall.become_user(NOBODY)
    wall.give_up_privilege(kernel, keep_root=False)
    wall.limit(resource.RLIMIT_AS, MEMORY_BYTES)
    wall.limit(resource.RLIMIT_FSIZE, 0)
    wall.limit(resource.RLIMIT_NPROC, 0)
    wall.limit(resource.RLIMIT_CORE, 0)
    wall.limit(resource.RLIMIT_NOFILE, 16)
    if seccomp.known():
        with contextlib.suppress(OSError):
            seccomp.install(kernel, hidden=False)
