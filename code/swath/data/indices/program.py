"""Several formulas as one list of instructions: what they share is computed once, on NumPy arrays
and torch tensors alike.

Where infinity could hide behind an operation that makes it finite again (exp of minus infinity is
0), it becomes NaN before that operation; `finite` does so at the end.
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

_COMMUTATIVE = ("add", "multiply", "minimum", "maximum")
_CAN_BE_INFINITE = ("divide", "log", "power")
_HIDES_INFINITY = ("exp", "arctan", "minimum", "maximum", "clip", "power")


@dataclass(frozen=True)
class Instruction:
    """An operation on the values of earlier instructions; ``band`` gives that of `symbol`,
    ``number`` gives `value`."""

    operation: str
    operands: tuple[int, ...] = ()
    symbol: str = ""
    value: float = 0.0


class Program:
    """Instructions for a list of formulas, each distinct sub-expression once; every formula has to
    name a band."""

    def __init__(self, expressions: Sequence[Expression]) -> None:
        self.instructions: list[Instruction] = []
        self._known: dict[Instruction, int] = {}
        self.results: dict[int, list[int]] = {}
        """Instruction to the positions of the formulas whose value it is."""
        for position, expression in enumerate(expressions):
            result = self._compile(expression, hidden=False)
            self.results.setdefault(result, []).append(position)
        self._unused_after = last_uses([instruction.operands for instruction in self.instructions])

    def run(self, bands: Mapping[str, Array]) -> Iterator[tuple[int, Array]]:
        """(position of a formula, its values), each as soon as it is known; what is not needed any
        more is let go.

        `bands`: arrays of one shape by symbol, float, NaN where missing. Values have the same
        shape, NaN where a band is missing, NaN or infinite where the formula is undefined: call
        `finite`. NumPy warns of these unless the caller says ``np.errstate``.
        """
        functions = _functions_for(next(iter(bands.values())))
        values: list[Array] = [None] * len(self.instructions)
        for place, instruction in enumerate(self.instructions):
            if instruction.operation == "number":
                values[place] = instruction.value
            elif instruction.operation == "band":
                values[place] = bands[instruction.symbol]
            else:
                operands = [values[operand] for operand in instruction.operands]
                values[place] = functions[instruction.operation](*operands)
                del operands
            for position in self.results.get(place, ()):
                yield position, values[place]
            for done in self._unused_after[place]:
                values[done] = None

    def _add(self, operation: str, *operands: int, symbol: str = "", value: float = 0.0) -> int:
        """Place of an instruction, which is new or the same as an earlier one."""
        instruction = Instruction(operation, operands, symbol, value)
        if instruction not in self._known:
            self._known[instruction] = len(self.instructions)
            self.instructions.append(instruction)
        return self._known[instruction]

    def _compile(self, expression: Expression, hidden: bool) -> int:
        """Add the instructions of an expression. `hidden`: an operation around it would make
        infinity finite."""
        if isinstance(expression, Number):
            return self._add("number", value=expression.value)
        if isinstance(expression, Symbol):
            return self._add("band", symbol=expression.name)
        inner = hidden or expression.name in _HIDES_INFINITY
        operands = []
        for number, operand in enumerate(expression.operands):
            is_divisor = expression.name == "divide" and number == 1
            operands.append(self._compile(operand, inner or is_divisor))
        result = self._operation(expression.name, operands)
        if hidden and expression.name in _CAN_BE_INFINITE:
            return self._add("finite", result)
        return result

    def _operation(self, name: str, operands: list[int]) -> int:
        """The cheapest instructions for an operation."""
        if name == "power":
            return self._power(*operands)
        if name in _COMMUTATIVE:
            operands = sorted(operands, key=lambda place: (self._is_number(place), place))
        return self._add(name, *operands)

    def _power(self, base: int, exponent: int) -> int:
        if self._is_number(exponent):
            value = self.instructions[exponent].value
            if value == 0.5:
                return self._add("sqrt", base)
            if value in (2.0, 4.0):
                square = self._add("multiply", base, base)
                return square if value == 2.0 else self._add("multiply", square, square)
            return self._add("power", base, exponent)
        if self._is_number(base):
            # 1 ** NaN would be 1, though the exponent is missing: the base becomes missing where the exponent is
            nothing = self._add("multiply", exponent, self._add("number", value=0.0))
            base = self._operation("add", [nothing, base])
        return self._add("power", base, exponent)

    def _is_number(self, place: int) -> bool:
        return self.instructions[place].operation == "number"


def finite(values: Array) -> Array:
    """NaN in place of infinity."""
    return _functions_for(values)["finite"](values)


def last_uses(operands: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """For each instruction the values that nothing after it uses, from the operands of all."""
    last = list(range(len(operands)))
    for place, used in enumerate(operands):
        for operand in used:
            last[operand] = place
    unused: list[list[int]] = [[] for _ in operands]
    for place, user in enumerate(last):
        unused[user].append(place)
    return unused


def _finite_numpy(values: Array, out: Array = None) -> Array:
    """Two passes, where nan_to_num has six: 0, or NaN, is taken off."""
    return np.subtract(values, values - values, out)


def _minimum_numpy(values: Array, limit: Array, out: Array = None) -> Array:
    return np.minimum(values, limit, out=out)


def _maximum_numpy(values: Array, limit: Array, out: Array = None) -> Array:
    return np.maximum(values, limit, out=out)


NUMPY: Mapping[str, Callable[..., Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "negative": np.negative,
    "sqrt": np.sqrt,
    "log": np.log,
    "exp": np.exp,
    "abs": np.abs,
    "arctan": np.arctan,
    "minimum": _minimum_numpy,
    "maximum": _maximum_numpy,
    "clip": np.clip,
    "finite": _finite_numpy,
}
"""Operation to function of NumPy; each takes an array for its values as its last argument, which may
be one of the operands."""


def _functions_for(array: Array) -> Mapping[str, Callable[..., Array]]:
    """Operation to function of NumPy or of torch; whoever has tensors has imported torch."""
    if type(array).__module__.partition(".")[0] != "torch":
        return NUMPY
    import torch

    def minimum(values: Array, limit: Array) -> Array:
        return values.clamp(max=limit) if isinstance(limit, float) else torch.minimum(values, limit)

    def maximum(values: Array, limit: Array) -> Array:
        return values.clamp(min=limit) if isinstance(limit, float) else torch.maximum(values, limit)

    def clip(values: Array, low: Array, high: Array) -> Array:
        return minimum(maximum(values, low), high)

    def without_infinity(values: Array) -> Array:
        return torch.nan_to_num(values, nan=np.nan, posinf=np.nan, neginf=np.nan)

    return {
        "add": operator.add,
        "subtract": operator.sub,
        "multiply": operator.mul,
        "divide": operator.truediv,
        "power": operator.pow,
        "negative": operator.neg,
        "sqrt": torch.sqrt,
        "log": torch.log,
        "exp": torch.exp,
        "abs": torch.abs,
        "arctan": torch.arctan,
        "minimum": minimum,
        "maximum": maximum,
        "clip": clip,
        "finite": without_infinity,
    }
