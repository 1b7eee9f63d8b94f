"""`execute` in a pod of a gVisor runtime class: the image's root under the real runsc, no candidate out of its walls."""

# ruff: noqa: E501 -- a program is one line
from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stages.contract.artifacts import Input, Part, Ref
from stages.contract.records import Execution, Problem, Sample
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore
from stages.entrypoint import Job
from stages.execute import rootfs
from tests.sandbox import attacks, pod
from tests.sandbox.attacks import TESTS, Attack
from tests.sandbox.crossings import CROSSINGS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("runsc") is None, reason="runsc is not installed"),
]

HONEST = "import os\ndef f(x): return [x, x + 1]  # {number}"
PORT = 4711
SERVE = f"""
import runpy, socket, sys, threading
server = socket.create_server(("127.0.0.1", {PORT}))
socket.create_connection(("127.0.0.1", {PORT}), timeout=5).close()
sys.argv[0] = "execute"
runpy.run_module("stages.execute", run_name="__main__")
"""
"""The stage in a process that listens on the pod's own loopback, where a candidate must not get through."""


def _finds(name: str, *lines: str) -> Attack:
    """A solution that looks for what it must not reach, and returns it; the tests hold that nothing came back."""
    body = "\n".join(f"        {line}" for line in lines)
    solution = f"def f(x):\n    import os, socket, ctypes, sys\n    try:\n{body}\n    except OSError: return 0\n"
    return Attack(name, solution, ("passed",), ("assert not f(0), f(0)",))


_LIBC = "libc = ctypes.CDLL(None, use_errno=True)"
LOOKS = [
    _finds("Argo's template", "return open('/var/run/argo/template').read()"),
    _finds("Argo's folder", "return os.listdir('/var/run/argo')"),
    _finds("the outputs of Argo", "open('/var/run/argo/exitcode', 'w'); return 1"),
    _finds("credentials in the environment", "return [v for v in os.environ.values() if 'canary' in v]"),
    _finds("the store", "return os.listdir('/store')"),
    _finds("the scratch folder", "return os.listdir('/scratch')"),
    _finds("leti's packages", "return os.listdir(os.path.join(sys.prefix, 'lib/python3.11/site-packages'))"),
    _finds("another process", "return open('/proc/1/environ').read()"),
    _finds("processes", "return os.listdir('/proc')"),
    _finds("a server of the pod", f"socket.create_connection(('127.0.0.1', {PORT}), 1); return 1"),
    _finds("a network", "return [name for _, name in socket.if_nameindex() if name != 'lo']"),
    _finds("a writable root", "open('/note', 'w'); return 1"),
    _finds("a writable library", "open(os.__file__, 'a'); return 1"),
    _finds("a writable harness", "open('/leti/stages/execute/inside/trial.py', 'a'); return 1"),
    _finds("privilege", "os.setuid(1); return os.listdir('/root')"),
    _finds("a user namespace", _LIBC, "return libc.unshare(0x10000000) == 0"),
    _finds("a user namespace by clone", _LIBC, "return libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) >= 0"),
    _finds("a mount", _LIBC, "return libc.mount(b'proc', b'/proc', b'proc', 0, None) == 0"),
    _finds("a way to unmount", _LIBC, "return libc.umount2(b'/tmp', 2) == 0"),
    _finds("a way to remount", _LIBC, "return libc.mount(b'none', b'/', b'', 32 | 4096, None) == 0"),
    _finds("the zygote's end", "os.kill(1, 9); return 1"),
    _finds("the zygote's end by a thread", _LIBC, "return libc.syscall(234, 1, 1, 9) == 0"),
    _finds("the zygote's memory", _LIBC, "return libc.ptrace(16, 1, 0, 0) == 0"),
    _finds("the zygote's limits", "import resource", "resource.prlimit(1, resource.RLIMIT_NOFILE, (4, 4)); return 1"),
    _finds("the zygote by a descriptor", "import fcntl", "r, w = os.pipe()", "fcntl.fcntl(r, 8, 1); return 1"),
    _finds("a filter of the second table", _LIBC, "return libc.syscall(0x40000000 + 62, 1, 9) == 0"),
    _finds("memory that outlives it", _LIBC, "return libc.shmget(77, 4096, 0o1666) >= 0"),
    Attack("everybody's end", "import os\ndef f(x):\n    os.kill(-1, 9)\n    return [x, x + 1]", ("passed", "failed")),
]  # fmt: skip
CROWDS = ("E7 thread bomb", "E9 memory of many")


def _is_about_walls(attack: Attack) -> bool:
    """Whether its outcome depends on them, and on no clock; a sample cannot hold what is not a text."""
    if not attack.solution.isascii():
        return False
    return attack.name in CROWDS or (attack.name[0] in "CDF" and "timed_out" not in attack.outcomes)


PROGRAMS = [attack for attack in [*attacks.CATALOGUE, *CROSSINGS] if _is_about_walls(attack)] + LOOKS


@dataclass(frozen=True)
class Executed:
    """What a pod made of a run."""

    attacks: dict[str, Execution]
    neighbours: dict[str, Execution]
    description: str
    process: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image's root; it takes room, so it goes at the end."""
    folder = tmp_path_factory.mktemp("image")
    yield pod.lay_root(folder / "root")
    shutil.rmtree(folder)


