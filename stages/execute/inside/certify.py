"""Which programs may share an interpreter with others of their kind.

A certified program cannot touch the interpreter it runs in: it names nothing but its own definitions, a list of
harmless built-ins, and listed members of a few standard modules; it stores attributes only on its own `self`. So
nothing it does outlives its namespace, and the next program finds what the first one found. Everything that is not on
a list is refused, and a refused program simply gets a process of its own: a wrong "no" costs milliseconds.

A wrong "yes" could disturb a neighbour but never forge a verdict, which is made in another process.
"""

from __future__ import annotations

import ast
import builtins
import collections
import string
from collections.abc import Callable
from typing import Any


def words(text: str) -> frozenset[str]:
    """A list that reads like one."""
    return frozenset(text.split())


SAFE_BUILTINS = words(
    """abs all any ascii bin bool bytearray bytes chr complex dict divmod enumerate filter float frozenset hash
    hex int isinstance iter len list map max min next oct ord pow print range repr reversed round set slice
    sorted str sum tuple zip True False None NotImplemented Ellipsis"""
) | {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, Exception) and not issubclass(value, (MemoryError, RecursionError))
}

MODULES: dict[str, frozenset[str]] = {
    "math": frozenset(name for name in dir(__import__("math")) if not name.startswith("_")),
    "cmath": words("acos asin atan cos e exp inf isclose log log10 phase pi polar rect sin sqrt tan tau"),
    "itertools": words(
        """accumulate chain combinations combinations_with_replacement compress count cycle dropwhile
        filterfalse groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest"""
    ),
    "collections": words("Counter OrderedDict defaultdict deque namedtuple"),
    "functools": words("reduce partial lru_cache cache cmp_to_key"),
    "heapq": words("heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest"),
    "bisect": words("bisect bisect_left bisect_right insort insort_left insort_right"),
    "string": words(
        "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits printable punctuation whitespace"
    ),
    "operator": words(
        """add and_ concat contains countOf eq floordiv ge getitem gt index indexOf inv invert is_ is_not
        itemgetter le lt mod mul ne neg not_ or_ pos pow sub truediv truth xor"""
    ),
    "re": words(
        """A ASCII DOTALL I IGNORECASE M MULTILINE S VERBOSE X compile escape findall finditer fullmatch match
        search split sub subn"""
    ),
    "typing": words(
        """Any Callable Deque Dict FrozenSet Generator Iterable Iterator List Mapping Optional Sequence Set
        Tuple Union"""
    ),
    "sys": frozenset({"maxsize"}),
    "copy": frozenset({"copy", "deepcopy"}),
}
PYTHON_CLASSES = frozenset({"Counter"})
"""Classes that could be written to: only ever called."""

DATA_METHODS = frozenset(
    name
    for kind in (
        str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset, range, slice,
        collections.Counter, collections.OrderedDict, collections.defaultdict, collections.deque,
        type(__import__("re").compile("")), type(__import__("re").match("", "")),
    )
    for name in dir(kind)
    if not name.startswith("_")
) | {"args"}  # fmt: skip
DATA_METHODS -= {"format", "format_map"}
"""`str.format` follows attribute names inside its text, which no syntax tree shows; it is allowed on literal texts
only.
"""


def _known_attributes() -> frozenset[str]:
    """Every attribute of every class of this interpreter. A name that is none of them can only be the program's own,
    or missing.
    """
    pending, seen = [object], {object}
    while pending:
        for kind in type.__subclasses__(pending.pop()):
            if kind not in seen:
                seen.add(kind)
                pending.append(kind)
    return frozenset(name for kind in seen for name in vars(kind))


KNOWN_ATTRIBUTES = _known_attributes()
RESERVED_ATTRIBUTES = words("mro register")
"""What writes to a class or reads the classes behind it. Also a program with methods of such names may reach the real
ones, through the aliases in `typing`.
"""
SCRIPT_BUILTINS = words("exit quit help copyright credits license")
"""Built-ins that `site` adds, and the candidate with it."""

REFUSED_NAMES = vars(builtins).keys() - SAFE_BUILTINS | SCRIPT_BUILTINS

PRIVATE_PREFIXES = ("_", "gi_", "cr_", "ag_", "f_", "tb_", "co_", "func_", "im_")
OWN_METHODS = frozenset(
    f"__{name}__"
    for name in words(
        """init repr str eq ne lt le gt ge hash len iter next getitem setitem contains call add sub mul neg bool
        abs"""
    )
)

