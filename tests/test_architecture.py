"""The house rules that a machine can check: who imports whom, what is loaded when, how large things may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

MODULES = sorted(path.relative_to(ROOT) for top in ("stages", "leti_ctl") for path in (ROOT / top).rglob("*.py"))
STAGES = {"prepare", "generate", "execute", "build", "train", "evaluate"}
INSIDE = Path("stages/execute/inside")
JUDGE = {("leti_ctl.commands.judge", "stages.execute.judge"), ("leti_ctl.doctor.sandbox", "stages.execute.judge")}
"""`leti-ctl judge` is the execute stage's judge without a run, and `doctor` tries it; the one door between the planes.
"""

GATES: dict[str, tuple[str, ...]] = {
    "torch": ("stages.device", "stages.prepare", "stages.generate", "stages.train"),
    "transformers": ("stages.prepare", "stages.generate", "stages.train"),
    "safetensors": ("stages.prepare", "stages.generate", "stages.train"),
    "deepspeed": ("stages.train",),
    "pyarrow": ("stages.prepare", "stages.build", "stages.train", "leti_ctl.audit", "leti_ctl.inventory.parquet"),
    "datasets": ("stages.prepare", "stages.tasks"),
    "spacy": ("stages.tasks.eae",),
    "boto3": ("stages.contract.store.client",),
    "botocore": ("stages.contract.store",),
    "s3transfer": ("stages.contract.store.crt",),
    "awscrt": ("stages.contract.store.crt",),
    "mypy_boto3_s3": ("stages.contract.store.client",),
    "kubernetes": ("leti_ctl.backends.argo",),
    "argo_workflows": ("leti_ctl.backends.argo",),
    "mlflow": ("leti_ctl.tracking.mlflow",),
    "tensorboard": ("leti_ctl.tracking.tensorboard",),
    "pyflakes": ("stages.execute.feedback",),
    "click": ("leti_ctl",),
    "rich": ("leti_ctl",),
    "yaml": ("leti_ctl",),
    # Candidates are started by `execute` alone. The others start torchrun, stages and pip, and ask versions.
    "subprocess": (
        "stages.execute",
        "stages.train.launch",
        "stages.prepare.smollm2",
        "leti_ctl.backends",
        "leti_ctl.audit.shadow",
        "leti_ctl.doctor",
    ),
    "multiprocessing": ("stages.execute",),
    "pickle": (),
}
"""Third-party (and risky) modules, and the only places that may import them."""

LAYERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "stages.contract": (
        ("errors", "packages", "seeds", "cuts"),
        ("records", "store"),
        ("artifacts", "prompts"),
        ("sections",),
        ("benchmarks",),
        ("rules",),
        ("spec",),
        ("flow", "schemas", "seal", "transfer", "notes"),
        ("run",),
        ("origin", "logs"),
    ),
    "leti_ctl": (
        ("layers", "pipeline", "control", "ending"),
        ("presets", "decisions", "inventory"),
        ("config", "results", "audit"),
        ("options", "follow", "tracking", "trace"),
        ("artifacts",),
        ("compare", "launch"),
        ("backends",),
        ("steps", "estimate"),
        ("doctor", "suite"),
        ("report",),
        ("commands",),
        ("cli",),
        ("__main__",),
    ),
}
"""Modules and packages in layers, the lowest first: each imports only what lies in a layer below its own.

Types may be named upwards (`if TYPE_CHECKING:`).
"""

FILE_LINES = 400
FUNCTION_LINES = 60
ARGUMENTS = 6
MANY_ARGUMENTS = {
    "leti_ctl.commands.resume.resume": "click passes every option as an argument",
    "leti_ctl.commands.logs.logs": "click passes every option as an argument",
    "leti_ctl.commands.submit.submit": "click passes every option as an argument",
    "leti_ctl.commands.estimate.estimate": "click passes every option as an argument",
    "leti_ctl.commands.suite.suite": "click passes every option as an argument",
    "leti_ctl.commands.samples.samples": "click passes every option as an argument",
    "leti_ctl.commands.report.report": "click passes every option as an argument",
    "leti_ctl.commands.render.render": "click passes every option as an argument",
    "leti_ctl.commands.gc.gc": "click passes every option as an argument",
    "leti_ctl.commands.artifacts.diff": "click passes every option as an argument",
    "leti_ctl.commands.trace.trace": "click passes every option as an argument",
    "leti_ctl.commands.track.track": "click passes every option as an argument",
    "leti_ctl.commands.judge.judge": "click passes every option as an argument",
    "stages.train.packed._interface": "the signature is that of transformers' attention functions",
}
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc", "manager", "tools"}


def dotted(path: Path) -> str:
    """Return the module name of a source file."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_bytes(), str(path))


def imports(path: Path, *, types: bool = True) -> Iterator[str]:
    """Yield every module a file imports, wherever in the file; names of `from x import y` that are modules as x.y.

    Without `types`, those are left out that only a type checker sees.
    """
    unseen = set() if types else set(type_checked(tree(path)))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node not in unseen:
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def type_checked(module: ast.Module) -> Iterator[ast.AST]:
    """Yield what stands below `if TYPE_CHECKING:`."""
    for node in ast.walk(module):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from ast.walk(node)


