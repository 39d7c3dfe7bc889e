"""Placing a step's buffers, and what outlives the step, into the regions of a device's RAM.

A buffer lies wholly in one region; so does a parameter tensor, each of its optimizer's states and its accumulated
gradient. In a region buffers come first and what stays for good lies behind them. The arena in one piece is tried
first, then buffers over several regions: first fit as in arena.py, in its orders, with what found no room moved to the
front.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from repnet_search.boards import Region
from repnet_search.memory.arena import PRIORITIES, Arena, find_lowest_gap, order_buffers, place_buffers
from repnet_search.memory.liveness import Buffer, Liveness

ATTEMPTS = 12
"""Placements tried in each order before the next one."""
_PACKING_STEPS = 2000
"""Tries to pack what is alive at one operator before it is taken to fit."""


class Spot(NamedTuple):
    """Where something lies: the region (by position), and the offset in it."""

    region: int
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """A placement into regions.

    Args:
        regions: the regions.
        buffers: where each buffer of the liveness lies, in its order.
        state: where what outlives the step lies, in the order given.
        buffer_bytes: of each region, up to where its buffers reach.
        state_bytes: of each region, what lies behind them for good.
    """

    regions: tuple[Region, ...]
    buffers: tuple[Spot, ...]
    state: tuple[Spot, ...]
    buffer_bytes: tuple[int, ...]
    state_bytes: tuple[int, ...]

    @property
    def used_bytes(self) -> tuple[int, ...]:
        """What is used of each region."""
        return tuple(map(sum, zip(self.buffer_bytes, self.state_bytes, strict=True)))


class Obstacle(NamedTuple):
    """Why nothing can be placed: buffers that are alive at an operator and do not go into the regions together."""

    op: int
    buffers: tuple[Buffer, ...]


def place_in_regions(
    liveness: Liveness, state_sizes: Sequence[int], regions: Sequence[Region], *, arena: Arena | None = None
) -> RegionPlan | None:
    """Returns a placement, None where none is found; deterministic.

    Args:
        liveness: the step's buffers.
        state_sizes: bytes of each thing that outlives the step.
        regions: where they may lie.
        arena: `place_buffers` of the liveness, where it is known already.
    """
    if liveness.peak_bytes + sum(state_sizes) > sum(region.size_bytes for region in regions):
        return None
    plan = _place_arena(arena or place_buffers(liveness), state_sizes, regions)
    # In one region nothing is left to try; several are not tried where a proof says no.
    if plan is not None or len(regions) == 1 or find_obstacle(liveness, regions) is not None:
        return plan
    return next((plan for plan in _spread(liveness.buffers, state_sizes, regions) if plan is not None), None)


def count_unplaced_bytes(liveness: Liveness, state_sizes: Sequence[int], regions: Sequence[Region]) -> int:
    """Returns how many bytes of buffers find no room in a single placement, largest first: how far a design is off."""
    quota = _allot(state_sizes, regions, sorted(range(len(regions)), key=lambda r: regions[r].size_bytes))
    rooms = [region.size_bytes for region in regions]
    if quota is not None:
        rooms = [size - sum(state_sizes[i] for i in held) for size, held in zip(rooms, quota, strict=True)]
    order = order_buffers(liveness.buffers, PRIORITIES[0])
    _, unplaced = _first_fit(liveness.buffers, order, rooms, list(range(len(rooms))))
    return sum(liveness.buffers[index].size_bytes for index in unplaced)


def find_obstacle(liveness: Liveness, regions: Sequence[Region]) -> Obstacle | None:
    """Returns a proof that no placement exists, as few buffers as it takes; None where none is found."""
    rooms = sorted((region.size_bytes for region in regions), reverse=True)
    largest = max(liveness.buffers, key=lambda buffer: buffer.size_bytes)
    if largest.size_bytes > rooms[0]:
        return Obstacle(largest.first, (largest,))
    for op, live_bytes in enumerate(liveness.live_bytes):
        if live_bytes > rooms[0]:
            alive = liveness.alive_at(op)
            sizes = [buffer.size_bytes for buffer in alive]
            if not _packs(sizes, rooms):
                few = next(count for count in range(1, len(sizes) + 1) if not _packs(sizes[:count], rooms))
                return Obstacle(op, alive[:few])
    return None


def _packs(sizes: Sequence[int], rooms: Sequence[int]) -> bool:
    """Returns whether sizes (largest first) go into rooms, all at once; True where that takes too long to find out."""
    steps = 0

    def place(index: int, rooms: tuple[int, ...]) -> bool:
        nonlocal steps
        steps += 1
        if index == len(sizes) or steps > _PACKING_STEPS:
            return True
        fitting = {room: place for place, room in enumerate(rooms) if room >= sizes[index]}
        return any(
            place(index + 1, (*rooms[:where], room - sizes[index], *rooms[where + 1 :]))
            for room, where in sorted(fitting.items())
        )

    return place(0, tuple(rooms))


def _place_arena(arena: Arena, state_sizes: Sequence[int], regions: Sequence[Region]) -> RegionPlan | None:
    """Returns a placement with the arena in one piece, in the smallest region that allows it."""
    for chosen in sorted(range(len(regions)), key=lambda index: regions[index].size_bytes):
        rooms = [region.size_bytes for region in regions]
        rooms[chosen] -= arena.size_bytes
        if rooms[chosen] < 0:
            continue
        quota = _allot(
            state_sizes, [Region("", room) for room in rooms], sorted(range(len(rooms)), key=rooms.__getitem__)
        )
        if quota is not None:
            spots = [Spot(chosen, offset) for offset in arena.offsets]
            reach = [arena.size_bytes if index == chosen else 0 for index in range(len(regions))]
            return _plan(regions, spots, reach, state_sizes, quota)
    return None


def _spread(
    buffers: tuple[Buffer, ...], state_sizes: Sequence[int], regions: Sequence[Region]
) -> Iterator[RegionPlan | None]:
    """Yields placements of the buffers over several regions, None where one did not come out."""
    ascending = sorted(range(len(regions)), key=lambda index: regions[index].size_bytes)
    descending = ascending[::-1]
    for fill, prefer, priority in product((ascending, descending), (ascending, descending), PRIORITIES):
        quota = _allot(state_sizes, regions, fill)
        if quota is None:
            continue
        taken = [sum(state_sizes[index] for index in held) for held in quota]
        rooms = [region.size_bytes - state for region, state in zip(regions, taken, strict=True)]
        order = order_buffers(buffers, priority)
        for _ in range(ATTEMPTS):
            spots, unplaced = _first_fit(buffers, order, rooms, prefer)
            if not unplaced:
                yield _plan(regions, spots, _reach(buffers, spots, len(regions)), state_sizes, quota)
                return
            order = unplaced + [index for index in order if index not in set(unplaced)]
        yield None


def _first_fit(
    buffers: tuple[Buffer, ...], order: Sequence[int], rooms: Sequence[int], prefer: Sequence[int]
) -> tuple[list[Spot], list[int]]:
    """Returns where each buffer lies, first in the regions that are preferred, and which ones found no room."""
    spots = [Spot(-1, 0)] * len(buffers)
    unplaced: list[int] = []
    placed: list[list[tuple[int, int, int, int]]] = [[] for _ in rooms]
    for index in order:
        buffer = buffers[index]
        for region in prefer:
            offset = find_lowest_gap(placed[region], buffer)
            end = offset + buffer.size_bytes
            if end <= rooms[region]:
                spots[index] = Spot(region, offset)
                insort(placed[region], (offset, end, buffer.first, buffer.last))
                break
        else:
            unplaced.append(index)
    return spots, unplaced


def _allot(state_sizes: Sequence[int], regions: Sequence[Region], order: Sequence[int]) -> list[list[int]] | None:
    """Returns what each region holds for good, largest first, regions filled in an order; None where it does not go."""
    rooms = [region.size_bytes for region in regions]
    held: list[list[int]] = [[] for _ in regions]
    for index in sorted(range(len(state_sizes)), key=lambda index: -state_sizes[index]):
        region = next((region for region in order if rooms[region] >= state_sizes[index]), None)
        if region is None:
            return None
        rooms[region] -= state_sizes[index]
        held[region].append(index)
    return held


def _reach(buffers: tuple[Buffer, ...], spots: Sequence[Spot], count: int) -> list[int]:
    reach = [0] * count
    for buffer, spot in zip(buffers, spots, strict=True):
        reach[spot.region] = max(reach[spot.region], spot.offset_bytes + buffer.size_bytes)
    return reach


def _plan(
    regions: Sequence[Region],
    spots: Sequence[Spot],
    reach: Sequence[int],
    state_sizes: Sequence[int],
    quota: Sequence[Sequence[int]],
) -> RegionPlan:
    """Returns a plan with the state of each region behind its buffers, in the order given."""
    state = [Spot(-1, 0)] * len(state_sizes)
    state_bytes = []
    for region, held in enumerate(quota):
        offset = reach[region]
        for index in sorted(held):
            state[index] = Spot(region, offset)
            offset += state_sizes[index]
        state_bytes.append(offset - reach[region])
    return RegionPlan(tuple(regions), tuple(spots), tuple(state), tuple(reach), tuple(state_bytes))