def commit_run(store: Path, programs: list[Attack], scratch: Path, workers: int = 2) -> Run:
    """Commit a run whose samples are the programs, each followed by an honest one."""
    run = Run(LocalStore(store), "r1")
    execute = {"timeout_seconds": 8.0, "memory_mib": 256, "workers": workers}
    sections = {"execute": execute, "task": {"postprocess": "none"}, "build": {"solution_ids": "retokenized"}}
    run.create(RunSpec.model_validate(sections))
    made = (Input(ref="made by a test", sha256="0" * 64),)
    problems = [Problem(problem_id=attack.name, prompt="", tests=attack.tests) for attack in programs]
    problems.append(Problem(problem_id="honest", prompt="", tests=TESTS))
    samples = []
    for number, attack in enumerate(programs):
        samples.append(_sample(attack.name, number, attack.solution))
        samples.append(_sample("honest", number, HONEST.format(number=number)))
    scratch.mkdir()
    Job(run, "prepare", scratch=scratch).commit_rows(Ref("problems", split="train"), problems, inputs=made)
    Job(run, "generate", scratch=scratch).commit_rows(Ref("samples", 0, "train"), samples, inputs=made)
    for path in (store, *store.rglob("*")):
        path.chmod(0o777)
    return run


def _sample(problem: str, number: int, solution: str) -> Sample:
    row = {"problem_id": problem, "sample": number, "reward_token": "none", "solution": solution, "token_ids": (1,)}
    return Sample.model_validate({**row, "finish_reason": "eos", "num_prompt_tokens": 3, "seed": 1})


@pytest.fixture(scope="module")
def executed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Executed:
    folder = tmp_path_factory.mktemp("pod")
    run = commit_run(folder / "store", PROGRAMS, folder / "scratch")
    process = pod.Pod(root, folder / "pod", folder / "store").run(
        "python", "-c", SERVE, "--run", "/store/runs/r1", "--iteration", "0", "--split", "train"
    )
    assert process.returncode == 0, process.stderr[-3000:]
    rows = list(run.read(Ref("executions", 0, "train"), Execution))
    record = run.find_part(Ref("executions", 0, "train"), Part())
    assert record is not None
    names = [attack.name for attack in PROGRAMS]
    return Executed(
        attacks=dict(zip(names, rows[::2], strict=True)),
        neighbours=dict(zip(names, rows[1::2], strict=True)),
        description=record.made.environment["sandbox"],
        process=process,
    )


def test_the_candidates_root_comes_with_the_image(root: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    code = "from stages.execute import rootfs; print(rootfs.minimal_root())"
    done = pod.Pod(root, tmp_path / "pod", tmp_path / "store").run("python", "-c", code)
    assert Path(done.stdout.strip()).parent == rootfs.shipped_in(Path(sys.base_prefix)), done.stderr


@pytest.mark.parametrize("name", [attack.name for attack in PROGRAMS])
def test_an_attack_in_a_pod_gets_what_it_deserves(executed: Executed, name: str) -> None:
    attack = next(attack for attack in PROGRAMS if attack.name == name)
    execution = executed.attacks[name]
    # Of a bomb's limits any may be the first that it meets.
    assert execution.outcome in attack.outcomes + ("timed_out",) * (name in CROWDS), execution
    assert attack.error_type in (None, execution.error_type), execution
    assert execution.isolation == "gvisor-split"
    assert pod.SECRET not in execution.feedback


def test_an_honest_neighbour_in_a_pod_passes(executed: Executed) -> None:
    assert {name: one for name, one in executed.neighbours.items() if one.outcome != "passed"} == {}


def test_a_pod_records_the_walls_that_stood(executed: Executed) -> None:
    kind, _, rest = executed.description.rstrip(")").partition(" (")
    platform, _, walls = rest.partition("; ")
    assert (kind, platform) == ("gvisor", "pod")
    assert set(walls.split(", ")) >= {"user", "mount", "net", "ipc", "pid", "pids", "root", "seccomp"}


def test_a_fork_bomb_in_a_pod_ends_with_its_time(root: Path, tmp_path: Path) -> None:
    bomb = [attack for attack in attacks.CATALOGUE if attack.name == "E6 fork bomb"]
    run = commit_run(tmp_path / "store", bomb, tmp_path / "scratch", workers=1)
    done = pod.Pod(root, tmp_path / "pod", tmp_path / "store").run(
        "python", "-m", "stages.execute", "--run", "/store/runs/r1"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = run.read(Ref("executions", 0, "train"), Execution)
    assert [row.outcome for row in rows] == ["timed_out", "passed"]


REFUSING = """
import runpy, sys
from stages.execute.inside import seccomp, wall
kernel = wall.Kernel()
kernel.prctl(wall.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(kernel)
sys.argv[0] = "execute"
runpy.run_module("stages.execute", run_name="__main__")
"""
"""The stage where the kernel grants no namespace."""


def test_a_pod_that_grants_no_walls_executes_nothing(root: Path, tmp_path: Path) -> None:
    run = commit_run(tmp_path / "store", LOOKS[:1], tmp_path / "scratch", workers=1)
    refusing = pod.Pod(root, tmp_path / "pod", tmp_path / "store")
    done = refusing.run("python", "-c", REFUSING, "--run", "/store/runs/r1")
    assert done.returncode == 75, done.stderr[-3000:]
    assert "the pod's gVisor refuses a part of the inner wall: ipc, mount, net, pid, root" in done.stderr
    assert run.find_part(Ref("executions", 0, "train"), Part()) is None
