from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from repnet_search.errors import StudyError
from repnet_search.results.front import best_under, pareto_front
from repnet_search.results.record import ALWAYS_TRAINED, Origin, Outcome
from repnet_search.results.storage import open_storage
from repnet_search.results.study import list_studies, load_study
from repnet_search.search import run as run_module
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.finish import finish_search
from repnet_search.search.run import MEMORY_CONSTRAINT, Limits, Search, describe_end
from repnet_search.search.space import SearchSpace
from repnet_search.search.study import open_study
from repnet_search.spec import load_design
from repnet_search.spec.space import ModuleChoices, SpaceSpec
from repnet_search.spec.study import Sampler, SearchSpec, StudySpec
from repnet_search.spec.target import DeviceLimits
from repnet_search.training.task import Task
from tests.search.conftest import BUDGET_BYTES, search


def shown(worker: Search) -> list[tuple[object, ...]]:
    return [(r.number, r.outcome, r.origin, r.design_id, r.validation_accuracy, r.losses) for r in worker.reader.read()]


def test_a_search_trains_what_fits_and_nothing_twice(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace
) -> None:
    worker = search(settings, task, feasible, name="first", trials=14)
    view = load_study("first")
    assert view.trained_count == 14
    trained = [record for record in view.records if record.outcome is Outcome.TRAINED]
    assert all(record.ram_bytes <= BUDGET_BYTES for record in trained)
    assert len({record.design_id for record in trained}) == len(trained)
    assert sum(record.origin is Origin.LAST_LAYER for record in trained) == 4
    assert {Origin.WIDEST, Origin.SAMPLER, Origin.STRATUM} <= {record.origin for record in trained}
    best = best_under(view.records, budget_bytes=BUDGET_BYTES)
    assert best is not None
    assert load_design(workplace / "repnet-studies" / "first" / "best.yaml") == best.design
    for trial in worker.study.get_trials():
        if trial.state is TrialState.PRUNED:
            assert trial.system_attrs[f"constraints:{MEMORY_CONSTRAINT}"] > 0
    result = finish_search(worker.study, task)
    assert result.winner == best
    assert set(result.view.tested) == {record.design_id for _, record in result.compared}
    front = pareto_front(view.records)
    assert [r.ram_bytes for r in front] == sorted(r.ram_bytes for r in front)
    for plot in ("optimization_history", "param_importances", "slice", "timeline", "parallel_coordinate", "rank"):
        assert getattr(optuna.visualization, f"plot_{plot}")(worker.study).data


