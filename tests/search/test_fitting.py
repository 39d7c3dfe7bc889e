"""Draws of what fits are uniform, whatever share of the space that is."""

from __future__ import annotations

import numpy as np
import pytest

from repnet_search.errors import UsageError
from repnet_search.search import fitting as fitting_module
from repnet_search.search.batch import SpaceMemory
from repnet_search.search.fitting import FittingDesigns
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec
from repnet_search.spec.bundled import load_space
from repnet_search.spec.space import ModuleChoices, SpaceSpec
from repnet_search.spec.target import DeviceLimits


def create_fitting(spec: SpaceSpec, limits: DeviceLimits) -> FittingDesigns:
    return FittingDesigns(SpaceMemory(SearchSpace(spec, BackboneSpec()), classes=10, keep=False), limits)


def small_spec() -> SpaceSpec:
    module = ModuleChoices(depth=(0, 1), width=(0.5, 1.0), kernel=(3,), groups=(1,), pool=(1,))
    return SpaceSpec(resolution=(24, 32), connector_blocks=(6, 13), image_pool=(4,), readers=(0, 1), module=module)


@pytest.fixture(params=["listed", "drawn"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a small space can be drawn from; the second is that of large ones."""
    if request.param == "drawn":
        monkeypatch.setattr(fitting_module, "LISTED_COMBINATIONS", 0)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_draws_are_uniform_over_what_fits() -> None:
    fitting = create_fitting(small_spec(), DeviceLimits(70 * 1024))
    listed = {row.tobytes() for row in fitting.list_all()}
    assert 50 < len(listed) < fitting.memory.space.combinations
    drawn = fitting.draw(40 * len(listed), seed=1)
    counts = dict.fromkeys(listed, 0)
    for row in drawn.sample.choices:
        counts[row.tobytes()] += 1
    # Chi-squared with so many degrees of freedom is nearly normal: 4 standard deviations.
    freedom = len(listed) - 1
    squares = sum((count - 40) ** 2 / 40 for count in counts.values())
    assert abs(squares - freedom) < 4 * (2 * freedom) ** 0.5
    share = len(listed) / fitting.memory.space.combinations
    assert 1 - drawn.over / drawn.seen == pytest.approx(share, abs=0.03)


def test_a_walk_finds_what_one_in_a_million_draws_would_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting_module, "MOST_DRAWN", 1 << 13)
    fitting = create_fitting(load_space("default"), DeviceLimits(72 * 1024))
    found = fitting.draw(200, seed=0).sample
    assert len(found) == 200
    assert (found.ram_bytes <= 72 * 1024).all()
    stages = [index for index, name in enumerate(fitting.memory.names) if name.startswith("stage_")]
    assert len(np.unique(found.choices[:, stages], axis=0)) > 20


def test_values_that_are_held_stay_in_draws_and_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting_module, "MOST_DRAWN", 1 << 12)
    fitting = create_fitting(load_space("default"), DeviceLimits(80 * 1024))
    found = fitting.draw(100, seed=0, fixed={"readers": "all", "write": "to_backbone"}).sample
    assert len(found) == 100
    params = [fitting.memory.params(row) for row in found.choices]
    assert {(p["readers"], p["write"]) for p in params} == {("all", "to_backbone")}


@pytest.mark.usefixtures("way")
def test_values_that_are_held_stay_in_draws_from_a_small_space() -> None:
    fitting = create_fitting(small_spec(), DeviceLimits(70 * 1024))
    drawn = fitting.draw(200, seed=0, fixed={"resolution": 32})
    assert {fitting.memory.params(row)["resolution"] for row in drawn.sample.choices} == {32}
    assert (drawn.sample.ram_bytes <= 70 * 1024).all()
    rows = [row for row in fitting.list_all() if fitting.memory.params(row)["resolution"] == 32]
    share = len(rows) / (fitting.memory.space.combinations / 2)
    assert 1 - drawn.over / drawn.seen == pytest.approx(share, abs=0.05)


@pytest.mark.usefixtures("way")
def test_nothing_is_drawn_where_nothing_fits() -> None:
    assert len(create_fitting(small_spec(), DeviceLimits(10 * 1024)).draw(5, seed=0)) == 0


def test_flash_is_a_limit_too() -> None:
    limits = DeviceLimits(1 << 20, flash_bytes=800 * 1024)
    fitting = create_fitting(load_space("default"), limits)
    sample = fitting.memory.sample(300, seed=0)
    fits = fitting.fits(sample)
    assert not fits.all()
    assert (fits == (fitting.flash_bytes(sample) <= 800 * 1024) & (sample.ram_bytes <= 1 << 20)).all()


def test_a_space_that_is_too_large_is_not_listed() -> None:
    with pytest.raises(UsageError, match="'exhaustive' is for spaces of at most 2097152 combinations, but this one"):
        create_fitting(load_space("default"), DeviceLimits(1 << 20)).list_all()
