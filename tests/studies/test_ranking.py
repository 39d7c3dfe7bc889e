"""Tau and regret against what is counted by hand, and the sentence that the record draws from them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from studies.proxy_rank_report import FEWEST_DESIGNS, Recorded, choose_default, describe_choice, find_rows, summarise
from studies.ranking import Floats, estimate_regret, estimate_tau, find_regret, kendall_tau


def array(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize(
    ("scores", "truth", "tau"),
    [
        ((1, 2, 3, 4), (10, 20, 30, 40), 1.0),
        ((1, 2, 3, 4), (4, 3, 2, 1), -1.0),
        ((1, 2, 3, 4), (1, 2, 4, 3), 4 / 6),  # one of six pairs is the other way round
        ((1, 1, 2, 3), (1, 2, 3, 4), 5 / math.sqrt(5 * 6)),  # a tie in one of them
        ((1, 1, 2), (5, 5, 6), 1.0),  # a tie in both is no pair
        ((1, 1, 2, 2), (1, 2, 1, 2), 0.0),
    ],
)
def test_tau_is_what_is_counted_by_hand(scores: tuple[float, ...], truth: tuple[float, ...], tau: float) -> None:
    assert kendall_tau(array(*scores), array(*truth))[0] == pytest.approx(tau)


def test_tau_is_what_a_loop_over_pairs_counts() -> None:
    random = np.random.default_rng(0)
    scores, truth = (random.integers(0, 6, size=20).astype(np.float64) for _ in range(2))
    pairs = list(itertools.combinations(range(20), 2))
    products = [np.sign(scores[i] - scores[j]) * np.sign(truth[i] - truth[j]) for i, j in pairs]
    untied = [sum(values[i] != values[j] for i, j in pairs) for values in (scores, truth)]
    assert kendall_tau(scores, truth)[0] == pytest.approx(sum(products) / math.sqrt(untied[0] * untied[1]))


def test_nothing_is_said_where_all_are_equal() -> None:
    assert np.isnan(kendall_tau(array(1, 1, 1), array(1, 2, 3)))[0]
    assert estimate_tau([(array(1, 1, 1), array(1, 2, 3))]).format(".2f") == "–"


def test_a_resample_counts_as_if_its_designs_were_listed() -> None:
    scores, truth, memory = array(3, 1, 2, 5), array(1, 4, 2, 3), array(1, 2, 3, 4)
    drawn = np.array([0, 0, 2, 3])
    counts = np.bincount(drawn, minlength=4)[None]
    listed = kendall_tau(scores[drawn], truth[drawn])
    assert kendall_tau(scores, truth, counts=counts) == pytest.approx(listed)
    # Without the best design, number 1, the best of what is there is 3.
    assert find_regret(scores, truth, memory, top=1, counts=counts)[0] == 0.0


def test_regret_is_what_the_best_of_the_top_lacks() -> None:
    scores, truth, memory = array(9, 8, 7, 6), array(50, 70, 60, 75), array(1, 1, 1, 1)
    assert [find_regret(scores, truth, memory, top=top)[0] for top in (1, 2, 3, 4)] == [25, 5, 5, 0]


def test_of_equal_scores_the_cheapest_goes_first() -> None:
    scores, truth = array(9, 9, 7), array(50, 70, 60)
    assert find_regret(scores, truth, array(1, 2, 3), top=1)[0] == 20
    assert find_regret(scores, truth, array(2, 1, 3), top=1)[0] == 0


def test_intervals_hold_the_value_and_depend_on_the_seed_alone() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(size=40)
    scores = truth + random.normal(size=40)
    tau = estimate_tau([(scores, truth)])
    assert tau.low < tau.value < tau.high
    assert tau == estimate_tau([(scores, truth)])
    regret = estimate_regret([(scores, truth)], np.ones(40), top=3)
    assert 0 <= regret.low <= regret.value <= regret.high


def record(designs: int, **noise: float) -> Recorded:
    """Returns a record in which each setting sees the truth with so many points of noise."""
    random = np.random.default_rng(0)
    truth = random.uniform(0.5, 0.9, size=designs)
    costs = {"default": 10.0, "half": 5.0, "third": 2.0, "fp16": 10.0}

    def proxy(name: str, value: float) -> dict[str, Any]:
        found = {"validation": value + random.normal() * noise.get(name, 0.0) / 100, "cpu_seconds": costs[name]}
        return found | ({"rungs": {"1": 0.1, "3": value}} if name == "default" else {})

    lines = [
        {
            "id": str(number),
            "ram_bytes": 1024 * (100 + number),
            "test": [value, value],
            "long": [{"validation": value, "cpu_seconds": 20.0}] * 2,
            "proxies": {name: proxy(name, value) for name in costs},
        }
        for number, value in enumerate(truth)
    ]
    source = {"name": "some", "sha256": "0" * 64}
    about = {
        "task": "digits",
        "budget_bytes": 256 * 1024,
        "training": {"epochs": 10, "views": 8},
        "long": {"epochs": 20},
        "proxies": {
            name: {"epochs": 10, "images": "None", "features": "fp16" if name == "fp16" else "fp32"} for name in costs
        },
        "images": {"None": [100, 400, 1297]},
        "weights": source,
        "data": source,
    }
    return Recorded(about, lines)


def test_the_cheapest_setting_that_ranks_well_is_chosen() -> None:
    assert choose_default(find_rows(record(40, third=100.0))) == "half"
    assert choose_default(find_rows(record(40, third=100.0, half=100.0))) == "default"
    noisy = find_rows(record(40, third=100.0, half=100.0, default=100.0))
    assert choose_default(noisy) == "validated"
    assert "The default is to be the long training, 20 epochs: it is" in describe_choice(noisy, designs=40)
    noisy["validated"] = noisy["default"]
    assert choose_default(noisy) is None
    assert "The present setting stays, and is not good enough." in describe_choice(noisy, designs=40)


def test_the_record_says_what_was_chosen_and_what_rounding_does() -> None:
    recorded = record(40, third=100.0, fp16=0.5)
    text = summarise(recorded.about, recorded.lines)
    assert "**The default is to be 10 epochs, 100 + 400 images: it is the cheapest whose top-3 regret is at m" in text
    assert "in 0.50 of the present CPU time.**" in text
    assert "| the present setting, after epoch 1 | 1.0 | – |" in text  # all equal there
    assert "features kept as fp32" in text
    assert "with fp16 by 0." in text
    del recorded.about["proxies"]["fp16"]
    assert "is no choice" in summarise(recorded.about, recorded.lines)


def test_of_few_designs_nothing_is_chosen() -> None:
    few = record(FEWEST_DESIGNS - 1)
    assert "too few to choose from" in summarise(few.about, few.lines)
