"""Several formulas as one list of instructions: what they share is computed once, on NumPy arrays and torch tensors alike.

A value that is not finite is no value: it becomes NaN. Where infinity could hide behind an operation that makes it finite
again (exp of minus infinity is 0), it becomes NaN before that operation.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from swath.data.indices.expression import Expression, Number, Symbol

Array = Any
"""A NumPy array or a torch tensor of floats."""

Operand = int | float
"""An int is the number of an earlier instruction, whose value is meant; a float is a number of the formula."""

_COMMUTATIVE = ("add", "multiply", "minimum", "maximum")
_CAN_BE_INFINITE = ("divide", "log", "power")
_HIDES_INFINITY = ("exp", "arctan", "minimum", "maximum", "clip", "power")


@dataclass(frozen=True)
class Instruction:
    """An operation on earlier values; ``band`` fetches the band `symbol`."""

    operation: str
    operands: tuple[Operand, ...] = ()
    symbol: str = ""


class Program:
    """Instructions for a list of formulas, each distinct sub-expression once; every formula has to name a band."""

    def __init__(self, expressions: Sequence[Expression]) -> None:
        self.instructions: list[Instruction] = []
        self._known: dict[Instruction, int] = {}
        self.results: dict[int, list[int]] = {}
        """Instruction to the positions of the formulas whose value it is."""
        for position, expression in enumerate(expressions):
            result = self._add(Instruction("finite", (self._compile(expression, hidden=False),)))
            self.results.setdefault(result, []).append(position)
        self._unused_after = _last_uses(self.instructions)

    def run(self, bands: Mapping[str, Array]) -> Iterator[tuple[int, Array]]:
        """(position of a formula, its values), each as soon as it is known; what is not needed any more is let go.

        `bands`: arrays of one shape by symbol, float, NaN where missing. Values have the same shape, NaN where a band is
        missing or the formula undefined.
        """
        library = _library_of(next(iter(bands.values())))
        values: dict[int, Array] = {}
        for number, instruction in enumerate(self.instructions):
            values[number] = _execute(instruction, values, bands, library)
            for position in self.results.get(number, ()):
                yield position, values[number]
            for done in self._unused_after[number]:
                del values[done]

    def _add(self, instruction: Instruction) -> int:
        """Number of an instruction, which is new or the same as an earlier one."""
        if instruction not in self._known:
            self._known[instruction] = len(self.instructions)
            self.instructions.append(instruction)
        return self._known[instruction]

    def _compile(self, expression: Expression, hidden: bool) -> Operand:
        """Add the instructions of an expression. `hidden`: an operation around it would make infinity finite."""
        if isinstance(expression, Number):
            return expression.value
        if isinstance(expression, Symbol):
            return self._add(Instruction("band", symbol=expression.name))
        inner = hidden or expression.name in _HIDES_INFINITY
        operands = []
        for place, operand in enumerate(expression.operands):
            is_divisor = expression.name == "divide" and place == 1
            operands.append(self._compile(operand, inner or is_divisor))
        result = self._operation(expression.name, operands)
        if hidden and expression.name in _CAN_BE_INFINITE:
            return self._add(Instruction("finite", (result,)))
        return result

    def _operation(self, name: str, operands: list[Operand]) -> int:
        """The cheapest instructions for an operation."""
        if name in _COMMUTATIVE:
            operands = sorted(operands, key=lambda operand: (isinstance(operand, float), operand))
        if name == "power":
            return self._power(*operands)
        return self._add(Instruction(name, tuple(operands)))

    def _power(self, base: Operand, exponent: Operand) -> int:
        if exponent == 0.5 and isinstance(exponent, float):
            return self._add(Instruction("sqrt", (base,)))
        if exponent == 2.0 and isinstance(exponent, float):
            return self._add(Instruction("multiply", (base, base)))
        if isinstance(exponent, float):
            return self._add(Instruction("power", (base, exponent)))
        # by way of logarithms: 1 ** NaN would be 1, though the exponent is missing
        logarithm: Operand = float(np.log(base)) if isinstance(base, float) else self._finite_log(base)
        product = self._operation("multiply", [exponent, logarithm])
        return self._add(Instruction("exp", (product,)))

    def _finite_log(self, base: int) -> int:
        return self._add(Instruction("finite", (self._add(Instruction("log", (base,))),)))


def _last_uses(instructions: Sequence[Instruction]) -> list[list[int]]:
    """For each instruction the values that nothing after it uses."""
    last = list(range(len(instructions)))
    for number, instruction in enumerate(instructions):
        for operand in instruction.operands:
            if isinstance(operand, int):
                last[operand] = number
    unused: list[list[int]] = [[] for _ in instructions]
    for number, user in enumerate(last):
        unused[user].append(number)
    return unused


_BY_OPERATOR: Mapping[str, Callable[..., Array]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "negative": operator.neg,
}


def _library_of(array: Array) -> Any:
    """NumPy or torch; whoever has tensors has imported torch."""
    if type(array).__module__.partition(".")[0] != "torch":
        return np
    import torch

    return torch


def _execute(instruction: Instruction, values: Mapping[int, Array], bands: Mapping[str, Array], library: Any) -> Array:
    name = instruction.operation
    if name == "band":
        return bands[instruction.symbol]
    operands = [values[operand] if isinstance(operand, int) else operand for operand in instruction.operands]
    with np.errstate(all="ignore"):
        if name in _BY_OPERATOR:
            return _BY_OPERATOR[name](*operands)
        if name == "finite":
            return library.nan_to_num(operands[0], nan=np.nan, posinf=np.nan, neginf=np.nan)
        if name in ("minimum", "maximum"):
            return _extreme(name, *operands, library)
        if name == "clip":
            return _extreme("minimum", _extreme("maximum", operands[0], operands[1], library), operands[2], library)
        return getattr(library, name)(*operands)


def _extreme(name: str, values: Array, limit: Array, library: Any) -> Array:
    """The smaller or larger of two, NaN where one is; torch takes a number as a limit alone."""
    if library is np:
        return getattr(np, name)(values, limit)
    if isinstance(limit, float):
        return values.clamp(max=limit) if name == "minimum" else values.clamp(min=limit)
    if isinstance(values, float):
        return limit.clamp(max=values) if name == "minimum" else limit.clamp(min=values)
    return getattr(library, name)(values, limit)
