"""What matters in a study: a field that decides stands out, few trainings are refused, memory is the profile's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repnet_search.cli.main import run_cli
from repnet_search.results.storage import load_optuna_study, open_storage
from repnet_search.search.batch import SpaceMemory
from repnet_search.search.canonical import CanonicalChoices
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.importance import FEWEST_TRAININGS, _find_effective, measure_importance
from repnet_search.search.profile import profile_space
from repnet_search.search.run import Limits, Search
from repnet_search.search.study import open_study
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.study import Sampler, StudySpec
from repnet_search.training.proxy import ProxyResult, Rungs
from repnet_search.units import format_number


class DecidedByPool(Search):
    """A search in which the modules' pool decides, but for a little; nothing is trained."""

    def train(self, resolved: ResolvedDesign, *, rungs: Rungs | None) -> ProxyResult:
        pools = [module.pool for module in resolved.modules]
        little = int(resolved.id[:4], 16) / 0xFFFF
        return ProxyResult(0.5 + 0.4 * (1 in pools) + 0.01 * little, (0.0,), 0.0)


class AllEqual(Search):
    def train(self, resolved: ResolvedDesign, *, rungs: Rungs | None) -> ProxyResult:
        return ProxyResult(0.5, (0.0,), 0.0)


def search(kind: type[Search], settings: StudySpec, feasible: FeasibleSpace, *, trials: int) -> None:
    random = settings.model_copy(update={"search": settings.search.model_copy(update={"sampler": Sampler.RANDOM})})
    with open_study("mine", open_storage(None, create=True), random, feasible) as study:
        worker = kind(study, random, None, feasible)  # type: ignore[arg-type]  # nothing is trained
        worker.run(Limits(trials=trials), listener=lambda _: None)


def test_what_decides_stands_out_and_memory_is_the_profile(
    workplace: Path, settings: StudySpec, feasible: FeasibleSpace
) -> None:
    search(DecidedByPool, settings, feasible, trials=30)
    found = measure_importance(load_optuna_study("mine", open_storage(None)))
    first = found.fields[0]
    assert first.field == "pool"
    assert first.accuracy is not None
    assert first.by_chance is not None
    assert first.accuracy > max(0.3, first.by_chance)
    assert sum(item.accuracy or 0.0 for item in found.fields) == pytest.approx(1)
    assert found.trainings == 30
    space = feasible.space
    profile = profile_space(SpaceMemory(space, classes=10), limits=settings.limits, samples=1, seed=0)
    assert found.exact
    assert found.designs == profile.measured == space.combinations
    explained = {driver.field: driver.explained for driver in profile.drivers if len(driver.choices) > 1}
    assert {item.field: item.memory for item in found.fields} == explained
    again = measure_importance(load_optuna_study("mine", open_storage(None)))
    assert again == found


def test_few_trainings_say_nothing_of_accuracy(
    workplace: Path, settings: StudySpec, feasible: FeasibleSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    search(DecidedByPool, settings, feasible, trials=FEWEST_TRAININGS - 1)
    assert run_cli(["importance", "--study", "mine"]) == 0
    shown = capsys.readouterr().out
    assert "not known from 19 trained designs (the last layer alone left out); at least 20 of unequal accuracy" in shown
    assert run_cli(["importance", "--study", "mine", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["trainings"] == 19
    assert {item["accuracy"] for item in answer["fields"]} == {None}
    search(DecidedByPool, settings, feasible, trials=30)
    assert run_cli(["importance", "--study", "mine"]) == 0
    shown = capsys.readouterr().out
    assert "the best quarter of 30 trained designs apart" in shown
    assert "Few trainings mean little" in shown
    assert "in 95 of 100 cases, pool" in shown
    assert f"over all {format_number(feasible.space.combinations)} designs of the space" in shown


def test_equal_accuracies_say_nothing(workplace: Path, settings: StudySpec, feasible: FeasibleSpace) -> None:
    search(AllEqual, settings, feasible, trials=FEWEST_TRAININGS)
    found = measure_importance(load_optuna_study("mine", open_storage(None)))
    assert found.trainings == FEWEST_TRAININGS
    assert {item.accuracy for item in found.fields} == {None}


def test_a_field_without_effect_is_no_choice(feasible: FeasibleSpace) -> None:
    memory = feasible.fitting.memory
    canonical = CanonicalChoices(feasible.space)

    def effective(**params: object) -> set[str]:
        return _find_effective(memory, canonical, canonical(memory.choices(params)[None])[0])

    alone = effective(resolution=32)
    assert {"resolution", "recipe"} <= alone
    assert not {"pool", "late_width", "write", "kernel"} & alone
    late = effective(stage_7=17, late_depth=1)
    assert {"pool", "late_depth", "late_width"} <= late
    assert not {"early_depth", "early_width"} & late


def test_an_unknown_study_is_refused(
    workplace: Path, settings: StudySpec, feasible: FeasibleSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    search(AllEqual, settings, feasible, trials=1)
    assert run_cli(["importance", "--study", "mime"]) == 1
    assert "Did you mean 'mine'?" in capsys.readouterr().err
