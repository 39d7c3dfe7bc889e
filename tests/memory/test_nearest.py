"""The nearest designs fit, say truly what was changed, and change as few fields as can be."""

from __future__ import annotations

import time

import pytest

from repnet_search.errors import SpecError
from repnet_search.graph import Schedule
from repnet_search.memory import estimate_memory, find_nearest, find_ways_out
from repnet_search.memory.changes import list_fields
from repnet_search.memory.nearest import estimate_least
from repnet_search.spec import (
    BackboneSpec,
    Connector,
    Design,
    Exchange,
    ModuleSpec,
    Optimizer,
    Recipe,
    design_to_yaml,
    get_preset,
    parse_spec,
    resolve,
)
from repnet_search.spec.target import DeviceLimits
from tests.designs import six_connectors

KIB = 1024


def paper(resolution: int = 96, **fields: object) -> Design:
    return get_preset("paper", Design(connectors=(), resolution=resolution).model_copy(update=fields))


def ram(design: Design, *, schedule: Schedule = Schedule.LAYER) -> int:
    return estimate_memory(resolve(design), classes=10, schedule=schedule).ram_bytes


ADAM = Recipe(optimizer=Optimizer.ADAM, accumulate=16)
CASES = [
    (six_connectors(), 256),
    (six_connectors(Exchange.TO_BACKBONE, pool=1, width=2.0), 100),
    (paper(), 400),
    (paper(), 128),
    (paper(), 64),
    (paper(), 40),
    (paper(recipe=ADAM), 200),
    (paper(recipe=ADAM), 30),
    (Design(connectors=(), train_bias=True, resolution=64), 64),
]


@pytest.mark.parametrize(("design", "kib"), CASES)
def test_what_is_found_fits_and_is_what_it_says(design: Design, kib: int) -> None:
    started = time.process_time()
    found = find_nearest(design, limits=DeviceLimits(kib * KIB), classes=10)
    assert time.process_time() - started < 2
    assert found
    assert len({len(nearest.changes) for nearest in found}) == 1 or not found[0].changes
    sizes = [nearest.memory.ram_bytes for nearest in found]
    assert sizes == sorted(sizes, reverse=True)
    for nearest in found:
        again = parse_spec(Design, design_to_yaml(nearest.design), source="nearest")
        assert ram(again) == nearest.memory.ram_bytes <= kib * KIB
        before, after = design.model_dump(), nearest.design.model_dump()
        changed = {name for name in before if before[name] != after[name]}
        assert changed == {change.field.split("[")[0].split(".")[0] for change in nearest.changes}


def test_a_design_that_fits_is_its_own_nearest() -> None:
    (nearest,) = find_nearest(six_connectors(), limits=DeviceLimits(10**9), classes=10)
    assert (nearest.design, nearest.changes, nearest.description) == (six_connectors(), (), "")
    assert find_ways_out(six_connectors(), limits=DeviceLimits(10**9), classes=10) is None


def test_a_single_field_is_changed_no_further_than_needed() -> None:
    nearest = find_nearest(paper(), limits=DeviceLimits(400 * KIB), classes=10)[0]
    assert nearest.description == "resolution 96 -> 72"
    assert ram(paper(80)) > 400 * KIB >= ram(paper(72))


def test_nothing_that_fits_with_one_field_is_overlooked() -> None:
    design, budget = six_connectors(), 150 * KIB
    fitting = {
        field[0].change.field
        for field in list_fields(design)
        if any(_fits(step.apply(design), budget) for step in field)
    }
    found = find_nearest(design, limits=DeviceLimits(budget), classes=10)
    assert fitting
    assert {nearest.changes[0].field for nearest in found} == fitting


def _fits(design: Design, budget: int) -> bool:
    try:
        return ram(design) <= budget
    except SpecError:
        return False


def test_shared_module_fields_are_offered_where_a_connector_leaves_them_open() -> None:
    shared = Design(connectors=(Connector(after_block=6), Connector(after_block=10)), module=ModuleSpec(width=2.0))
    own = shared.model_copy(
        update={"connectors": tuple(c.model_copy(update={"width": 1.0}) for c in shared.connectors)}
    )
    assert "module.width" in {field[0].change.field for field in list_fields(shared)}
    assert "module.width" not in {field[0].change.field for field in list_fields(own)}
    assert "module.pool" in {field[0].change.field for field in list_fields(own)}


def test_parameters_too_many_are_saved_by_recipe_or_connectors() -> None:
    design = six_connectors().model_copy(update={"recipe": ADAM, "resolution": 32})
    memory = estimate_memory(resolve(design), classes=10)
    found = find_nearest(design, limits=DeviceLimits(memory.ram_bytes - memory.optimizer_bytes // 2), classes=10)
    assert "recipe.optimizer adam -> momentum" in [nearest.description for nearest in found]


def test_where_few_changes_are_not_enough_connectors_go() -> None:
    (nearest,) = find_nearest(paper(recipe=ADAM), limits=DeviceLimits(40 * KIB), classes=10)
    assert str(nearest.changes[0]) == "connectors (the first 6) left out"
    assert nearest.design.connectors == ()


def test_nothing_fits_below_the_least() -> None:
    least = estimate_least(paper(), classes=10).ram_bytes
    assert find_nearest(paper(), limits=DeviceLimits(least), classes=10)
    ways_out = find_ways_out(paper(), limits=DeviceLimits(least - 1), classes=10)
    assert ways_out is not None
    assert (ways_out.nearest, ways_out.least_bytes, ways_out.schedules) == ((), least, ())


def test_another_schedule_is_a_way_out() -> None:
    ways_out = find_ways_out(paper(), limits=DeviceLimits(400 * KIB), classes=10)
    assert ways_out is not None
    assert ways_out.schedules == ((Schedule.STREAMED, ram(paper(), schedule=Schedule.STREAMED)),)
    assert ways_out.fit.excess_bytes == ram(paper()) - 400 * KIB
    assert find_ways_out(paper(), limits=DeviceLimits(400 * KIB), classes=10, schedule=Schedule.STREAMED) is None


def test_a_large_backbone_is_fast_enough_too() -> None:
    backbone = BackboneSpec(name="proxylessnas_mobile", width_mult=1.0, last_conv=True)
    started = time.process_time()
    assert find_nearest(paper(224, backbone=backbone, recipe=ADAM), limits=DeviceLimits(500 * KIB), classes=10)
    assert time.process_time() - started < 3
