"""Honest programs of every kind, and what plain CPython makes of them.

`probes.txt` holds them: `=== name`, the solution, `---`, the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from stages.execute.judge import Program
from tests.stages.execute.programs import text, without_library

TABLE = Path(__file__).with_name("probes.txt")
_ALL = """
import json, os, sys, tempfile
for program in json.load(sys.stdin):
    sys.stdout.flush()
    path = os.path.join(tempfile.mkdtemp(dir=sys.argv[1]), "program.py")
    with open(path, "w", newline="", errors="surrogatepass") as file:
        file.write(program)
    errors = path + ".err"
    if os.fork() == 0:
        descriptor = os.open(errors, os.O_CREAT | os.O_WRONLY)
        os.dup2(descriptor, 2)
        os.dup2(os.open("/dev/null", os.O_RDWR), 1)
        os.execv(sys.executable, [sys.executable, "-I", "-W", "ignore", path])
    _, status = os.wait()
    with open(errors, errors="replace") as file:
        print(json.dumps([os.waitstatus_to_exitcode(status), file.read().replace(path, "<string>")]))
"""


def table() -> dict[str, Program]:
    """The programs by name."""
    found = {}
    for record in TABLE.read_text().split("=== ")[1:]:
        name, _, body = record.partition("\n")
        solution, _, tests = body.partition("\n---\n")
        found[name] = Program("", solution, "", (tests.rstrip("\n"),))
    return found


def of_cpython(programs: list[Program], folder: Path) -> list[tuple[str, str]]:
    """Outcome and standard error of each as a script of its own."""
    sent = json.dumps([text(program) for program in programs])
    command = [sys.executable, "-I", "-S", "-c", _ALL, str(folder)]
    done = subprocess.run(command, input=sent, capture_output=True, text=True, timeout=300, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [("failed" if status else "passed", without_library(errors)) for status, errors in answers]
