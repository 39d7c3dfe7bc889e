"""The samplers on a made-up objective: each learns what it should, and proposes nothing that does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from repnet_search.search.batch import Choices, SpaceMemory
from repnet_search.search.evolution import measure_crowding, rank_fronts
from repnet_search.search.fitting import FittingDesigns
from repnet_search.search.parzen import ParzenDensity, ParzenEstimator
from repnet_search.search.samplers import DesignSampler, History
from repnet_search.search.space import SearchSpace
from repnet_search.search.surrogate import create_process, describe_sample
from repnet_search.spec import BackboneSpec
from repnet_search.spec.bundled import load_space
from repnet_search.spec.study import Sampler
from repnet_search.spec.target import DeviceLimits

BUDGET_BYTES = 160 * 1024


@pytest.fixture(scope="module")
def fitting() -> FittingDesigns:
    space = SearchSpace(load_space("default"), BackboneSpec())
    return FittingDesigns(SpaceMemory(space, classes=10), DeviceLimits(BUDGET_BYTES))


def score(fitting: FittingDesigns, choices: Choices) -> NDArray[np.float64]:
    """Returns an accuracy that likes late connectors, wide late modules and one recipe."""
    column = fitting.memory.column
    late = sum((column(choices, f"stage_{stage}") > 0).astype(float) for stage in (4, 5, 6))
    found: NDArray[np.float64] = (
        0.5 + 0.05 * late + 0.05 * column(choices, "late_width") + 0.05 * (column(choices, "recipe") == 1)
    )
    return found


def history_of(fitting: FittingDesigns, choices: Choices) -> History:
    return History(choices, score(fitting, choices), fitting.memory.measure(choices).ram_bytes)


def search(sampler: DesignSampler, designs: int, seed: int) -> History:
    fitting = sampler.fitting
    history = history_of(fitting, sampler.draw(seed=(seed,)).fitting[:8])
    while len(history.choices) < designs:
        suggestion = sampler.suggest(history, seed=(seed, len(history.choices)))
        history = history_of(fitting, np.concatenate([history.choices, suggestion.fitting[:1]]))
    return history


@pytest.mark.parametrize("name", [Sampler.TPE, Sampler.NSGA2])
def test_a_sampler_that_learns_beats_random_draws(fitting: FittingDesigns, name: Sampler) -> None:
    best = {
        which: np.mean([search(DesignSampler(which, fitting), 40, seed).accuracies[25:].mean() for seed in range(3)])
        for which in (name, Sampler.RANDOM)
    }
    assert best[name] > best[Sampler.RANDOM] + 0.01


@pytest.mark.parametrize("name", [Sampler.TPE, Sampler.NSGA2, Sampler.RANDOM])
def test_suggestions_fit_and_depend_on_the_seed_alone(fitting: FittingDesigns, name: Sampler) -> None:
    sampler = DesignSampler(name, fitting)
    history = history_of(fitting, sampler.draw(seed=(0,)).fitting[:20])
    limit_bytes = 120 * 1024
    one, two, other = (
        sampler.suggest(history, seed=seed, limit_bytes=limit_bytes) for seed in ((1, 2), (1, 2), (1, 3))
    )
    assert (one.fitting == two.fitting).all()
    assert one.fitting.shape != other.fitting.shape or (one.fitting != other.fitting).any()
    assert (fitting.memory.measure(one.fitting).ram_bytes <= limit_bytes).all()
    assert one.over < one.seen


def test_what_the_limits_cut_off_is_shown(fitting: FittingDesigns) -> None:
    sampler = DesignSampler(Sampler.TPE, fitting)
    history = search(sampler, 20, 0)
    cut = np.concatenate([sampler.suggest(history, seed=(0, number)).cut for number in range(10)])
    assert len(cut)
    assert (fitting.memory.measure(cut).ram_bytes > BUDGET_BYTES).all()


def test_a_running_design_keeps_a_second_worker_away(fitting: FittingDesigns) -> None:
    choices = DesignSampler(Sampler.TPE, fitting).draw(seed=(0,)).fitting[:12]
    accuracies = score(fitting, choices)
    best = int(accuracies.argmax())
    before = ParzenEstimator(fitting.memory.space, choices, accuracies).score(choices[[best]])
    accuracies[best] = np.nan
    after = ParzenEstimator(fitting.memory.space, choices, accuracies).score(choices[[best]])
    assert after < before


def test_a_density_is_one_and_draws_follow_it() -> None:
    kernels = [np.full((2, 2), 0.5), np.eye(3)]
    density = ParzenDensity(np.array([[0, 2], [1, 2], [1, 0]], dtype=np.int16), kernels)
    every = np.array([[a, b] for a in range(2) for b in range(3)], dtype=np.int16)
    shares = np.exp(density.log_density(every))
    assert shares.sum() == pytest.approx(1)
    drawn = density.draw(20_000, np.random.default_rng(0))
    counted = np.array([(drawn == row).all(1).mean() for row in every])
    assert counted == pytest.approx(shares, abs=0.015)


def test_fronts_and_crowding_by_hand() -> None:
    objectives = np.array([[0.0, 3.0], [1.0, 1.0], [3.0, 0.0], [2.0, 2.0], [3.0, 3.0], [0.0, 3.0]])
    front = rank_fronts(objectives)
    assert front.tolist() == [0, 0, 0, 1, 2, 0]
    crowding = measure_crowding(objectives, front)
    assert np.isinf(crowding[[2, 3, 4]]).all()
    assert crowding[1] == pytest.approx(2.0)


def test_the_process_reproduces_what_it_saw_and_doubts_what_is_far(fitting: FittingDesigns) -> None:
    sample = fitting.draw(40, seed=3).sample
    accuracies = score(fitting, sample.choices)
    features = describe_sample(sample)
    process = create_process(fitting.memory.space, features, accuracies)
    expected, deviation = process.predict(features)
    assert np.corrcoef(expected, accuracies)[0, 1] > 0.9
    others = fitting.draw(200, seed=4).sample
    guessed, doubt = process.predict(describe_sample(others))
    assert np.corrcoef(guessed, score(fitting, others.choices))[0, 1] > 0.5
    assert doubt.mean() > deviation.mean()
    gain = process.expected_improvement(describe_sample(others), best=float(expected.max()))
    assert (gain >= 0).all()


def test_what_still_trains_counts_as_expected(fitting: FittingDesigns) -> None:
    sample = fitting.draw(20, seed=3).sample
    accuracies = score(fitting, sample.choices)
    accuracies[-1] = np.nan
    features = describe_sample(sample)
    process = create_process(fitting.memory.space, features, accuracies)
    expected, deviation = process.predict(features)
    assert accuracies[:-1].min() < expected[-1] < accuracies[:-1].max()
    assert deviation[-1] < process.predict(describe_sample(fitting.draw(50, seed=9).sample))[1].mean()


def test_what_was_stopped_counts_as_the_least(fitting: FittingDesigns) -> None:
    sample = fitting.draw(20, seed=3).sample
    features, accuracies = describe_sample(sample), score(fitting, sample.choices)
    stopped, least = accuracies.copy(), accuracies.copy()
    place = int(accuracies.argmax())
    stopped[place], least[place] = -np.inf, np.delete(accuracies, place).min()
    one, two = (create_process(fitting.memory.space, features, item).predict(features) for item in (stopped, least))
    assert (one[0] == two[0]).all()
    assert (one[1] == two[1]).all()
