"""A device holds a design where its RAM, its regions and its flash do; what is wrong is said."""

from __future__ import annotations

from random import Random

import pytest

from repnet_search.boards import Region, get_board
from repnet_search.errors import SpecError
from repnet_search.memory import (
    MemoryExplanation,
    check_fit,
    estimate_memory,
    explain_memory,
    find_nearest,
    find_ways_out,
    list_state,
)
from repnet_search.spec import BackboneSpec, Design, Optimizer, Recipe, get_preset, resolve
from repnet_search.spec.target import DeviceLimits
from repnet_search.units import KIB, MIB
from tests.designs import random_resolved, six_connectors

EIGHT_MIB = 8 * MIB


def paper(resolution: int = 96, **fields: object) -> Design:
    return get_preset("paper", Design.model_validate({"connectors": (), "resolution": resolution, **fields}))


def explained(design: Design) -> MemoryExplanation:
    return explain_memory(resolve(design), classes=10)


def test_ram_decides_first() -> None:
    fit = check_fit(explained(paper()), DeviceLimits(400 * KIB))
    assert not fit.fits
    assert fit.problem == "needs 655.4 KiB, 255.4 KiB over the budget of 400.0 KiB"
    assert (fit.flash_excess_bytes, fit.unplaced_bytes, fit.plan) == (None, 0, None)
    assert fit.excess_bytes == fit.ram_excess_bytes


def test_a_buffer_larger_than_every_region_is_named() -> None:
    limits = DeviceLimits(800 * KIB, None, (Region("a", 400 * KIB), Region("b", 400 * KIB)))
    fit = check_fit(explained(paper()), limits)
    assert fit.problem == (
        "needs 655.4 KiB, which fits in the sum of RAM (800.0 KiB) but not in its regions: buffer b2.0 of 432.0 KiB is "
        "larger than the largest region, a of 400.0 KiB"
    )
    assert fit.ram_excess_bytes < 0 < fit.unplaced_bytes


def test_buffers_that_do_not_go_side_by_side_are_named() -> None:
    limits = DeviceLimits(700 * KIB, None, (Region("a", 440 * KIB), *(Region(f"r{i}", 65 * KIB) for i in range(4))))
    problem = check_fit(explained(paper()), limits).problem
    assert "at operator 4 (block 2, conv) the buffers b2.0 of 432.0 KiB and b1.1 of 72.0 KiB do not go side" in problem


def test_a_parameter_larger_than_every_region_is_named() -> None:
    design = resolve(Design(connectors=(), resolution=32))
    limits = DeviceLimits(2 * MIB, None, tuple(Region(f"r{i}", 100 * KIB) for i in range(20)))
    fit = check_fit(explain_memory(design, classes=1000), limits)
    assert "head.weight (parameters) of 437.5 KiB is larger than the largest region" in fit.problem


def test_flash_is_a_limit_of_its_own() -> None:
    item = explained(paper())
    fit = check_fit(item, DeviceLimits(MIB, 1 * MIB))
    assert fit.problem == "needs 1.2 MiB of flash, 171.8 KiB over the 1.0 MiB that there are"
    assert fit.flash_excess_bytes == item.estimate.flash_bytes - MIB == fit.excess_bytes
    assert check_fit(item, DeviceLimits(MIB, item.estimate.flash_bytes)).fits


def test_what_outlives_a_step_adds_up() -> None:
    random = Random(3)
    for optimizer in Optimizer:
        resolved = random_resolved(random)
        design = resolved.design.model_copy(update={"recipe": Recipe(optimizer=optimizer, accumulate=8)})
        item = explained(design)
        state = list_state(item.graph, design.recipe)
        assert sum(tensor.size_bytes for tensor in state) == item.estimate.ram_bytes - item.estimate.arena_bytes
        by_term = {term: size for term, size in item.estimate.terms if term != "arena"}
        assert {t.term: sum(s.size_bytes for s in state if s.term == t.term) for t in state} == by_term


@pytest.mark.parametrize("name", ["stm32f746", "stm32f407", "esp32-s3"])
def test_a_nearest_design_fits_the_board(name: str) -> None:
    limits = DeviceLimits.of_board(get_board(name), reserve_bytes=32 * KIB)
    design = paper(activation_bits=8)
    found = find_nearest(design, limits=limits, classes=10)
    assert found
    assert all(check_fit(explained(nearest.design), limits).fits for nearest in found)


def test_a_design_over_flash_becomes_int8_or_narrower() -> None:
    limits = DeviceLimits(EIGHT_MIB, MIB)
    ways_out = find_ways_out(six_connectors(), limits=limits, classes=10)
    assert ways_out is not None
    assert ways_out.schedules == ()
    assert [change.field for change in ways_out.nearest[0].changes] == ["activation_bits"]
    assert ways_out.nearest[0].memory.flash_bytes <= MIB


def test_a_schedule_that_goes_into_the_regions_is_a_way_out() -> None:
    regions = (Region("a", 400 * KIB), Region("b", 400 * KIB))
    ways_out = find_ways_out(paper(), limits=DeviceLimits(800 * KIB, None, regions), classes=10)
    assert ways_out is not None
    assert "streamed" in {schedule.value for schedule, _ in ways_out.schedules}
    assert all(check_fit(explained(n.design), DeviceLimits(800 * KIB, None, regions)).fits for n in ways_out.nearest)


def test_a_reserve_leaves_something_of_a_board() -> None:
    limits = DeviceLimits.of_board(get_board("stm32f746"), reserve_bytes=32 * KIB)
    assert limits.ram_bytes == sum(region.size_bytes for region in limits.regions) == 288 * KIB
    assert limits.flash_bytes == MIB
    with pytest.raises(SpecError, match=r"less than the RAM of stm32f746, 320.0 KiB, but got 320.0 KiB"):
        DeviceLimits.of_board(get_board("stm32f746"), reserve_bytes=320 * KIB)


def test_the_default_backbone_in_int8_fits_the_boards() -> None:
    for name in ("stm32f746", "stm32h743", "stm32f412", "nrf52840", "rp2040", "esp32-s3"):
        design = Design(connectors=(), resolution=96, activation_bits=8, backbone=BackboneSpec())
        limits = DeviceLimits.of_board(get_board(name), reserve_bytes=32 * KIB)
        fit = check_fit(explained(design), limits)
        assert fit.fits, (name, fit.problem)
        assert estimate_memory(resolve(design), classes=10).ram_bytes <= limits.ram_bytes
