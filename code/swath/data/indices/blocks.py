"""A program of formulas on long NumPy arrays: block by block, so that what a block needs in between
stays in the processor's cache, and on several threads, as NumPy's operations let go of the
interpreter's lock.

Every operation writes into an array that is there already: a row of the result, or one of a few
arrays of a thread, which values take in turn. A block's values depend on its pixels alone, and where
blocks begin does not depend on the threads: any number of them gives the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from swath.data.indices.program import NUMPY, Array, Instruction, Program, last_uses

BLOCK = 1 << 15
"""Pixels of a block: few enough for a core's cache, many enough to outweigh what a call of NumPy costs."""

WORTH_THREADS = 1 << 22
"""Operations on a pixel from which threads are worth their start: about a millisecond."""

Inputs = Callable[[slice], Mapping[str, NDArray[np.float32]]]
"""Symbol to the values of a band in a block, NaN where missing."""


@dataclass(frozen=True)
class _Step:
    """An operation of a program, and where its operands and its values are: numbers of places.

    None: infinity becomes NaN where the operand is. That may come before others use it, as what
    infinity reaches otherwise is not finite in the end, either.
    """

    function: Callable[..., Array] | None
    operands: tuple[int, ...]
    place: int


class BlockProgram:
    """A program with a plan of which array holds which value when. It can be copied and pickled, and
    used by several threads."""

    def __init__(self, program: Program) -> None:
        self.results = program.results
        self.numbers: dict[int, NDArray[np.float32]] = {}
        """Place to the number that stands there."""
        self.symbols: dict[int, str] = {}
        """Place to the symbol of the band that stands there."""
        self.shelves: dict[int, int] = {}
        """Place to the number of the thread's array that its values take."""
        self.shelf_count = 0
        self.steps: list[_Step] = []
        free: list[int] = []
        operands = _without_copies(program.instructions)
        unused_after = last_uses(operands)
        for place, instruction in enumerate(program.instructions):
            if instruction.operation == "number":
                self.numbers[place] = np.array(instruction.value, np.float32)
                continue
            if instruction.operation == "band":
                self.symbols[place] = instruction.symbol
                continue
            if instruction.operation == "finite":
                if operands[place][0] not in self.results:  # which are finite already
                    self.steps.append(_Step(None, (), operands[place][0]))
                continue
            done = unused_after[place]
            free += [self.shelves[other] for other in done if other in self.shelves]
            if place not in self.results:
                self.shelves[place] = self._shelf(free)
                if place in done:  # nothing uses it
                    free.append(self.shelves[place])
            self.steps.append(_Step(NUMPY[instruction.operation], operands[place], place))

    def _shelf(self, free: list[int]) -> int:
        """An array that holds nothing any more, or one more."""
        if free:
            return free.pop()
        self.shelf_count += 1
        return self.shelf_count - 1

    def write(self, inputs: Inputs, output: NDArray[np.float32], threads: int = 1) -> None:
        """The formulas' values into `output`, float32 (formulas, pixels); NaN where a band is missing
        and where a formula is undefined or infinite. The caller's thread is one of `threads`."""
        starts = list(range(0, output.shape[1], BLOCK))
        waiting = starts[::-1]
        work = partial(self._write_blocks, inputs, output, waiting)
        is_large = output.shape[1] * len(self.steps) >= WORTH_THREADS
        helpers = min(threads, len(starts)) - 1 if is_large else 0
        if helpers < 1:
            work()
            return
        futures = [_pool(helpers).submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            waiting.clear()
            for future in futures:
                if not future.cancel():  # it has begun
                    future.result()

    def _write_blocks(self, inputs: Inputs, output: NDArray[np.float32], waiting: list[int]) -> None:
        """Take blocks from those that are `waiting` until there is none; several threads do so."""
        pixels = output.shape[1]
        shelves = np.empty((self.shelf_count + 1, min(BLOCK, pixels)), np.float32)
        zeros = np.zeros(min(BLOCK, pixels), np.float32)
        with np.errstate(all="ignore"):
            while True:
                try:
                    start = waiting.pop()
                except IndexError:
                    return
                part = slice(start, min(start + BLOCK, pixels))
                size = part.stop - start
                self._write_block(inputs(part), output[:, part], shelves[:, :size], zeros[:size])

    def _write_block(
        self,
        bands: Mapping[str, NDArray[np.float32]],
        output: NDArray[np.float32],
        shelves: NDArray[np.float32],
        zeros: NDArray[np.float32],
    ) -> None:
        values: dict[int, Array] = dict(self.numbers)
        for place, symbol in self.symbols.items():
            values[place] = bands[symbol]
        for place, shelf in self.shelves.items():
            values[place] = shelves[shelf]
        spare = shelves[-1]
        for place in self.symbols:
            for position in self.results.get(place, ()):
                np.copyto(output[position], values[place])
                _make_finite(output[position], zeros, spare)
        for step in self.steps:
            if step.function is None:
                _make_finite(values[step.place], zeros, spare)
                continue
            positions = self.results.get(step.place)
            if positions:
                values[step.place] = output[positions[0]]
            step.function(*[values[operand] for operand in step.operands], values[step.place])
            if positions:
                _make_finite(values[step.place], zeros, spare)
                for position in positions[1:]:
                    np.copyto(output[position], values[step.place])


def _without_copies(instructions: Sequence[Instruction]) -> list[tuple[int, ...]]:
    """The operands of each instruction: where one has been made finite, the place that it was at."""
    origin: dict[int, int] = {}
    found = []
    for place, instruction in enumerate(instructions):
        operands = tuple(origin.get(operand, operand) for operand in instruction.operands)
        if instruction.operation == "finite":
            origin[place] = operands[0]
        found.append(operands)
    return found


def _make_finite(values: NDArray[np.float32], zeros: NDArray[np.float32], spare: NDArray[np.float32]) -> None:
    """NaN in place of infinity. Mostly there is neither, which one pass shows: the sum of 0 x value is
    0 then."""
    if np.dot(values, zeros) != 0:
        np.subtract(values, values, out=spare)  # 0, or NaN
        np.subtract(values, spare, out=values)


# -------------------------------------------------------------------------------------------- threads

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
"""Process and number to its threads: they do not cross a fork."""


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that are kept from one call to the next."""
    key = os.getpid(), threads
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix="indices")
    return _pools[key]
