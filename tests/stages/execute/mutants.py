"""Mutants of solutions: one change each in the syntax tree, or in the text, that makes programs fail in a known way."""

from __future__ import annotations

import ast
import random
import warnings
from collections.abc import Callable
from dataclasses import replace

from stages.execute.judge import Program

Change = Callable[[ast.Module, random.Random], bool]
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)


def _nodes(tree: ast.Module, *kinds: type[ast.AST]) -> list[ast.AST]:
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def _replacing(*kinds: type[ast.AST]) -> Callable[[Callable[[ast.AST, random.Random], None]], Change]:
    """A change of one node of these kinds, chosen at random."""

    def decorate(change: Callable[[ast.AST, random.Random], None]) -> Change:
        def apply(tree: ast.Module, generator: random.Random) -> bool:
            found = _nodes(tree, *kinds)
            if found:
                change(generator.choice(found), generator)
            return bool(found)

        return apply

    return decorate


@_replacing(ast.Compare)
def swap_comparison(node: ast.Compare, generator: random.Random) -> None:  # type: ignore[misc]
    """`<` for `<=` and the like."""
    node.ops[0] = generator.choice(COMPARISONS)()


@_replacing(ast.BinOp)
def swap_operator(node: ast.BinOp, generator: random.Random) -> None:  # type: ignore[misc]
    """`+` for `-` and the like."""
    node.op = generator.choice(OPERATORS)()


@_replacing(ast.Constant)
def change_constant(node: ast.Constant, generator: random.Random) -> None:  # type: ignore[misc]
    """Another number; a text or None for what is no number."""
    node.value = node.value + 1 if type(node.value) in (int, float) else generator.choice(["", None, 0])


@_replacing(ast.Return)
def return_none(node: ast.Return, generator: random.Random) -> None:  # type: ignore[misc]
    """Return nothing."""
    node.value = None


@_replacing(ast.Name)
def wrong_name(node: ast.Name, generator: random.Random) -> None:  # type: ignore[misc]
    """NameError or UnboundLocalError."""
    node.id = generator.choice([node.id + "s", node.id[:-1] or "q", "undefined"])


def _wrapped(template: str) -> Change:
    """Put the value of a return into an expression that fails."""

    @_replacing(ast.Return)
    def change(node: ast.Return, generator: random.Random) -> None:  # type: ignore[misc]
        value = ast.unparse(node.value) if node.value is not None else "None"
        node.value = ast.parse(template.format(value), mode="eval").body

    return change


def _first_statement(text: str) -> Change:
    """A statement at the beginning of a function."""

    @_replacing(ast.FunctionDef)
    def change(node: ast.FunctionDef, generator: random.Random) -> None:  # type: ignore[misc]
        arguments = [argument.arg for argument in node.args.args]
        node.body[:0] = ast.parse(text.format(name=node.name, arguments=", ".join(arguments))).body

    return change


@_replacing(ast.FunctionDef)
def fewer_arguments(node: ast.FunctionDef, generator: random.Random) -> None:  # type: ignore[misc]
    """TypeError at the call, NameError inside."""
    node.args.args = node.args.args[:-1]
    node.args.defaults = []


CHANGES: dict[str, Change] = {
    "comparison": swap_comparison,
    "operator": swap_operator,
    "constant": change_constant,
    "nothing returned": return_none,
    "name": wrong_name,
    "arguments": fewer_arguments,
    "index": _wrapped("[{}][5]"),
    "key": _wrapped("{{}}[{}, 1]"),
    "type": _wrapped("({}) + object()"),
    "attribute": _wrapped("({}).nothing"),
    "division": _wrapped("1 / 0 or ({})"),
    "value": _wrapped("int('x' + str({}))"),
    "recursion": _first_statement("return {name}({arguments})"),
    "loop": _first_statement("while True: pass"),
    "import": _first_statement("import nothing_of_that_name"),
    "own exception": _first_statement("class Wrong(Exception): pass\nraise Wrong({arguments})"),
    "caught and raised": _first_statement("try: {{}}[1]\nexcept KeyError as e: raise ValueError('x') from e"),
    "exit": _first_statement("raise SystemExit(3)"),
    "assertion": _first_statement("assert False, 'no'"),
    "unpacking": _first_statement("a, b = 1, 2, 3"),
}


def _in_text(code: str, generator: random.Random) -> str:
    """A syntax error, most of the time."""
    place = generator.randrange(len(code))
    lines = code.split("\n")
    row = generator.randrange(len(lines))
    changes: list[Callable[[], str]] = [
        lambda: code.replace(":", "", 1),
        lambda: code[:place],
        lambda: code[:place] + generator.choice("()[]{}'\"\\ :=") + code[place:],
        lambda: "\n".join([*lines[:row], " " + lines[row], *lines[row + 1 :]]),
        lambda: "\n".join([*lines[:row], lines[row] + "   ", *lines[row + 1 :], "x = = 1  "]),
        lambda: code.replace("return", "retrun", 1),
        lambda: code.replace("=", "==", 1),
        lambda: code.replace("\n    ", "\n\t", 1),
    ]
    return generator.choice(changes)()


def mutants(programs: list[Program], count: int, seed: int) -> list[tuple[str, Program]]:
    """Kind and program, each another one; a fourth of them with a change of the text."""
    generator = random.Random(seed)
    kinds = [*CHANGES, *["text"] * (len(CHANGES) // 3)]
    found: dict[Program, str] = {}
    while len(found) < count:
        original = generator.choice(programs)
        kind = kinds[len(found) % len(kinds)]
        if kind == "text":
            found.setdefault(replace(original, solution=_in_text(original.solution, generator)), kind)
            continue
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(original.solution)
        if CHANGES[kind](tree, generator):
            found.setdefault(replace(original, solution=ast.unparse(ast.fix_missing_locations(tree))), kind)
        else:
            kinds = [*kinds[1:], kinds[0]]
    return [(kind, program) for program, kind in found.items()]