def test_an_over_budget_design_is_pruned_with_its_reason_and_constraint(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_study("over", open_storage(None, create=True), settings, feasible) as study:
        pass
    for trial in study.get_trials(states=(TrialState.WAITING,)):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    large = next(
        c
        for resolution in (40,)
        for c in [
            feasible.candidate(
                feasible.widest(seed=0).params | {"resolution": resolution, "recipe": "adam x16 lr 0.01"}
            )
        ]
    )
    assert not feasible.fits(large)
    study.enqueue_trial(large.params)
    monkeypatch.setattr(run_module, "train_design", lambda *_, **__: pytest.fail("an over-budget design was trained"))
    worker = Search(study, settings, task, feasible)
    proposal = worker.proposer.next([], waiting=True)
    assert proposal is not None
    record = worker._evaluate(proposal)
    assert record.outcome is Outcome.OVER_BUDGET
    assert record.reason.endswith("over the budget of 160.0 KiB")
    last = study.get_trials()[-1]
    assert last.state is TrialState.PRUNED
    assert last.system_attrs[f"constraints:{MEMORY_CONSTRAINT}"] == large.memory.ram_bytes - BUDGET_BYTES


def test_one_worker_and_the_same_seed_give_the_same_study(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace
) -> None:
    one = search(settings, task, feasible, name="one", trials=12)
    two = search(settings, task, feasible, name="two", trials=12)
    assert shown(one) == shown(two)


def test_a_search_that_goes_on_is_the_search_that_was_not_interrupted(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace
) -> None:
    whole = search(settings, task, feasible, name="whole", trials=12)
    search(settings, task, feasible, name="parts", trials=5)
    parts = search(settings, task, feasible, name="parts", trials=12)
    assert shown(parts) == shown(whole)


def test_an_interrupted_training_is_recorded_and_the_rest_is_kept(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_module.train_design
    calls: list[int] = []

    def interrupted(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(run_module, "train_design", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(settings, task, feasible, name="cut", trials=6)
    view = load_study("cut")
    assert view.count(Outcome.TRAINED) == 5
    assert view.records[-1].outcome is Outcome.INTERRUPTED
    assert (view.count(Outcome.FAILED), view.count(Outcome.INTERRUPTED)) == (0, 1)
    search(settings, task, feasible, name="cut", trials=6)
    assert load_study("cut").trained_count == 6


def test_a_trial_left_running_by_a_killed_run_is_failed_by_the_next(
    workplace: Path, settings: StudySpec, feasible: FeasibleSpace
) -> None:
    with open_study("killed", open_storage(None, create=True), settings, feasible) as study:
        study.ask()
    with open_study("killed", open_storage(None), settings, feasible) as again:
        states = [trial.state for trial in again.get_trials() if trial.state is not TrialState.WAITING]
    assert states == [TrialState.FAIL]


def test_a_second_run_leaves_the_trials_of_a_living_one_alone(
    workplace: Path, settings: StudySpec, feasible: FeasibleSpace
) -> None:
    with open_study("shared", open_storage(None, create=True), settings, feasible) as study:
        trial = study.ask()
        with open_study("shared", open_storage(None), settings, feasible) as other:
            assert other.get_trials()[trial.number].state is TrialState.RUNNING


def test_starts_that_a_killed_run_did_not_queue_are_queued_by_the_next(
    workplace: Path, settings: StudySpec, feasible: FeasibleSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_study("whole", open_storage(None, create=True), settings, feasible) as study:
        whole = [trial.system_attrs["fixed_params"] for trial in study.get_trials()]
    real = optuna.Study.enqueue_trial
    calls: list[int] = []

    def killed(self: optuna.Study, *args: object, **kwargs: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(optuna.Study, "enqueue_trial", killed)
    with pytest.raises(KeyboardInterrupt), open_study("cut", open_storage(None), settings, feasible):
        pass
    with open_study("cut", open_storage(None), settings, feasible) as study:
        assert [trial.system_attrs["fixed_params"] for trial in study.get_trials()] == whole


def test_a_study_refuses_other_settings(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace
) -> None:
    storage = open_storage(None, create=True)
    with open_study("mine", storage, settings, feasible):
        pass
    other = settings.model_copy(
        update={"data": settings.data.model_copy(update={"sha256": "0"}), "budget_bytes": 1 << 20}
    )
    said = (
        r"another budget \(160\.0 KiB in place of 1\.0 MiB\) and another data \(sha256 \w{12}… in place of 0\); choose"
    )
    with (
        pytest.raises(StudyError, match=said),
        open_study("mine", storage, other, feasible),
    ):
        pass


def test_several_failures_in_a_row_stop_the_search(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> object:
        raise RuntimeError("out of memory\nwith details")

    monkeypatch.setattr(run_module, "train_design", fails)
    with pytest.raises(Exception, match="5 trainings in a row failed, the last with: out of memory What was finished"):
        search(settings, task, feasible, name="failing", trials=6)
    assert load_study("failing").count(Outcome.FAILED) == 5


def test_designs_that_lag_behind_their_stratum_are_stopped_at_a_rung(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace
) -> None:
    halving = settings.model_copy(
        update={"search": SearchSpec(reduction=2), "training": settings.training.model_copy(update={"epochs": 4})}
    )
    worker = search(halving, task, feasible, name="halving", trials=16)
    view = load_study("halving")
    stopped = [record for record in view.records if record.outcome is Outcome.STOPPED]
    assert stopped
    assert view.trained_count == 16
    for record in stopped:
        trial = worker.study.get_trials()[record.number]
        assert trial.state is TrialState.PRUNED
        assert len(record.losses) == max(trial.intermediate_values) in (1, 2)
        assert "not among the best" in record.reason
        assert record.validation_accuracy is None
    assert not any(record.origin in ALWAYS_TRAINED for record in stopped)
    again = search(halving, task, feasible, name="again", trials=16)
    assert shown(again) == shown(worker)


def test_a_search_without_progress_ends_by_its_patience(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run_module.train_design

    def equal(*args: object, **options: object) -> object:
        model, result = real(*args, **options)  # type: ignore[arg-type]
        return model, replace(result, validation_accuracy=0.5)

    monkeypatch.setattr(run_module, "train_design", equal)
    with open_study("patient", open_storage(None, create=True), settings, feasible) as study:
        Search(study, settings, task, feasible).run(Limits(trials=30, patience=4), listener=lambda _: None)
    view = load_study("patient")
    assert "the last 4 brought nothing new" in str(describe_end(view.records, Limits(trials=30, patience=4)))
    assert "its time is over" in str(describe_end(view.records, Limits(trials=30, deadline=0.0)))
    counted = view.trained_count
    assert describe_end(view.records, Limits(trials=counted, deadline=0.0, patience=4)) is None
    assert 4 <= counted < 30


@pytest.mark.parametrize("sampler", [Sampler.RANDOM, Sampler.NSGA2])
def test_other_samplers_search_too(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace, sampler: Sampler
) -> None:
    chosen = settings.model_copy(update={"search": SearchSpec(sampler=sampler)})
    search(chosen, task, feasible, name="other", trials=7)
    records = [record for record in load_study("other").records if record.origin is Origin.SAMPLER]
    assert len(records) >= 4
    assert all(record.outcome is Outcome.TRAINED and record.seen > record.over for record in records)
    assert chosen.digest != settings.digest


def test_the_exhaustive_sampler_trains_all_that_fits(
    workplace: Path, settings: StudySpec, task: Task, space_spec: SpaceSpec
) -> None:
    module = ModuleChoices(depth=(0,), width=(1.0,), kernel=(3,), groups=(1,), pool=(1,))
    changes = {"resolution": (32, 40), "image_pool": (4,), "connector_blocks": (13, 17), "readers": (0,)}
    spec = space_spec.model_copy(
        update={**changes, "write": ("both",), "module": module, "recipe": space_spec.recipe[:1]}
    )
    small = settings.model_copy(update={"space": spec, "search": SearchSpec(sampler=Sampler.EXHAUSTIVE)})
    feasible = FeasibleSpace(SearchSpace(spec, small.backbone), limits=DeviceLimits(BUDGET_BYTES), classes=10)
    search(small, task, feasible, name="all", trials=100)
    ids = {feasible.candidate(feasible.fitting.memory.params(row)).resolved.id for row in feasible.fitting.list_all()}
    assert {record.design_id for record in load_study("all").records if record.outcome is Outcome.TRAINED} == ids


def test_a_small_space_ends_when_all_of_it_is_trained(
    workplace: Path, settings: StudySpec, task: Task, space_spec: object
) -> None:
    spec = SpaceSpec(
        resolution=(32,),
        image_pool=(4,),
        connector_blocks=(17,),
        readers=(0,),
        write=("both",),
        module=ModuleChoices(depth=(0,), width=(1.0,), kernel=(3,), groups=(1,), pool=(1, 2)),
        recipe=settings.space.recipe[:1],
    )
    small = settings.model_copy(update={"space": spec})
    feasible = FeasibleSpace(SearchSpace(spec, small.backbone), limits=DeviceLimits(BUDGET_BYTES), classes=10)
    worker = search(small, task, feasible, name="small", trials=50)
    view = load_study("small")
    assert view.trained_count == 2
    end = "The search ended after 2 of 50 designs: no other design that fits is found in the space."
    assert describe_end(view.records, Limits(trials=50)) == end
    assert len(worker.study.get_trials()) < 40


def test_studies_are_listed_and_foreign_ones_left_out(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace
) -> None:
    storage = open_storage(None, create=True)
    with open_study("mine", storage, settings, feasible):
        pass
    optuna.create_study(study_name="foreign", storage=storage)
    assert [view.name for view in list_studies(open_storage(None))] == ["mine"]
    with pytest.raises(StudyError, match="was not made by repnet-search"):
        load_study("foreign")
    with pytest.raises(StudyError, match=r"no study named 'mien'.* Did you mean 'mine'"):
        load_study("mien")


def test_a_folder_belongs_to_the_study_that_filled_it(
    workplace: Path, settings: StudySpec, feasible: FeasibleSpace
) -> None:
    with open_study("mine", open_storage(None, create=True), settings, feasible):
        pass
    other = settings.model_copy(update={"budget_bytes": settings.budget_bytes + 4})
    elsewhere = open_storage("other.log", create=True)
    refusal = "holds the trained designs of a study of this name with other settings"
    with pytest.raises(StudyError, match=refusal), open_study("mine", elsewhere, other, feasible):
        pass
    assert list_studies(elsewhere) == []
    with open_study("mine", elsewhere, settings, feasible):  # of the same settings every training is the same
        pass
    (workplace / "repnet-studies" / "mine" / "study.json").write_text("{")
    with pytest.raises(StudyError, match=refusal), open_study("mine", elsewhere, settings, feasible):
        pass
