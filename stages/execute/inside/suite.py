"""The tests of a problem: compiled once, and what has to be known to evaluate them apart from the solution."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from collections.abc import Iterator
from types import CodeType, ModuleType
from typing import Any

from stages.execute.inside import certify, codec, exhibit, remote, report
from stages.execute.inside.handles import Blueprint, Handle

FILE_NAME = "<string>"
UNSPLITTABLE_NAMES = certify.words(
    "globals locals eval exec compile __import__ open redirect_stdout redirect_stderr patch monkeypatch"
)
"""What looks into the one namespace that solution and tests then share, or replaces a part of it."""
UNSPLITTABLE_MODULES = frozenset({"__main__", "builtins", "pickle", "shutil", "tempfile", "unittest.mock"})
UNSPLITTABLE_ATTRIBUTES = certify.words(
    """__globals__ __closure__ stdout stdin stderr modules redirect_stdout redirect_stderr patch environ putenv chdir
    getsource currentframe stack getsourcelines getmembers"""
)
MUTATORS = certify.words(
    """append appendleft extend extendleft insert remove pop popleft popitem clear sort reverse rotate update add
    discard setdefault difference_update intersection_update symmetric_difference_update subtract move_to_end"""
)

SETTINGS = certify.words("getcontext setcontext setfirstweekday register purge")
"""What changes a module of the library for all that use it."""

JUDGING_BUILTINS = certify.words(
    """abs all any ascii bin bool bytearray bytes callable chr complex dict dir divmod enumerate filter float
    format frozenset getattr hasattr hash hex id int isinstance issubclass iter len list map next object oct ord
    print range repr reversed round set slice sorted str tuple type zip"""
)
"""Built-ins that tests judge with. A solution that defines one of these names does not get to replace it for the
tests.
"""

JUDGING_NAMES = {"isclose": "math", "Counter": "collections"}
"""Names of the library that tests judge with, in the hope that the solution imported them: these are the library's as
well, but where nothing else can be the function under test.
"""

BUILTINS = frozenset(vars(builtins))
HARMLESS_MODULES = remote.MODULES - {"asyncio", "contextlib", "inspect", "pathlib", "sys", "time"}
HARMLESS_NODES = certify.NODES | {ast.With, ast.withitem}
RISKY_BUILTINS = (
    BUILTINS
    - certify.SAFE_BUILTINS
    - {"type", "getattr", "hasattr", "callable", "id", "object"}
    - {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)}
)
_STORED = frozenset({ast.Name, ast.Attribute, ast.Subscript})
_CLASS_NAME = re.compile(r"[A-Z][A-Za-z0-9]*")
_PLAIN_ATTRIBUTES = frozenset(name for kind in codec.WRITERS for name in dir(kind)) | frozenset(
    dir(str) + dir(int) + dir(float)
)
_IMPORTS = frozenset({ast.Import, ast.ImportFrom})
_PLANNED = frozenset({ast.Assert})
_LITERAL_CONTAINERS = frozenset({list, tuple, dict, set, bytes, complex})


class Suite:
    """Setup and tests of one problem. Raises SyntaxError where they do not compile by themselves."""

    def __init__(self, setup: str, tests: list[str]) -> None:
        self.text = "\n".join([*([setup] if setup else []), *tests])
        tree = ast.parse(self.text, FILE_NAME)
        self.nodes = certify.walk(tree)
        self.kinds = {type(node) for node in self.nodes}
        self.code: CodeType = compile(tree, FILE_NAME, "exec", dont_inherit=True)
        self.codes = report.own_codes(self.code)
        names = [node for node in self.nodes if type(node) is ast.Name]
        self.loads = {node.id for node in names if type(node.ctx) is ast.Load}
        self.bound = set(_bound_names(self.nodes))
        self.modules = set(_imported_modules(self.nodes)) if self.kinds & _IMPORTS else set()
        self.attributes = {node.attr for node in self.nodes if type(node) is ast.Attribute}
        self.module_names = remote.MODULES & {
            node.value.id for node in self.nodes if type(node) is ast.Attribute and type(node.value) is ast.Name
        }
        self.definitions = _definitions(tree, len(setup.splitlines()))
        unresolved = self.loads - self.bound - BUILTINS
        self.replaceable = frozenset() if unresolved else self.loads & BUILTINS - JUDGING_BUILTINS
        self.plan = self._plan(tree) if self.kinds & _PLANNED else []
        self.shares = self._may_see_changes()
        self.class_names, self.treated_as_classes = _class_names(self.nodes)
        self.judging_names = frozenset(unresolved & JUDGING_NAMES.keys() - self.treated_as_classes)
        if self.judging_names == unresolved:
            self.judging_names = frozenset()
        self.exhibits = exhibit.NAME in self.bound
        self.splittable = not self._needs_one_namespace(unresolved)
        self.draws = "random" in self.modules | self.loads
        self.seeds = "random" in self.modules and "seed" in self.attributes | self.loads
        self.in_process = self._leaves_no_trace() and not self.seeds

    def _plan(self, tree: ast.Module) -> list[tuple[str, list[Any]]]:
        """The calls that the tests make first, in order, as far as their text alone determines them: function name and
        encoded arguments. The candidate makes them without being asked each time, which saves most of the
        conversation.
        """
        imported: set[str] = set()
        plan: list[tuple[str, list[Any]]] = []
        for statement in tree.body:
            if type(statement) in _IMPORTS:
                imported.update(_bound_names([statement]))
                continue
            call = _certain_call(statement, imported | BUILTINS - self.replaceable)
            if call is None or not self.may_be_solutions(call.func.id):  # type: ignore[attr-defined]
                break
            arguments = tuple(ast.literal_eval(argument) for argument in call.args)
            plan.append((call.func.id, codec.Encoder(_refuse).encode(arguments)))  # type: ignore[attr-defined]
        return plan

    def names(self) -> list[str]:
        """What the tests may look up among the solution's names."""
        return sorted(name for name in self.loads if self.may_be_solutions(name))

    def may_be_solutions(self, name: str) -> bool:
        """Whether the tests mean the solution's definition of a name rather than the built-in one.

        The built-in one, except where nothing but a built-in's name can be the function under test (MBPP 126 asks for
        `sum`).
        """
        return name not in BUILTINS or name in self.replaceable

    def needed_by(self, reads: list[str]) -> list[str]:
        """Statements that define names the solution reads: every import, and whatever else setup defines."""
        return [statement for names, statement in self.definitions if not names.isdisjoint(reads)]

    def _needs_one_namespace(self, unresolved: set[str]) -> bool:
        classes = [node for node in self.nodes if type(node) is ast.ClassDef]
        bases = {base.id for node in classes for base in node.bases if isinstance(base, ast.Name)}
        return bool(
            bases & unresolved
            or self._looks_into_itself()
            or self.attributes & UNSPLITTABLE_ATTRIBUTES
            or self.loads & UNSPLITTABLE_NAMES
            or self.modules & UNSPLITTABLE_MODULES
        )

    def _looks_into_itself(self) -> bool:
        """`vars()` and `dir()` without an argument."""
        calls = [node.func for node in self.nodes if isinstance(node, ast.Call) and not node.args]
        return any(isinstance(function, ast.Name) and function.id in ("vars", "dir") for function in calls)

    def _may_see_changes(self) -> bool:
        """Whether the tests keep something, or change something, that the solution may hold as well."""
        return bool(self.attributes & MUTATORS) or any(
            type(node) in _STORED and type(node.ctx) is not ast.Load  # type: ignore[attr-defined]
            for node in self.nodes
        )

    def _leaves_no_trace(self) -> bool:
        """Whether evaluating the tests changes nothing in the referee: others get a fork of it to themselves."""
        return not (
            self.modules - HARMLESS_MODULES
            or self.kinds - HARMLESS_NODES
            or self.loads & RISKY_BUILTINS
            or any(name.startswith("__") for name in self.attributes)
            or (self.attributes | self.loads) & SETTINGS
            or any(_stores_into_others(node) for node in self.nodes)
            or any(type(node) is ast.ClassDef and node.keywords for node in self.nodes)
        )


