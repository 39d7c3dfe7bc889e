from __future__ import annotations

import optuna
import pytest

from repnet_search.report.wording import format_runs
from repnet_search.results.confirmation import (
    ConfirmedRun,
    choose_winner,
    confirmed_best,
    dump_run,
    near_best,
    read_confirmations,
)
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.spec import Design

MEANS = {"a": (0.70, 0.72, 0.74), "b": (0.71, 0.715, 0.72), "c": (0.60, 0.61, 0.62)}
RAM_BYTES = {"a": 200, "b": 100, "c": 50, "d": 60}


def record(name: str, *, accuracy: float = 0.9) -> TrialRecord:
    design = Design(connectors=())
    return TrialRecord(0, Outcome.TRAINED, Origin.SAMPLER, design, name * 64, RAM_BYTES[name], (), 1, accuracy)


@pytest.fixture
def study() -> optuna.Study:
    study = optuna.create_study()
    for name, accuracies in MEANS.items():
        for seed, accuracy in enumerate(accuracies):
            run = ConfirmedRun(name * 64, 20, seed, accuracy, test_accuracy=accuracy - 0.01 if name == "a" else None)
            study.set_user_attr(run.key, dump_run(run))
    return study


def test_runs_are_put_together_by_design(study: optuna.Study) -> None:
    found = read_confirmations(study)
    assert set(found) == {name * 64 for name in MEANS}
    mean, half = found["a" * 64].validation
    assert mean == pytest.approx(0.72)
    assert half == pytest.approx(4.303 * 0.02 / 3**0.5)
    assert found["a" * 64].exported_run.seed == 0
    test = found["a" * 64].test
    assert test is not None
    assert test[0] == pytest.approx(0.71)
    assert found["b" * 64].test is None


def test_longer_trainings_take_the_place_of_shorter_ones(study: optuna.Study) -> None:
    longer = ConfirmedRun("a" * 64, 100, 0, 0.8)
    study.set_user_attr(longer.key, dump_run(longer))
    found = read_confirmations(study)["a" * 64]
    assert found.epochs == 100
    assert found.validation == (0.8, None)


def test_fewer_seeds_than_three_show_their_range() -> None:
    assert format_runs([0.8]) == "80.0 %"
    assert format_runs([0.8, 0.9]) == "85.0 (80.0–90.0) %"
    assert format_runs([0.7, 0.72, 0.74]) == "72.0 ± 5.0 %"


def test_the_best_mean_wins_and_the_cheapest_near_it_is_named(study: optuna.Study) -> None:
    found = read_confirmations(study)
    records = [record(name) for name in MEANS]
    best = confirmed_best(records, found, budget_bytes=1000)
    assert best is not None
    assert best.design_id == "a" * 64
    assert [item.design_id[0] for item in near_best(records, found, budget_bytes=1000)] == ["b", "a"]
    assert [item.design_id[0] for item in near_best(records, found, budget_bytes=150)] == ["b"]
    assert near_best(records, {}, budget_bytes=1000) == []
    assert confirmed_best(records, found, budget_bytes=10) is None


@pytest.mark.parametrize(("accuracy", "winner"), [(0.605, "c"), (0.62, "d")])
def test_what_was_not_confirmed_wins_where_it_did_better_than_the_confirmed_mean(
    study: optuna.Study, accuracy: float, winner: str
) -> None:
    records = [record("c", accuracy=0.58), record("d", accuracy=accuracy)]
    best = choose_winner(records, read_confirmations(study), budget_bytes=70)
    assert best is not None
    assert best.design_id == winner * 64
    assert choose_winner(records, {}, budget_bytes=70) == records[1]
    assert choose_winner(records, read_confirmations(study), budget_bytes=40) is None