NODES = frozenset(
    getattr(ast, name)
    for name in words(
        """Module FunctionDef Lambda arguments arg Return Assign AugAssign AnnAssign Delete For While If Raise Try
        ExceptHandler Assert Import ImportFrom alias Global Nonlocal Expr Pass Break Continue BoolOp NamedExpr BinOp
        UnaryOp IfExp Dict Set ListComp SetComp DictComp GeneratorExp comprehension Yield YieldFrom Compare Call keyword
        FormattedValue JoinedStr Constant Attribute Subscript Starred Name List Tuple Slice ClassDef"""
    )
) | frozenset(ast.cmpop.__subclasses__())

_YIELDS = frozenset({ast.Yield, ast.YieldFrom})
_LEAVES = frozenset({ast.Constant, ast.Name, ast.alias, ast.Pass, ast.Break, ast.Continue})


def walk(tree: ast.AST) -> list[ast.AST]:
    """All nodes, parents first, without the marker nodes (contexts and operators that carry no content).

    Several times faster than `ast.walk` on what tests consist of, which is literals.
    """
    nodes = [tree]
    for node in nodes:
        if type(node) in _LEAVES:
            continue
        for field in node._fields:
            value = getattr(node, field, None)
            if type(value) is list:
                nodes.extend([item for item in value if isinstance(item, ast.AST)])
            elif isinstance(value, ast.AST) and field != "ctx" and field != "op":
                nodes.append(value)
    return nodes


class _Doubt(Exception):
    """Something that is on no list."""


def is_harmless(tree: ast.Module) -> bool:
    """True where every part of the program is on the lists above."""
    try:
        _Check(tree).run()
    except (_Doubt, RecursionError):
        return False
    return True


