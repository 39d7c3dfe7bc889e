"""A 3×3 max pool of stride 2 and padding 1 that knows its winners in one byte per output.

PyTorch's own keeps 8 bytes per output and, behind it, the whole input.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, overload

import torch
from torch import Tensor

_NOBODY = 255


@overload
def max_pool(x: Tensor, *, with_winners: Literal[True]) -> tuple[Tensor, Tensor]: ...


@overload
def max_pool(x: Tensor, *, with_winners: Literal[False]) -> tuple[Tensor, None]: ...


def max_pool(x: Tensor, *, with_winners: bool) -> tuple[Tensor, Tensor | None]:
    """Returns (N, C, ⌈H/2⌉, ⌈W/2⌉) from (N, C, H, W), and for each output which of its 9 values was the first largest.

    The centre is in every window, so the maximum starts there and grows in place.
    """
    output = x[:, :, ::2, ::2].clone(memory_format=torch.contiguous_format)
    for _, target, source in _offsets(x.shape[-1]):
        torch.maximum(output[target], x[source], out=output[target])
    if not with_winners:
        return output, None
    winners = torch.full(output.shape, _NOBODY, dtype=torch.uint8, device=x.device)
    for number, target, source in _offsets(x.shape[-1]):
        _claim(winners[target], x[source], output[target], number)
    return output, winners


def scatter_to_winners(gradient: Tensor, winners: Tensor, shape: torch.Size) -> Tensor:
    """Returns the gradient of the pool's input of `shape` from its output's: each goes to its winner."""
    spread = gradient.new_zeros(shape)
    for number, target, source in _offsets(shape[-1]):
        spread[source] += gradient[target] * (winners[target] == number)
    return spread


def _claim(winners: Tensor, values: Tensor, largest: Tensor, number: int) -> None:
    """Writes `number` where a value is the largest and nobody was before it; on the CPU through numpy's temporaries."""
    if winners.device.type == "cpu":
        claimed = (values.detach().numpy() == largest.detach().numpy()) & (winners.numpy() == _NOBODY)
        winners.numpy()[claimed] = number
    else:
        winners[(values == largest) & (winners == _NOBODY)] = number


def _offsets(size: int) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
    """Yields each of the 9 places of a window in reading order, with the outputs that have it and the inputs there."""
    every = slice(None)
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            rows, columns = _window(size, row), _window(size, column)
            number = 3 * (row + 1) + column + 1
            yield number, (every, every, rows[0], columns[0]), (every, every, rows[1], columns[1])


def _window(size: int, offset: int) -> tuple[slice, slice]:
    """Returns which outputs have an input at 2·i + offset, and these inputs."""
    outputs = (size - 1) // 2 + 1
    first = 1 if offset < 0 else 0
    last = outputs - 1 if 2 * (outputs - 1) + offset < size else outputs - 2
    return slice(first, last + 1), slice(2 * first + offset, 2 * last + offset + 1, 2)
