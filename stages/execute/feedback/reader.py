"""Asking a source about many programs, each in a child process that is replaced when a program brings it down."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from stages.contract.errors import SandboxUnavailable
from stages.execute.inside import wire

LONGEST = 100_000
"""Characters of a program; of a longer one nothing is said."""
START_SECONDS = 120.0
ANSWER_SECONDS = 120.0
"""Wall time until a child is given up that neither answers nor ends; its processor time ends far earlier."""
HOME = str(Path(__file__).parents[3])
# First, so that it is the code that runs here and not what may be installed beside it.
START = f"import sys; sys.path.insert(0, {HOME!r}); from stages.execute.feedback.child import main; main()"


class Text(NamedTuple):
    """A candidate's program without its tests; lines of the prompt are not the candidate's."""

    prompt: str
    solution: str


def read_all(source: str, texts: Sequence[Text], workers: int) -> list[str]:
    """Return what the source says of each text, in order, equal texts read once; empty for one it could not read.

    Raises `SandboxUnavailable` where the child process does not start.
    """
    distinct = list(dict.fromkeys(texts))
    if not distinct:
        return []
    lanes = [distinct[lane :: max(1, workers)] for lane in range(max(1, workers))]
    known: dict[Text, str] = {}
    with ThreadPoolExecutor(len(lanes)) as pool:
        for lane, said in zip(lanes, pool.map(lambda lane: _read_lane(source, lane), lanes), strict=True):
            known |= zip(lane, said, strict=True)
    return [known[text] for text in texts]


def _read_lane(source: str, texts: Sequence[Text]) -> list[str]:
    with contextlib.ExitStack() as stack:
        child = Child(source)
        stack.callback(lambda: child.close())
        said = []
        for text in texts:
            if child.has_ended:
                child.close()
                child = Child(source)
            said.append(child.ask(text))
        return said


class Child:
    """One child process, waiting for programs."""

    def __init__(self, source: str) -> None:
        self.patience = ANSWER_SECONDS
        pipe = subprocess.PIPE
        line = [sys.executable, "-I", "-B", "-c", START, source]
        self.process = subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, env={}, cwd="/")
        self.has_ended = False
        with self._watched(START_SECONDS):
            ready = self._receive()
        if ready is None:
            last = self._last_words()
            self.close()
            raise SandboxUnavailable(f"feedback.source: the process that asks {source!r} did not start: {last}")

    def ask(self, text: Text) -> str:
        """Return what the source says; empty where this program brought the child down."""
        if len(text.prompt) + len(text.solution) > LONGEST:
            return ""
        assert self.process.stdin is not None
        answer = None
        with self._watched(self.patience), contextlib.suppress(OSError):
            wire.write_frame(self.process.stdin.fileno(), text._asdict())
            answer = self._receive()
        self.has_ended = answer is None
        said = answer.get("text") if answer else ""
        return said if type(said) is str else ""

    @contextlib.contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Kill the child after so long, which also ends a message of which only a part is written or read."""
        timer = threading.Timer(seconds, self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _receive(self) -> dict[str, Any] | None:
        """Return the next message; None where the child has ended or says what is no message."""
        assert self.process.stdout is not None
        try:
            message, _ = wire.read_frame(self.process.stdout.fileno())
        except (wire.Closed, wire.Malformed, OSError):
            return None
        return message if type(message) is dict else None

    def _last_words(self) -> str:
        assert self.process.stderr is not None
        self.process.kill()
        lines = self.process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def close(self) -> None:
        """End the process and wait for it."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self.process.wait()
