"""The tests of a problem: compiled once, and what has to be known to evaluate them apart from the solution."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from types import CodeType
from typing import Any

from inside import certify, report, remote

FILE_NAME = "<string>"
UNSPLITTABLE_NAMES = frozenset(
    "globals locals vars eval exec compile __import__ redirect_stdout redirect_stderr patch monkeypatch inspect".split()
)
UNSPLITTABLE_MODULES = frozenset({"__main__", "inspect", "unittest.mock", "asyncio", "pickle"})
UNSPLITTABLE_NODES = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
UNSPLITTABLE_ATTRIBUTES = frozenset({"__globals__", "__code__", "__closure__", "__dict__", "stdout", "stdin", "stderr", "modules"})

JUDGING_BUILTINS = frozenset(
    """abs all any ascii bin bool bytearray bytes callable chr complex dict dir divmod enumerate filter float format frozenset
    getattr hasattr hash hex id int isinstance issubclass iter len list map next object oct ord print range repr
    reversed round set slice sorted str tuple type zip""".split()
)
"""Built-ins that tests judge with. A solution that defines one of these names does not get to replace it for the tests."""

HARMLESS_MODULES = remote.MODULES - {"sys", "time"}


class Suite:
    """Setup and tests of one problem. Raises SyntaxError where they do not compile by themselves."""

    def __init__(self, setup: str, tests: list[str]) -> None:
        self.text = "\n".join([*([setup] if setup else []), *tests])
        tree = ast.parse(self.text, FILE_NAME)
        self.nodes = list(ast.walk(tree))
        self.code: CodeType = compile(tree, FILE_NAME, "exec", dont_inherit=True)
        self.codes = report.own_codes(self.code)
        self.loads = {node.id for node in self.nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        self.bound = set(_bound_names(self.nodes))
        self.definitions = _definitions(ast.parse(setup), ast.parse("\n".join(tests)))
        unresolved = self.loads - self.bound - vars(builtins).keys()
        self.replaceable = frozenset() if unresolved else self.loads & vars(builtins).keys() - JUDGING_BUILTINS
        self.splittable = not self._needs_one_namespace(unresolved)
        self.in_process = self._leaves_no_trace()

    def names(self) -> list[str]:
        """What the tests may look up among the solution's names."""
        return sorted(name for name in self.loads if self.may_be_solutions(name))

    def may_be_solutions(self, name: str) -> bool:
        """Whether the tests mean the solution's definition of a name rather than the built-in one.

        The built-in one, except where nothing but a built-in's name can be the function under test (MBPP 126 asks for `sum`).
        """
        return name not in vars(builtins) or name in self.replaceable

    def needed_by(self, reads: list[str]) -> list[str]:
        """Statements of the tests that define names the solution reads: every import, and whatever else setup defines."""
        return [statement for names, statement in self.definitions if not names.isdisjoint(reads)]

    def _needs_one_namespace(self, unresolved: set[str]) -> bool:
        for node in self.nodes:
            if isinstance(node, UNSPLITTABLE_NODES):
                return True
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id in unresolved for base in node.bases
            ):
                return True
            if isinstance(node, ast.Attribute) and node.attr in UNSPLITTABLE_ATTRIBUTES:
                return True
        return bool(self.loads & UNSPLITTABLE_NAMES) or any(
            module in UNSPLITTABLE_MODULES for module in _imported_modules(self.nodes)
        )

    def _leaves_no_trace(self) -> bool:
        """Whether evaluating the tests changes nothing in the referee: others get a fork of it to themselves."""
        if any(module not in HARMLESS_MODULES for module in _imported_modules(self.nodes)):
            return False
        allowed = certify.NODES + (ast.With, ast.withitem)
        for node in self.nodes:
            if not isinstance(node, allowed) or (isinstance(node, ast.ClassDef) and node.keywords):
                return False
            if isinstance(node, ast.Attribute) and node.attr.startswith("__"):
                return False
        risky = vars(builtins).keys() - certify.SAFE_BUILTINS - {"type", "getattr", "hasattr", "callable", "id", "object"}
        risky -= {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)}
        return not self.loads & risky


def _bound_names(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _imported_names(node)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


def _imported_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.asname or alias.name.partition(".")[0] for alias in node.names]


def _imported_modules(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def _definitions(setup: ast.Module, tests: ast.Module) -> list[tuple[frozenset[str], str]]:
    """Top-level statements that a solution may rely on, with the names they bind. Values of the tests are not among them."""
    found: list[tuple[frozenset[str], str]] = []
    for statement in [*setup.body, *tests.body]:
        is_import = isinstance(statement, (ast.Import, ast.ImportFrom))
        if is_import or (statement in setup.body and isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.Assign))):
            names = frozenset(_bound_names(list(ast.walk(statement)) if not is_import else [statement]))
            found.append((names, ast.unparse(statement)))
    return found


class Scope(dict[str, Any]):
    """Globals of the tests. A name that they do not define is the solution's, as in one namespace; then the built-in one."""

    def __init__(self, suite: Suite, session: remote.Session, values: dict[str, Any]) -> None:
        super().__init__(__name__="__main__", __builtins__=builtins)
        self.suite = suite
        self.session = session
        self.values = values
        self.as_of_call = 0

    def __missing__(self, name: str) -> Any:
        if name not in self.values or not self.suite.may_be_solutions(name):
            raise KeyError(name)
        value = self.session.decode(self.values[name])
        if isinstance(value, (remote.Handle, type)) or self.as_of_call == self.session.calls:
            return value
        return self.session.ask(op="global", name=name)
