"""A small study that is searched for real, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from repnet_search.results.storage import open_storage
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.run import Limits, Search
from repnet_search.search.space import SearchSpace
from repnet_search.search.study import open_study
from repnet_search.spec import BackboneSpec, Recipe
from repnet_search.spec.space import ModuleChoices, SpaceSpec
from repnet_search.spec.study import DataSpec, StudySpec, WeightsSpec
from repnet_search.spec.target import DeviceLimits
from repnet_search.spec.training import TrainingSpec
from repnet_search.training.task import Task

BUDGET_BYTES = 160 * 1024


@pytest.fixture(scope="session")
def space_spec() -> SpaceSpec:
    return SpaceSpec(
        resolution=(32, 40),
        connector_blocks=(6, 10, 13, 17),
        module=ModuleChoices(depth=(0, 1), width=(0.5, 1.0), kernel=(3,), pool=(1, 2)),
        recipe=(
            Recipe.model_validate({"optimizer": "normalised_sgd", "accumulate": 16, "lr": 0.01}),
            Recipe.model_validate({"optimizer": "adam", "accumulate": 16, "lr": 0.01}),
        ),
    )


@pytest.fixture(scope="session")
def settings(space_spec: SpaceSpec, task: Task) -> StudySpec:
    return StudySpec(
        budget_bytes=BUDGET_BYTES,
        backbone=BackboneSpec(),
        weights=WeightsSpec(name="letters", sha256=task.weights_of(BackboneSpec()).sha256, input_range="-1,1"),
        data=DataSpec(name="digits", sha256=task.source.sha256(), classes=10),
        space=space_spec,
        training=TrainingSpec(epochs=1, views=1),
    )


@pytest.fixture
def feasible(space_spec: SpaceSpec) -> FeasibleSpace:
    return FeasibleSpace(SearchSpace(space_spec, BackboneSpec()), limits=DeviceLimits(BUDGET_BYTES), classes=10)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def search(settings: StudySpec, task: Task, feasible: FeasibleSpace, *, name: str, trials: int) -> Search:
    """Returns a search of the default storage that has run."""
    with open_study(name, open_storage(None, create=True), settings, feasible) as study:
        worker = Search(study, settings, task, feasible)
        worker.run(Limits(trials=trials), listener=lambda _: None)
    return worker
