"""The width of the backbone as a part of the design."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repnet_search.memory import estimate_lower_bound, estimate_memory
from repnet_search.models.weights import create_random_backbone
from repnet_search.results.record import Origin, Outcome
from repnet_search.results.study import load_study
from repnet_search.search.batch import SpaceMemory
from repnet_search.search.canonical import CanonicalChoices
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.finish import finish_search
from repnet_search.search.fitting import FittingDesigns
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec, resolve
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.study import StudySpec, WidthSpec
from repnet_search.spec.target import DeviceLimits
from repnet_search.training.proxy import train_design
from repnet_search.training.task import Task
from tests.search.conftest import BUDGET_BYTES, search

NARROW, WIDE = BackboneSpec(), BackboneSpec(width_mult=0.5)


@pytest.fixture
def space(space_spec: SpaceSpec) -> SearchSpace:
    spec = space_spec.model_copy(update={"activation_bits": (32, 8), "train_bias": (False, True)})
    return SearchSpace(spec, WIDE, NARROW)


@pytest.fixture
def both(task: Task) -> Task:
    weights = {NARROW: task.weights_of(NARROW), WIDE: create_random_backbone(WIDE, seed=0)}
    return Task(weights, task.source, task.device)


def test_one_width_is_no_parameter(space: SearchSpace) -> None:
    one = SearchSpace(space.spec, NARROW)
    assert "width_mult" not in one.distributions
    assert list(space.distributions) == ["width_mult", *one.distributions]
    assert space.distributions["width_mult"].choices == (0.35, 0.5)
    assert space.combinations == 2 * one.combinations
    assert one.last_layer() == [
        {name: value for name, value in params.items() if name != "width_mult"}
        for params in space.last_layer()
        if params["width_mult"] == 0.35
    ]


@pytest.mark.parametrize(("name", "widths"), [("mobilenet_v2", (0.35, 0.5)), ("mobilenet_v3_small", (0.5, 1.0))])
def test_memory_and_flash_are_those_of_each_designs_own_backbone(
    name: str, widths: tuple[float, float], space: SearchSpace, tmp_path: Path
) -> None:
    backbones = [BackboneSpec(name=name, width_mult=width) for width in widths]
    bits = (32, 8) if name == "mobilenet_v2" else (32,)
    changes = {"connector_blocks": "all", "activation_bits": bits}
    space = SearchSpace(space.spec.model_copy(update=changes), *backbones)
    memory = SpaceMemory(space, classes=7, folder=tmp_path)
    drawn = memory.sample(80, seed=1)
    designs = [space.design(memory.params(row)) for row in drawn.choices]
    assert {design.design.backbone for design in designs} == set(backbones)
    assert drawn.ram_bytes.tolist() == [estimate_lower_bound(resolved, classes=7) for resolved in designs]
    flash = FittingDesigns(memory, DeviceLimits(1 << 20)).flash_bytes(drawn)
    assert flash.tolist() == [estimate_memory(resolved, classes=7).flash_bytes for resolved in designs]


def test_stages_are_those_of_the_width_that_has_most_of_them() -> None:
    narrow, wide = (BackboneSpec(name="mobilenet_v3_small", width_mult=width) for width in (0.5, 1.0))
    assert len(SearchSpace(SpaceSpec(), narrow).stages) == 5
    assert SearchSpace(SpaceSpec(), narrow, wide).stages == SearchSpace(SpaceSpec(), wide).stages


def test_a_width_always_means_something(space: SearchSpace) -> None:
    memory = SpaceMemory(space, classes=10, keep=False)
    choices = memory.draw(200, seed=0)
    canonical = CanonicalChoices(space)(choices)
    assert np.array_equal(memory.width(canonical), memory.width(choices))


def test_the_starts_are_over_all_widths(space: SearchSpace) -> None:
    feasible = FeasibleSpace(space, limits=DeviceLimits(BUDGET_BYTES), classes=10)
    alone = [feasible.candidate(params).resolved for params in space.last_layer()]
    assert len({design.id for design in alone}) == 2 * len(space.spec.resolution) * len(space.spec.recipe)
    assert feasible.smallest().resolved.design.backbone == NARROW
    assert feasible.widest(seed=0).resolved.design.backbone == WIDE
    paper = [(params["resolution"], params["width_mult"]) for params in space.paper()]
    assert list(dict.fromkeys(paper)) == [(40, 0.5), (40, 0.35), (32, 0.5), (32, 0.35)]


def test_a_search_over_two_widths_trains_each_with_its_weights(
    workplace: Path, settings: StudySpec, both: Task, space_spec: SpaceSpec
) -> None:
    described = WidthSpec(width_mult=0.5, name="random", sha256="", input_range="imagenet")
    wide = settings.model_copy(update={"wider": (described,)})
    assert wide.backbones == (NARROW, WIDE)
    feasible = FeasibleSpace(SearchSpace(space_spec, *wide.backbones), limits=wide.limits, classes=10)
    worker = search(wide, both, feasible, name="widths", trials=8)
    view = load_study("widths")
    assert view.settings == wide
    trained = [record for record in view.records if record.outcome is Outcome.TRAINED]
    alone = [record.design.backbone for record in trained if record.origin is Origin.LAST_LAYER]
    assert alone.count(NARROW) == alone.count(WIDE) == 4
    assert len({record.design.backbone for record in trained if record.origin is not Origin.LAST_LAYER}) == 2
    for backbone in wide.backbones:
        record = next(record for record in trained if record.design.backbone == backbone)
        apart = Task({backbone: both.weights_of(backbone)}, both.source, both.device)
        _, result = train_design(resolve(record.design), apart, wide.training)
        assert result.validation_accuracy == record.validation_accuracy
    assert finish_search(worker.study, both).view.tested
