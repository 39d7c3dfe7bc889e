from __future__ import annotations

from random import Random

from repnet_search.search.rungs import find_stratum, goes_on, rung_epochs


def test_rungs_are_shares_of_the_epochs() -> None:
    assert rung_epochs(10, reduction=3) == (1, 3)
    assert rung_epochs(27, reduction=3) == (3, 9)
    assert rung_epochs(2, reduction=3) == (1,)
    assert rung_epochs(1, reduction=3) == ()


def test_strata_of_memory() -> None:
    assert [find_stratum(size, budget_bytes=100) for size in (10, 50, 51, 75, 76, 100)] == [0, 0, 1, 1, 2, 2]


def test_about_one_in_reduction_goes_on_and_the_best_always() -> None:
    random = Random(0)
    values = [random.random() for _ in range(3000)]
    kept = [value for place, value in enumerate(values) if goes_on(value, values[:place], reduction=3)]
    assert 0.3 < len(kept) / len(values) < 0.37
    assert max(values) in kept
    assert goes_on(0.1, [0.5, 0.6], reduction=3)
    assert not goes_on(0.1, [0.5, 0.6, 0.7], reduction=3)
    assert goes_on(0.65, [0.5, 0.6, 0.7], reduction=3)
