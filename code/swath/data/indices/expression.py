"""Formulas as text, read into trees of arithmetic: a text from a config or a package is parsed and
never executed.

Python's own parser reads the text; of what it finds, only numbers, names, + - * / **, the minus
sign and `FUNCTIONS` are taken over. Numbers among themselves are computed in float64 while the text
is read, so that a tree is as small as its formula and no power of large integers is ever taken.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from swath.errors import ConfigError

MAX_LENGTH = 1000
"""Characters of a text."""

MAX_DEPTH = 60
"""Operations inside each other."""

MAX_EXPONENT = 16.0
"""Magnitude of an exponent that is a number."""

ALLOWED = (
    "numbers, names of bands and constants, + - * / **, brackets, sqrt(x), log(x), exp(x), abs(x), arctan(x), "
    "min(x, y), max(x, y), clip(x, low, high)"
)


@dataclass(frozen=True)
class Number:
    """A finite number."""

    value: float


@dataclass(frozen=True)
class Symbol:
    """A name that stands for the values of a band."""

    name: str


@dataclass(frozen=True)
class Operation:
    """An arithmetic operation or one of `FUNCTIONS`, by name, on its operands."""

    name: str
    operands: tuple[Expression, ...]


Expression = Number | Symbol | Operation
"""A formula as a tree."""

FUNCTIONS: Mapping[str, tuple[str, int]] = {
    "sqrt": ("sqrt", 1),
    "log": ("log", 1),
    "exp": ("exp", 1),
    "abs": ("abs", 1),
    "arctan": ("arctan", 1),
    "min": ("minimum", 2),
    "max": ("maximum", 2),
    "clip": ("clip", 3),
}
"""What a formula calls a function, the name of its operation, and how many operands it takes."""

_BINARY: Mapping[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
}

_ON_NUMBERS: Mapping[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": math.pow,
    "negative": lambda a: -a,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "abs": abs,
    "arctan": math.atan,
    "minimum": min,
    "maximum": max,
    "clip": lambda a, low, high: min(max(a, low), high),
}


def parse_formula(text: str, names: Mapping[str, Expression] | None = None) -> Expression:
    """The tree of a formula; `names` says what its names stand for, all others are bands.

    Raises ConfigError that shows the text, the part that is refused and what is allowed.
    """
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"formula {text[:40]!r}...: {len(text)} characters; at most {MAX_LENGTH} are read.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ConfigError(f"formula {text!r}: cannot be read ({error}). Allowed are {ALLOWED}.") from None
    return _Reader(text, names or {}).read(tree.body)


def symbols_of(expression: Expression) -> tuple[str, ...]:
    """Names of the bands of a formula, each once, in the order in which they first stand in it."""
    if isinstance(expression, Symbol):
        return (expression.name,)
    if isinstance(expression, Number):
        return ()
    found: dict[str, None] = {}
    for operand in expression.operands:
        found.update(dict.fromkeys(symbols_of(operand)))
    return tuple(found)


class _Reader:
    """Python's syntax tree of one text to an `Expression`."""

    def __init__(self, text: str, names: Mapping[str, Expression]) -> None:
        self.text, self.names = text, names

    def read(self, node: ast.expr, depth: int = 0) -> Expression:
        if depth > MAX_DEPTH:
            raise ConfigError(f"formula {self.text!r}: more than {MAX_DEPTH} operations inside each other.")
        if isinstance(node, ast.Constant):
            return self.number(node)
        if isinstance(node, ast.Name):
            return self.names.get(node.id, Symbol(node.id))
        name, operands = self.parts(node)
        return self.operation(node, name, tuple(self.read(operand, depth + 1) for operand in operands))

    def number(self, node: ast.Constant) -> Number:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise self.refused(node)
        try:
            value = float(node.value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise self.refused(node, "is no finite number")
        return Number(value)

    def parts(self, node: ast.expr) -> tuple[str, list[ast.expr]]:
        """Name of the operation that a node is, and its operands."""
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return _BINARY[type(node.op)], [node.left, node.right]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return "negative", [node.operand]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            name, count = FUNCTIONS[node.func.id]
            if len(node.args) != count or node.keywords:
                raise self.refused(node, f"{node.func.id} takes {count} values")
            return name, node.args
        raise self.refused(node)

    def operation(self, node: ast.expr, name: str, operands: tuple[Expression, ...]) -> Expression:
        if name == "power":
            self.check_exponent(node, operands[1])
        values = [operand.value for operand in operands if isinstance(operand, Number)]
        if len(values) < len(operands):
            return Operation(name, operands)
        try:
            result = _ON_NUMBERS[name](*values)
        except (ValueError, ArithmeticError) as error:
            raise self.refused(node, f"has no value ({error})") from None
        if not math.isfinite(result):
            raise self.refused(node, "is no finite number")
        return Number(result)

    def check_exponent(self, node: ast.expr, exponent: Expression) -> None:
        if isinstance(exponent, Number) and (exponent.value == 0 or abs(exponent.value) > MAX_EXPONENT):
            raise self.refused(node, f"an exponent is not 0 and at most {MAX_EXPONENT:g}, either sign")

    def refused(self, node: ast.expr, why: str = "is not allowed in a formula") -> ConfigError:
        part = ast.get_source_segment(self.text.strip(), node) or type(node).__name__
        return ConfigError(f"formula {self.text!r}: {part!r}: {why}. Allowed are {ALLOWED}.")