def _stores_into_others(node: ast.AST) -> bool:
    """Whether a node stores an attribute, or an item of one: of a module's it would stay."""
    if isinstance(node, ast.Attribute):
        return not isinstance(node.ctx, ast.Load)
    return (
        isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) and isinstance(node.value, ast.Attribute)
    )


def _bound_names(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        kind = type(node)
        if kind is ast.Name:
            if type(node.ctx) is not ast.Load:  # type: ignore[attr-defined]
                yield node.id  # type: ignore[attr-defined]
        elif kind is ast.arg:
            yield node.arg  # type: ignore[attr-defined]
        elif kind in _IMPORTS:
            yield from _imported_names(node)  # type: ignore[arg-type]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)) and node.name:
            yield node.name


def _class_names(nodes: list[ast.AST]) -> tuple[frozenset[str], frozenset[str]]:
    """Names that the tests call and that are spelt as classes are; and those of them that they use as only a class can
    be used: for `isinstance`, for attributes of an instance that no plain value has, or for its commands.
    """
    called: set[str] = set()
    used: set[str] = set()
    commands = [node.value.func for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    commanded = {id(function) for function in commands}
    made: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            made[node.targets[0].id] = _called_name(node.value)
    for node in nodes:
        if isinstance(node, ast.Call):
            called.add(_called_name(node))
            if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
                used.update(part.id for part in node.args[1:] if isinstance(part, ast.Name))
        elif isinstance(node, ast.Attribute) and (node.attr not in _PLAIN_ATTRIBUTES or id(node) in commanded):
            root = node.value
            used.add(made.get(root.id, "") if isinstance(root, ast.Name) else _called_name(root))
    named = frozenset(name for name in called if _CLASS_NAME.fullmatch(name))
    return named, named & used


def _called_name(node: ast.expr) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _certain_call(statement: ast.stmt, harmless: set[str]) -> ast.Call | None:
    """The one call of the solution that an assert makes whatever happens, if all else in it is literals and `harmless`
    names.
    """
    if not isinstance(statement, ast.Assert):
        return None
    foreign = [node for node in certify.walk(statement) if type(node) is ast.Name and node.id not in harmless]
    if len(foreign) != 1:
        return None
    pending: list[ast.expr] = [statement.test]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Call) and node.func is foreign[0]:
            return node if not node.keywords and all(map(_is_literal, node.args)) else None
        pending += _certain_parts(node)
    return None


def _certain_parts(node: ast.expr) -> list[ast.expr]:
    """Operands that are evaluated if the node is, exactly once."""
    match node:
        case ast.Compare():
            return [node.left, node.comparators[0]]
        case ast.UnaryOp():
            return [node.operand]
        case ast.BinOp():
            return [node.left, node.right]
        case ast.Call():
            return list(node.args)
        case ast.Subscript():
            return [node.value]
    return []


def _is_literal(node: ast.expr) -> bool:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return type(value) in codec.SCALARS or type(value) in _LITERAL_CONTAINERS


def _refuse(value: object) -> Any:
    raise codec.CodecError(type(value).__name__)


def _imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.asname or alias.name.partition(".")[0] for alias in node.names]


