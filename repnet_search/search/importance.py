"""What matters in a study: which fields decide accuracy, over what was trained, and which decide memory.

Accuracy by PED-ANOVA [Watanabe2023pedanova]: how differently a field is chosen in the best quarter of the designs. A
field without effect in a design, such as a width behind no connector, is no choice there. Memory by the profile of the
space (search/profile.py).

[Watanabe2023pedanova] S. Watanabe et al., PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
Subspaces, IJCAI 2023.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial

from repnet_search.results.front import trained
from repnet_search.results.record import BASELINES
from repnet_search.results.study import RecordReader, read_settings
from repnet_search.search.batch import Choices, SpaceMemory
from repnet_search.search.canonical import CanonicalChoices
from repnet_search.search.profile import profile_space
from repnet_search.search.space import Params, SearchSpace

BEST_SHARE = 0.25
FEWEST_TRAININGS = 20
"""Of fewer the best quarter are less than five, which Optuna advises against."""

MOST_SHUFFLES = 100
FEWEST_SHUFFLES = 20
SHUFFLED_TRAININGS = 100_000
"""In all shuffles together: of thousands of trainings chance alone gives so little that fewer shuffles tell."""

CHANCE_PERCENT = 95
SAMPLES = 200_000
"""Designs whose memory is looked at where the space is too large to count: a share is then off by 0.2 % or so."""


@dataclass(frozen=True, slots=True)
class FieldImportance:
    """How much a field of the space decides.

    Args:
        field: the parameter's name.
        accuracy: its share of what decides accuracy, all fields together 1; None of too few trainings.
        by_chance: what the share stays below in 95 % of shuffles of the accuracies; None likewise.
        memory: the share of the memory's variance that it explains alone.
    """

    field: str
    accuracy: float | None
    by_chance: float | None
    memory: float


@dataclass(frozen=True, slots=True)
class StudyImportance:
    """The fields of a study that have a choice, the one that decides most first, and what they were found from.

    `trainings` leave out the last layer alone, which every study begins with. `designs` had their memory counted;
    `exact` says that these are all of the space.
    """

    fields: tuple[FieldImportance, ...]
    trainings: int
    designs: int
    exact: bool


def measure_importance(study: optuna.Study, *, samples: int = SAMPLES, seed: int = 0) -> StudyImportance:
    """Returns what matters in a study.

    Args:
        study: one that repnet-search made.
        samples: designs whose memory is looked at where the space is too large to count.
        seed: of the samples and the shuffles.

    Raises:
        StudyError: repnet-search did not make it, or another version did.
    """
    settings = read_settings(study)
    space = SearchSpace(settings.space, *settings.backbones)
    memory = SpaceMemory(space, classes=settings.data.classes, schedule=settings.schedule)
    profile = profile_space(memory, limits=settings.limits, samples=samples, seed=seed)
    choices, accuracies = _read_trained(study, memory)
    shares = _measure_accuracy(memory, choices, accuracies, seed=seed)
    fields = []
    for driver in profile.drivers:
        if len(driver.choices) > 1:
            accuracy, by_chance = shares.get(driver.field, (0.0, 0.0)) if shares else (None, None)
            fields.append(FieldImportance(driver.field, accuracy, by_chance, driver.explained))
    fields.sort(key=lambda item: -(item.accuracy or 0.0))  # of equals that stays first which drives memory most
    return StudyImportance(tuple(fields), len(accuracies), profile.measured, profile.exact)


def _read_trained(study: optuna.Study, memory: SpaceMemory) -> tuple[Choices, list[float]]:
    """Returns choices and accuracies of the trained designs; the last layer alone, at first choices, is left out."""
    records = [record for record in trained(RecordReader(study).read()) if record.origin not in BASELINES]
    trials = study.get_trials(deepcopy=False)
    rows = [memory.choices(trials[record.number].params) for record in records]
    choices = np.array(rows, dtype=np.int16).reshape(len(rows), len(memory.names))
    return choices, [record.validation_accuracy or 0.0 for record in records]


def _measure_accuracy(
    memory: SpaceMemory, choices: Choices, accuracies: Sequence[float], *, seed: int
) -> dict[str, tuple[float, float]]:
    """Returns each field's share of what decides accuracy, and what it stays below by chance.

    Nothing of too few, and no field that has no effect in any design.
    """
    if len(accuracies) < FEWEST_TRAININGS or not _has_best(accuracies):
        return {}
    study = _create_study(memory, _effective_params(memory, choices))
    found = _rank_fields(study, accuracies)
    random = np.random.default_rng(seed)
    shuffles = max(FEWEST_SHUFFLES, min(MOST_SHUFFLES, SHUFFLED_TRAININGS // len(accuracies)))
    shuffled = [_rank_fields(study, random.permutation(accuracies).tolist()) for _ in range(shuffles)]
    chance = {name: float(np.percentile([item[name] for item in shuffled], CHANCE_PERCENT)) for name in found}
    return {name: (share, chance[name]) for name, share in found.items()}


def _has_best(accuracies: Sequence[float]) -> bool:
    """Returns whether the best quarter, with those that equal the last of it, is not all there are."""
    ranked = sorted(accuracies, reverse=True)
    return ranked[math.ceil(BEST_SHARE * len(ranked)) - 1] > ranked[-1]


def _effective_params(memory: SpaceMemory, choices: Choices) -> list[Params]:
    """Returns the parameter values of designs, those without effect left out."""
    canonical = CanonicalChoices(memory.space)
    found = []
    for row in canonical(choices):
        effective = _find_effective(memory, canonical, row)
        found.append({name: value for name, value in memory.params(row).items() if name in effective})
    return found


def _find_effective(memory: SpaceMemory, canonical: CanonicalChoices, row: Choices) -> set[str]:
    """Returns the fields of a design, given in canonical form, of which another choice means another design."""
    columns = np.repeat(np.arange(len(memory.counts)), memory.counts)
    changed = np.tile(row, (len(columns), 1))
    changed[np.arange(len(columns)), columns] = np.concatenate([np.arange(count) for count in memory.counts])
    differs = (canonical(changed) != row).any(1)
    return {memory.names[column] for column in columns[differs]}


def _create_study(memory: SpaceMemory, params: Sequence[Params]) -> optuna.Study:
    """Returns a study in memory of designs by what has an effect in them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # nobody wants to know of this study
    study = optuna.create_study(direction="maximize")
    for values in params:
        distributions: dict[str, BaseDistribution] = {name: memory.space.distributions[name] for name in values}
        study.add_trial(create_trial(params=values, distributions=distributions, value=0.0))
    return study


def _rank_fields(study: optuna.Study, accuracies: Sequence[float]) -> dict[str, float]:
    """Returns the share of each field that has an effect in any of a study's trials, given their accuracies."""
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that of two values the lower is better, which the sign sees to
        return get_param_importances(study, evaluator=evaluator, target=lambda trial: -accuracies[trial.number])
