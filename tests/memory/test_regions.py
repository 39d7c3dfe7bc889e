"""Placements into regions are placements, and nothing that has one is refused without a reason."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from repnet_search.boards import Region, get_board, take_reserve
from repnet_search.graph import Role, Schedule
from repnet_search.memory import (
    Buffer,
    Liveness,
    RegionPlan,
    explain_memory,
    list_state,
    place_buffers,
    place_in_regions,
)
from repnet_search.memory.regions import _packs, count_unplaced_bytes, find_obstacle
from repnet_search.units import KIB
from tests.designs import random_resolved

BOARDS = ("stm32f746", "stm32h743", "stm32f407", "rp2040", "esp32-s3")


def check(plan: RegionPlan, liveness: Liveness, state_sizes: Sequence[int]) -> None:
    """Fails where buffers alive together overlap, or anything crosses the end of its region."""
    forever = (0, len(liveness.live_bytes))
    things = [
        *(
            (spot, buffer.size_bytes, (buffer.first, buffer.last))
            for spot, buffer in zip(plan.buffers, liveness.buffers, strict=True)
        ),
        *((spot, size, forever) for spot, size in zip(plan.state, state_sizes, strict=True)),
    ]
    assert len(plan.buffers) == len(liveness.buffers)
    for region, room in enumerate(plan.regions):
        inside = [thing for thing in things if thing[0].region == region]
        reach = max((spot.offset_bytes + size for spot, size, _ in inside), default=0)
        assert reach <= plan.used_bytes[region] <= room.size_bytes
        for one, other in itertools.combinations(inside, 2):
            together = one[2][0] <= other[2][1] and other[2][0] <= one[2][1]
            apart = (
                one[0].offset_bytes + one[1] <= other[0].offset_bytes
                or other[0].offset_bytes + other[1] <= one[0].offset_bytes
            )
            assert apart or not together
    assert all(0 <= spot.region < len(plan.regions) and spot.offset_bytes >= 0 for spot, _, _ in things)
    assert all(spot.offset_bytes % 4 == 0 for spot in plan.buffers)


def make_liveness(spans: Sequence[tuple[int, int, int]]) -> Liveness:
    """Returns buffers of (size, first, length); sizes are rounded up to 4 bytes as everywhere."""
    buffers = tuple(
        Buffer(f"t{index}", Role.BACKBONE, 4 * size, first, first + length)
        for index, (size, first, length) in enumerate(spans)
    )
    ops = max(buffer.last for buffer in buffers) + 1
    live = tuple(sum(b.size_bytes for b in buffers if b.first <= op <= b.last) for op in range(ops))
    return Liveness(buffers, live, ops)


spans = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=25)
rooms = st.lists(st.integers(1, 40), min_size=1, max_size=4)
states = st.lists(st.integers(1, 10), max_size=6)


@settings(max_examples=300, deadline=None)
@given(spans, states, rooms)
def test_a_placement_is_one(spans: list[tuple[int, int, int]], states: list[int], rooms: list[int]) -> None:
    liveness = make_liveness(spans)
    sizes = [4 * size for size in states]
    regions = tuple(Region(f"r{index}", 4 * size) for index, size in enumerate(rooms))
    plan = place_in_regions(liveness, sizes, regions)
    if plan is not None:
        check(plan, liveness, sizes)
        assert find_obstacle(liveness, regions) is None
        assert plan == place_in_regions(liveness, sizes, regions)
    largest = max(region.size_bytes for region in regions)
    if place_buffers(liveness).size_bytes + sum(sizes) <= largest:
        assert plan is not None
    if liveness.peak_bytes + sum(sizes) > sum(region.size_bytes for region in regions):
        assert plan is None
    if max(buffer.size_bytes for buffer in liveness.buffers) > largest:
        assert plan is None


@settings(max_examples=100, deadline=None)
@given(spans, states, st.integers(1, 300))
def test_in_one_region_the_sum_decides(spans: list[tuple[int, int, int]], states: list[int], room: int) -> None:
    liveness = make_liveness(spans)
    sizes = [4 * size for size in states]
    plan = place_in_regions(liveness, sizes, (Region("ram", 4 * room),))
    assert (plan is not None) == (place_buffers(liveness).size_bytes + sum(sizes) <= 4 * room)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_packing_is_found_wherever_there_is_one(sizes: list[int], rooms: list[int]) -> None:
    sizes.sort(reverse=True)
    choices = itertools.product(range(len(rooms)), repeat=len(sizes))
    exists = any(
        all(
            sum(size for size, room in zip(sizes, choice, strict=True) if room == r) <= rooms[r]
            for r in range(len(rooms))
        )
        for choice in choices
    )
    assert _packs(sizes, rooms) == exists


def test_real_designs_lie_in_the_regions_of_real_boards() -> None:
    random = Random(11)
    found = dict.fromkeys(BOARDS, 0)
    for _ in range(25):
        resolved = random_resolved(random, resolutions=(32, 48, 64))
        explained = explain_memory(resolved, classes=10, schedule=random.choice(list(Schedule)))
        state = list_state(explained.graph, resolved.design.recipe)
        sizes = [tensor.size_bytes for tensor in state]
        assert sum(sizes) == explained.estimate.ram_bytes - explained.estimate.arena_bytes
        for name in BOARDS:
            regions, _ = take_reserve(get_board(name).ram_regions, 32 * KIB)
            plan = place_in_regions(explained.liveness, sizes, regions, arena=explained.arena)
            if plan is not None:
                check(plan, explained.liveness, sizes)
                found[name] += 1
                assert sum(plan.state_bytes) == sum(sizes)
    assert all(found.values()), found
    assert found["stm32h743"] > found["stm32f407"]


def test_an_arena_larger_than_every_region_is_spread() -> None:
    liveness = make_liveness([(50, 0, 3), (50, 0, 3), (10, 0, 3)])
    regions = (Region("a", 240), Region("b", 240))
    assert place_buffers(liveness).size_bytes > 240
    plan = place_in_regions(liveness, [8, 8, 8], regions)
    assert plan is not None
    check(plan, liveness, [8, 8, 8])


def test_two_buffers_at_once_that_no_two_regions_hold() -> None:
    liveness = make_liveness([(30, 0, 1), (30, 1, 1), (2, 1, 1)])
    regions = (Region("a", 160), Region("b", 100))
    assert place_in_regions(liveness, (), regions) is None
    obstacle = find_obstacle(liveness, regions)
    assert obstacle is not None
    assert (obstacle.op, [buffer.name for buffer in obstacle.buffers]) == (1, ["t0", "t1"])
    assert count_unplaced_bytes(liveness, (), regions) == 120
