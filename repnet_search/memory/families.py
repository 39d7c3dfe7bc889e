"""The segments of very many modules at once: the emitters run on arrays of sizes.

An emitter adds, multiplies and compares sizes. Given arrays instead of numbers, one run of it measures a whole family
of modules that differ in their sizes alone. Where a comparison does not come out the same for all of them, they part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from repnet_search.memory.segments import Segment, Target, measure_head, measure_module
from repnet_search.spec.design import Exchange, Norm
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.shapes import ModuleShape

EXCHANGES = (Exchange.BOTH, Exchange.TO_BACKBONE, Exchange.TO_REPNET)
HEAD_EXCHANGE = EXCHANGES.index(Exchange.TO_REPNET)
"""What stands for an exchange at the head, which writes nothing."""

CONTEXTS = 4 * len(EXCHANGES)
"""Rows per module: what it exchanges, whether b is on the gradient path in front of it, whether gradients are whole."""

COLUMNS = (
    "reading_peak",
    "forward_peak",
    "backward_peak",
    "kept",
    "keeps_source",
    "stream",
    "stream_gradient",
    "parameters",
    "norm_state",
)
"""The fields of `Segment` that a row has."""

_NORMS = tuple(Norm)
_GROUPS_FROM = 13

ModuleKey = tuple[int, ...]
"""What decides a module's bytes, as integers; two modules with the same key have the same segments."""


def module_key(shape: ModuleShape, *, first: bool) -> ModuleKey:
    """Returns a module's key; `first` is whether it is module 1, whose input needs no gradient."""
    return (
        int(first),
        _NORMS.index(Norm.GROUP if shape.norm is Norm.LAYER else shape.norm),
        int(shape.weight_standardisation),
        shape.in_channels,
        shape.in_size,
        shape.pool,
        shape.pooled_size,
        shape.mid_channels,
        shape.kernel,
        shape.mid_norm_groups,
        shape.out_norm_groups,
        shape.out_channels,
        shape.out_size,
        *shape.groups,
    )


def module_keys(resolved: ResolvedDesign) -> list[ModuleKey]:
    """Returns what decides the rows of a design's modules, in their order."""
    return [module_key(module, first=index == 0) for index, module in enumerate(resolved.modules)]


def context(exchange: int, feature_tracked: bool, whole_gradients: bool) -> int:
    """Returns which of a module's rows counts; `exchange` is its place in `EXCHANGES`."""
    return (2 * exchange + feature_tracked) * 2 + whole_gradients


def measure_modules(keys: Sequence[ModuleKey], *, target: Target) -> NDArray[np.int64]:
    """Returns the rows of modules: an axis of `COLUMNS`, one of modules, one of contexts."""
    rows = np.empty((len(COLUMNS), len(keys), CONTEXTS), dtype=np.int64)
    families: dict[tuple[int, ...], list[int]] = {}
    for index, key in enumerate(keys):
        families.setdefault((*key[:3], len(key)), []).append(index)
    for members in families.values():
        sizes = np.array([keys[index] for index in members], dtype=np.int64).T
        pending = [np.arange(len(members))]
        while pending:
            part = pending.pop()
            try:
                measured = _measure_family(sizes[:, part], target)
            except _PartedError as parted:
                pending += [part[parted.where], part[~parted.where]]
            else:
                rows[:, np.array(members)[part]] = measured
    return rows


def measure_heads(
    feature: tuple[int, int], *, stream: tuple[int, int] | None, classes: int, target: Target
) -> NDArray[np.int64]:
    """Returns the row of a head in the place of a module's; `feature` and `stream` are channels and side of a map."""
    rows = np.zeros((len(COLUMNS), 1, CONTEXTS), dtype=np.int64)
    for tracked in (False, True):
        for whole in (False, True):
            segment = measure_head(
                feature,
                stream=stream,
                classes=classes,
                target=target,
                feature_tracked=tracked,
                whole_gradients=whole,
            )
            number = context(HEAD_EXCHANGE, tracked, whole)
            rows[:, 0, number] = [getattr(segment, name) for name in COLUMNS]
    return rows


def _measure_family(sizes: NDArray[np.int64], target: Target) -> NDArray[np.int64]:
    """Returns the rows of modules that take the same branches; `sizes` has their keys as columns."""
    rows = np.empty((len(COLUMNS), sizes.shape[1], CONTEXTS), dtype=np.int64)
    first = bool(sizes[0, 0])
    for number, segment in _segments(sizes, first, target):
        for column, name in enumerate(COLUMNS):
            rows[column, :, number] = getattr(segment, name)
    return rows


def _segments(sizes: NDArray[np.int64], first: bool, target: Target) -> Iterator[tuple[int, Segment]]:
    for exchange, kind in enumerate(EXCHANGES):
        shape = _shape(sizes, kind)
        for tracked in (False, True):
            for whole in (False, True):
                number = context(exchange, tracked, whole)
                segment = measure_module(
                    shape, target=target, first=first, feature_tracked=tracked, whole_gradients=whole
                )
                yield number, segment


def _shape(sizes: NDArray[np.int64], exchange: Exchange) -> ModuleShape:
    """Returns a shape whose numbers are arrays, which are numbers to an emitter."""
    values = [cast(int, row) for row in sizes.view(_Sizes)]
    in_channels, in_size, pool, pooled, mid, kernel, mid_groups, out_groups, out_channels, out_size = values[3:13]
    groups = tuple(values[_GROUPS_FROM:])
    return ModuleShape(
        after_block=0,
        exchange=exchange,
        in_channels=in_channels,
        in_size=in_size,
        pool=pool,
        pooled_size=pooled,
        depth=len(groups),
        mid_channels=mid,
        kernel=kernel,
        groups=groups,
        norm=_NORMS[int(sizes[1, 0])],
        mid_norm_groups=mid_groups,
        out_norm_groups=out_groups,
        weight_standardisation=bool(sizes[2, 0]),
        out_channels=out_channels,
        out_size=out_size,
        reads_block_input=False,
    )


class _PartedError(Exception):
    """A comparison that is true for some of a family: `where` says for which."""

    def __init__(self, where: NDArray[np.bool_]) -> None:
        super().__init__()
        self.where = where


class _Sizes(np.ndarray[Any, np.dtype[np.int64]]):
    """Sizes of a family of modules, which an emitter may take for one number."""

    def __bool__(self) -> bool:
        """Returns what a comparison says of all of them.

        Raises:
            _PartedError: it says different things.
        """
        values = np.asarray(self) != 0
        if values.all():
            return True
        if values.any():
            raise _PartedError(values.ravel())
        return False