def lies_in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def rooms(package: str) -> dict[Path, str]:
    """Return the files of a package with the module or package directly below it that each lies in."""
    top = Path(*package.split("."))
    inside = [path for path in MODULES if path.is_relative_to(top) and path != top / "__init__.py"]
    return {path: path.relative_to(top).parts[0].removesuffix(".py") for path in inside}


def allowed(module: str) -> tuple[str, ...]:
    """Return the packages of ours that a module of ours may import."""
    first, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    if first == "leti_ctl":
        return ("leti_ctl", "stages.contract")
    if part in ("", "contract"):
        return ("stages.contract", "stages.__version__", "stages.__file__")
    if part in ("entrypoint", "device", "tasks"):
        return ("stages.contract", f"stages.{part}")
    return ("stages.contract", "stages.entrypoint", "stages.device", "stages.tasks", f"stages.{part}")


def test_imports_run_one_way() -> None:
    wrong = []
    for path in MODULES:
        module = dotted(path)
        ways = (*allowed(module), *(target for source, target in JUDGE if source == module))
        ours = [name for name in imports(path) if name.partition(".")[0] in ("stages", "leti_ctl") and name != "stages"]
        wrong += [f"{module} imports {name}" for name in ours if not any(lies_in(name, way) for way in ways)]
    assert wrong == []


@pytest.mark.parametrize("package", LAYERS)
def test_layers_import_only_what_lies_below_them(package: str) -> None:
    rank = {name: number for number, layer in enumerate(LAYERS[package]) for name in layer}
    assert rank.keys() == set(rooms(package).values())
    for path, room in rooms(package).items():
        for name in imports(path, types=False):
            other = name.removeprefix(f"{package}.").partition(".")[0] if lies_in(name, package) else room
            known = other == room or other not in rank or rank[other] < rank[room]
            assert known, f"{dotted(path)} imports {name}"


def test_heavy_and_risky_modules_are_imported_behind_their_gates_only() -> None:
    wrong = []
    for path in MODULES:
        module = dotted(path)
        for name in imports(path):
            gate = GATES.get(name.partition(".")[0])
            if gate is not None and not any(lies_in(module, place) for place in gate):
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_every_stage_is_a_package_with_a_main() -> None:
    for stage in STAGES:
        assert (ROOT / "stages" / stage / "__main__.py").is_file(), stage


def test_what_runs_in_the_sandbox_needs_nothing_but_python() -> None:
    for path in MODULES:
        if path.is_relative_to(INSIDE):
            for name in imports(path):
                known = lies_in(name, dotted(INSIDE)) or name.partition(".")[0] in sys.stdlib_module_names
                assert known, f"{path} imports {name}"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("leti_ctl.cli", "torch transformers boto3 botocore kubernetes pyarrow numpy pydantic rich"),
        ("stages.contract.run", "torch transformers boto3 botocore kubernetes pyarrow numpy"),
        ("stages.entrypoint", "torch transformers boto3 botocore kubernetes pyarrow numpy"),
    ],
)
def test_importing_it_loads_nothing_heavy(module: str, heavy: str) -> None:
    script = f"import sys, {module}; print(*sorted(sys.modules.keys() & set({heavy.split()!r})))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_module_is_one_thing_with_a_name_for_it() -> None:
    long = [path for path in MODULES if len((ROOT / path).read_text().splitlines()) > FILE_LINES]
    drawers = [path for path in MODULES if path.stem in DRAWERS]
    silent = [path for path in MODULES if not ast.get_docstring(tree(path))]
    assert (long, drawers, silent) == ([], [], [])


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a file, methods and nested ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_functions_are_short() -> None:
    long = []
    for path in MODULES:
        for node in functions(path):
            assert node.end_lineno is not None
            if node.end_lineno - node.lineno >= FUNCTION_LINES:
                long.append(f"{path}:{node.lineno} {node.name}")
    assert long == []


def test_functions_take_few_arguments() -> None:
    many = []
    for path in MODULES:
        for node in functions(path):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            taken = [one.arg for one in given if one.arg not in ("self", "cls")]
            if len(taken) > ARGUMENTS and f"{dotted(path)}.{node.name}" not in MANY_ARGUMENTS:
                many.append(f"{path}:{node.lineno} {node.name}")
    assert many == []


def test_the_list_of_exceptions_has_no_dead_entries() -> None:
    names = {f"{dotted(path)}.{node.name}" for path in MODULES for node in functions(path)}
    assert names >= MANY_ARGUMENTS.keys()
    assert {dotted(path) for path in MODULES} >= {module for pair in JUDGE for module in pair}


# Put together from halves, so that this file does not contain what it looks for.
WORKPLACE = [
    r"(?<![\w./-])/wo" + r"rk/",
    r"\.lib" + r"rary\b",
    r"\bfa" + r"rm-[a-z]",
    r"\bissues " + r"show\b",
    r"/opt/" + r"pypi|/opt/" + r"wheels",
    r"\bBRIEF" + r"\.md\b",
    r"/tmp/" + r"leti\b",
]


def test_nothing_in_the_repository_tells_where_it_was_made() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile("|".join(WORKPLACE).encode())
    told = []
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            told += [f"{name}: {match.group()!r}" for match in pattern.finditer(path.read_bytes())]
            told += [f"{name}: its name" for _ in pattern.finditer(name.encode())]
    assert told == []