class _Check:
    """One pass over a program with what it defines and imports at hand."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes = walk(tree)
        self.tree = tree
        self.modules: dict[str, str] = {}
        self.python_classes: set[str] = set()
        self.defined: set[str] = set()
        self.attributes: set[str] = set()
        self.allowed_bases: set[int] = set()
        self.receivers: dict[int, str] = {}

    def run(self) -> None:
        for node in self.nodes:
            kind = type(node)
            if kind not in NODES:
                raise _Doubt(kind.__name__)
            if kind in COLLECTORS:
                COLLECTORS[kind](self, node)
        if self.defined & (self.modules.keys() | self.python_classes):
            raise _Doubt("a name has two meanings")
        if self.attributes & RESERVED_ATTRIBUTES or self._outlives_itself():
            raise _Doubt("could run or be seen after its end")
        for node in self.nodes:
            kind = type(node)
            if kind in CHECKS:
                CHECKS[kind](self, node)

    def _outlives_itself(self) -> bool:
        """Whether code may run when a suspended generator is dropped: that happens in the next program's time."""
        kinds = {type(node) for node in self.nodes}
        return (bool(kinds & _YIELDS) and ast.Try in kinds) or (ast.YieldFrom in kinds and "close" in self.attributes)

    def _collect_name(self, node: ast.Name) -> None:
        if type(node.ctx) is not ast.Load:
            self.defined.add(node.id)

    def _collect_function(self, node: ast.FunctionDef) -> None:
        self.defined.add(node.name)

    def _collect_argument(self, node: ast.arg) -> None:
        self.defined.add(node.arg)

    def _collect_handler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self.defined.add(node.name)

    def _collect_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.Import):
                if alias.name not in MODULES:
                    raise _Doubt(alias.name)
                self.modules[alias.asname or alias.name] = alias.name
            elif node.level or alias.name not in MODULES.get(node.module or "", ()):
                raise _Doubt(f"{node.module}.{alias.name}")
            elif alias.name in PYTHON_CLASSES:
                self.python_classes.add(alias.asname or alias.name)
            else:
                self.defined.add(alias.asname or alias.name)

    def _collect_class(self, node: ast.ClassDef) -> None:
        """A plain class: no metaclass, no decorators, no bases but object and exceptions; its methods store on their
        `self`.
        """
        bases = [base.id if isinstance(base, ast.Name) else "" for base in node.bases]
        if node.keywords or node.decorator_list or not set(bases) <= {"object", "Exception", "ValueError"}:
            raise _Doubt("class with relations")
        self.python_classes.add(node.name)
        for base in node.bases:
            self.allowed_bases.add(id(base))
        methods = [member for member in node.body if isinstance(member, ast.FunctionDef)]
        for method in methods:
            self._collect_method(method)
        names = {method.name for method in methods}
        if any(isinstance(part, ast.Name) and part.id in names for part in walk(node)):
            raise _Doubt("inside the class's body a method takes anything for its self")

    def _collect_method(self, method: ast.FunctionDef) -> None:
        if method.decorator_list or not method.args.args:
            raise _Doubt("a method that is not called on its instance")
        receiver = method.args.args[0].arg
        self.attributes.add(method.name)
        for node in walk(method):
            if isinstance(node, ast.Name) and node.id == receiver and not isinstance(node.ctx, ast.Load):
                raise _Doubt("self is assigned")
            if node is not method and isinstance(node, (ast.FunctionDef, ast.Lambda)):
                self._refuse_argument(node.args, receiver)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == receiver:
                self.attributes.add(node.attr)
                self.receivers[id(node)] = receiver

    def _refuse_argument(self, arguments: ast.arguments, receiver: str) -> None:
        if any(isinstance(node, ast.arg) and node.arg == receiver for node in walk(arguments)):
            raise _Doubt("self has two meanings")

    def name(self, node: ast.Name) -> None:
        if type(node.ctx) is not ast.Load:
            if node.id.startswith("__"):
                raise _Doubt(node.id)
            return
        if node.id in self.defined or node.id in SAFE_BUILTINS or id(node) in self.allowed_bases:
            return
        if node.id == "__name__" and not self.receivers:
            return
        if (
            node.id.startswith("__")
            or node.id in REFUSED_NAMES
            or node.id in self.modules
            or node.id in self.python_classes
        ):
            raise _Doubt(node.id)
        # A name that nothing defines: NameError, as everywhere.

    def attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self.modules:
            self._member(node, self.modules[node.value.id])
            return
        if node.attr.startswith(PRIVATE_PREFIXES):
            raise _Doubt(node.attr)
        if isinstance(node.ctx, ast.Load):
            literal_format = node.attr == "format" and _is_plain_format(node.value)
            harmless = node.attr in DATA_METHODS or node.attr in self.attributes or node.attr not in KNOWN_ATTRIBUTES
            if not harmless and not literal_format:
                raise _Doubt(node.attr)
        elif id(node) not in self.receivers:
            raise _Doubt("attribute of something else than self")

    def _member(self, node: ast.Attribute, module: str) -> None:
        if not isinstance(node.ctx, ast.Load) or node.attr not in MODULES[module]:
            raise _Doubt(f"{module}.{node.attr}")
        self.allowed_bases.add(id(node.value))
        if node.attr in PYTHON_CLASSES and id(node) not in self.allowed_bases:
            raise _Doubt("a writable class as a value")

    def call(self, node: ast.Call) -> None:
        """The function position is the one place where a writable class may stand."""
        function = node.func
        if (isinstance(function, ast.Name) and function.id in self.python_classes) or (
            isinstance(function, ast.Attribute) and function.attr in PYTHON_CLASSES
        ):
            self.allowed_bases.add(id(function))

    def function(self, node: ast.FunctionDef) -> None:
        if node.name.startswith("__") and node.name not in OWN_METHODS:
            raise _Doubt(node.name)

    def argument(self, node: ast.arg) -> None:
        if node.arg.startswith("__"):
            raise _Doubt(node.arg)

    def handler(self, node: ast.ExceptHandler) -> None:
        if node.type is None or any(
            isinstance(part, ast.Name) and part.id == "BaseException" for part in walk(node.type)
        ):
            raise _Doubt("catches everything")

    def keyword(self, node: ast.keyword) -> None:
        if node.arg and (node.arg.startswith("__") or node.arg in ("file", "module")):
            raise _Doubt(node.arg)


def _is_plain_format(node: ast.expr) -> bool:
    """A literal text whose fields name no attribute and no item."""
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return False
    try:
        fields = [(name or "") + (spec or "") for _, name, spec, _ in string.Formatter().parse(node.value)]
    except ValueError:
        return False
    return not any(character in field for field in fields for character in ".[{")


COLLECTORS: dict[type[ast.AST], Callable[[_Check, Any], None]] = {
    ast.Name: _Check._collect_name,
    ast.FunctionDef: _Check._collect_function,
    ast.arg: _Check._collect_argument,
    ast.ExceptHandler: _Check._collect_handler,
    ast.Import: _Check._collect_import,
    ast.ImportFrom: _Check._collect_import,
    ast.ClassDef: _Check._collect_class,
}
CHECKS: dict[type[ast.AST], Callable[[_Check, Any], None]] = {
    ast.Name: _Check.name,
    ast.Attribute: _Check.attribute,
    ast.Call: _Check.call,
    ast.FunctionDef: _Check.function,
    ast.arg: _Check.argument,
    ast.ExceptHandler: _Check.handler,
    ast.keyword: _Check.keyword,
}
"""Checked in the order of `walk`, parents first: a call marks its function before that is looked at."""
