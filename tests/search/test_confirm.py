"""The confirmation of a small study: what it trains, what it keeps, and who wins by it."""

from __future__ import annotations

from pathlib import Path

from repnet_search.results.confirmation import read_runs
from repnet_search.results.front import best_under
from repnet_search.results.record import Origin
from repnet_search.results.study import load_study
from repnet_search.search.confirm import SEED_OFFSET, ConfirmationPlan, Confirmer, choose_confirmed, plan_runs
from repnet_search.search.expectation import expect_accuracies
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.finish import finish_search
from repnet_search.search.trained import load_trained, trained_path
from repnet_search.spec import load_design
from repnet_search.spec.study import StudySpec
from repnet_search.training.evaluate import measure_test_accuracy
from repnet_search.training.task import Task
from tests.search.conftest import BUDGET_BYTES, search

PLAN = ConfirmationPlan(designs=2, seeds=2, epochs=2)


def test_the_best_the_last_layer_and_the_widest_are_trained_again(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace
) -> None:
    study = search(settings, task, feasible, name="mine", trials=6).study
    records = load_study("mine").records
    expected = expect_accuracies(study, feasible, records)
    chosen = choose_confirmed(records, expected, limit_bytes=BUDGET_BYTES, designs=2)
    best = best_under(records, budget_bytes=BUDGET_BYTES)
    assert best in chosen
    assert {Origin.LAST_LAYER, Origin.WIDEST} <= {record.origin for record in chosen}
    runs = plan_runs(study, feasible, settings, PLAN)
    assert len(runs) == 2 * len(chosen)
    assert {run.seed for run in runs} == {SEED_OFFSET, SEED_OFFSET + 1}

    told: list[str] = []
    confirmer = Confirmer(study, settings, task)
    confirmer.run(runs[:3], listener=lambda run: told.append(run.key))
    assert [run.key for run in plan_runs(study, feasible, settings, PLAN)] == [run.key for run in runs[3:]]
    confirmer.run(runs, listener=lambda run: told.append(run.key))
    assert told == [run.key for run in runs]

    result = finish_search(study, task)
    means = {key: item.validation[0] for key, item in result.view.confirmed.items()}
    assert means[result.winner.design_id] == max(means.values())
    assert result.winner in result.near
    assert load_design(workplace / "repnet-studies" / "mine" / "best.yaml") == result.winner.design
    for run in result.view.confirmed[result.winner.design_id].runs:
        assert trained_path("mine", run.design_id, run).exists()
        model = load_trained(result.winner, task, study_name="mine", run=run)
        assert measure_test_accuracy(model, result.winner.design, task) == run.test_accuracy
    tested = {run.design_id for run in read_runs(study) if run.test_accuracy is not None}
    assert tested == {record.design_id for _, record in result.compared}


def test_luck_is_expected_to_go(workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace) -> None:
    study = search(settings, task, feasible, name="mine", trials=10).study
    records = load_study("mine").records
    expected = expect_accuracies(study, feasible, records)
    trained = [record for record in records if record.design_id in expected]
    found = {record.design_id: record.validation_accuracy or 0.0 for record in trained}
    best = max(found, key=lambda key: found[key])
    worst = min(found, key=lambda key: found[key])
    assert expected[best] <= found[best]
    assert expected[worst] >= found[worst]
    assert expected[best] > expected[worst]


def test_a_run_depends_on_design_and_seed_alone(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace
) -> None:
    found = []
    for name, step in (("forth", 1), ("back", -1)):
        study = search(settings, task, feasible, name=name, trials=2).study
        runs = plan_runs(study, feasible, settings, PLAN)
        Confirmer(study, settings, task).run(runs[::step], listener=lambda _: None)
        found.append({run.key: run.validation_accuracy for run in read_runs(study)})
    assert found[0] == found[1]