def _imported_modules(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _definitions(tree: ast.Module, setup_lines: int) -> list[tuple[frozenset[str], str]]:
    """Top-level statements that a solution may rely on, with the names they bind. Values of the tests are not among
    them.
    """
    found: list[tuple[frozenset[str], str]] = []
    for statement in tree.body:
        in_setup = statement.lineno <= setup_lines
        if type(statement) in _IMPORTS:
            found.append((frozenset(_bound_names([statement])), ast.unparse(statement)))
        elif in_setup and isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.Assign)):
            found.append((frozenset(_bound_names(certify.walk(statement))), ast.unparse(statement)))
    return found


class Scope(dict[str, Any]):
    """Globals of the tests. A name that they do not define is the solution's, as in one namespace; then the built-in
    one.
    """

    def __init__(self, suite: Suite, session: remote.Session, values: dict[str, Any]) -> None:
        super().__init__(__name__="__main__", __builtins__=builtins)
        self.suite = suite
        self.session = session
        self.solutions = values
        self.as_of_call = 0

    def __missing__(self, name: str) -> Any:
        if name not in self.solutions or not self.suite.may_be_solutions(name):
            raise KeyError(name)
        if name in self.suite.module_names:
            # `math.isclose` in a test means the module, also where the solution put something else in its place.
            return importlib.import_module(name)
        if name in self.suite.judging_names:
            return getattr(importlib.import_module(JUDGING_NAMES[name]), name)
        value = self.solutions[name]
        if value is remote.UNKNOWN:
            raise self.session.end("malformed: a module")
        if isinstance(value, Blueprint):
            self._remember(name, value)
        elif not isinstance(value, Handle):
            self.session.influenced = True
            is_fixed = isinstance(value, (type, ModuleType))
            if not is_fixed and (self.session.ledger is not None or self.as_of_call != self.session.calls):
                return self.session.ask(op="global", name=name)
        return value

    def _remember(self, name: str, kind: Blueprint) -> None:
        if name in self.suite.class_names:
            self.session.asked_for.add(kind)
        if name in self.suite.treated_as_classes:
            self.session.treated_as_classes.add(kind)

    def __delitem__(self, name: str) -> None:
        """The tests may delete a name of the solution: then they no longer find it."""
        if name in self:
            super().__delitem__(name)
        else:
            del self.solutions[name]
