from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repnet_search.results.front import best_of_origin, best_under, count_since_front, pareto_front
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.spec import Design


def record(number: int, ram_bytes: int, accuracy: float | None, outcome: Outcome = Outcome.TRAINED) -> TrialRecord:
    return TrialRecord(
        number, outcome, Origin.SAMPLER, Design(connectors=()), f"{number:064}", ram_bytes, (), 1, accuracy
    )


RECORDS = [record(0, 100, 0.5), record(1, 200, 0.7), record(2, 150, 0.4), record(3, 300, 0.7), record(4, 100, 0.45)]


def test_the_front_leaves_out_what_is_beaten_in_both() -> None:
    assert [item.number for item in pareto_front(RECORDS)] == [0, 1]


def test_what_was_not_trained_is_never_on_the_front() -> None:
    others = [record(9, 50, 0.9, outcome) for outcome in Outcome if outcome is not Outcome.TRAINED]
    assert pareto_front(others) == []
    assert best_under(others, budget_bytes=1000) is None


@pytest.mark.parametrize(("budget_bytes", "number"), [(99, None), (100, 0), (199, 0), (200, 1), (1000, 1)])
def test_the_best_under_a_budget_is_the_cheapest_of_equals(budget_bytes: int, number: int | None) -> None:
    best = best_under(RECORDS, budget_bytes=budget_bytes)
    assert (best.number if best is not None else None) == number


def test_the_best_of_an_origin() -> None:
    widest = replace(RECORDS[2], origin=Origin.WIDEST)
    assert best_of_origin([*RECORDS, widest], Origin.WIDEST, budget_bytes=1000) == widest


def test_designs_since_the_front_moved_are_counted() -> None:
    assert count_since_front([]) == 0
    assert [count_since_front(RECORDS[:count]) for count in range(1, 6)] == [0, 0, 1, 2, 3]
    cheaper = record(5, 90, 0.1)
    assert count_since_front([*RECORDS, cheaper]) == 0
    baseline = replace(record(6, 400, 0.2), origin=Origin.LAST_LAYER)
    assert count_since_front([*RECORDS, baseline]) == 3


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), max_size=30), st.integers(1, 60))
def test_the_front_answers_every_budget(points: list[tuple[int, float]], budget_bytes: int) -> None:
    records = [record(index, ram, accuracy) for index, (ram, accuracy) in enumerate(points)]
    everywhere = best_under(records, budget_bytes=budget_bytes)
    on_front = best_under(pareto_front(records), budget_bytes=budget_bytes)
    assert (everywhere is None) == (on_front is None)
    if everywhere is not None and on_front is not None:
        assert everywhere.validation_accuracy == on_front.validation_accuracy
        assert everywhere.ram_bytes == on_front.ram_bytes
