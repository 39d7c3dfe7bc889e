"""What the trained designs of a study would reach on average: their accuracies, smoothed by what is like them.

One accuracy of a few hundred validation images is off by a point or two; the best of fifty is mostly the luckiest. A
Gaussian process over all trainings knows how much of the differences is noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna

from repnet_search.results.front import trained
from repnet_search.results.record import TrialRecord
from repnet_search.search.canonical import CanonicalChoices
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.surrogate import create_process, describe_sample

MOST_DESIGNS = 500
"""Of the best: a process costs the cube of them, and no bad design is going to be confirmed."""


def expect_accuracies(study: optuna.Study, feasible: FeasibleSpace, records: Sequence[TrialRecord]) -> dict[str, float]:
    """Returns the expected accuracy in 0..1 of each trained design, by its id; of very many, of the best ones."""
    ended = sorted(trained(records), key=lambda record: -(record.validation_accuracy or 0.0))[:MOST_DESIGNS]
    if not ended:
        return {}
    memory = feasible.fitting.memory
    trials = study.get_trials(deepcopy=False)
    rows = np.array([memory.choices(trials[record.number].params) for record in ended])
    features = describe_sample(memory.measure(CanonicalChoices(feasible.space)(rows)))
    accuracies = np.array([record.validation_accuracy for record in ended], dtype=np.float64)
    expected, _ = create_process(feasible.space, features, accuracies).predict(features)
    return {record.design_id: float(value) for record, value in zip(ended, expected, strict=True)}
