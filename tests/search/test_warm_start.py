from __future__ import annotations

from pathlib import Path
from random import Random

from repnet_search.results.front import best_under
from repnet_search.results.record import BASELINES, Origin
from repnet_search.results.storage import load_optuna_study, open_storage
from repnet_search.results.study import load_study
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.space import SearchSpace
from repnet_search.search.study import open_study
from repnet_search.search.warm_start import enqueue_winners, list_winners, translate
from repnet_search.spec import BackboneSpec
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.study import StudySpec
from repnet_search.training.task import Task
from tests.search.conftest import BUDGET_BYTES, search


def test_the_winners_of_another_study_come_first_and_once(
    workplace: Path, settings: StudySpec, task: Task, feasible: FeasibleSpace
) -> None:
    search(settings, task, feasible, name="one", trials=9)
    one = load_optuna_study("one", open_storage(None))
    records = [record for record in load_study("one").records if record.origin not in BASELINES]
    best = best_under(records, budget_bytes=BUDGET_BYTES)
    assert best is not None
    assert feasible.candidate(list_winners(one)[0]).resolved.id == best.design_id
    other = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": 1})})
    with open_study("two", open_storage(None), other, feasible) as study:
        assert enqueue_winners(study, feasible, [one]) > 0
        assert enqueue_winners(study, feasible, [one]) == 0
    search(other, task, feasible, name="two", trials=6)
    assert Origin.WARM_START in {record.origin for record in load_study("two").records}


def test_values_that_a_space_lacks_become_the_nearest() -> None:
    space = SearchSpace(SpaceSpec(resolution=(32, 64), connector_blocks=(5, 12)), BackboneSpec())
    params = space.sample(Random(0)) | {"resolution": 60, "stage_3": 4, "unknown": 1}
    del params["pool"]
    found = translate(params, space.distributions)
    assert found["resolution"] == 64
    assert found["stage_3"] == 5
    assert found["pool"] == 1
    assert set(found) == set(space.distributions)
    assert space.design(found).design.resolution == 64
