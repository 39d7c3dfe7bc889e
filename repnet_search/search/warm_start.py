"""What related studies found, as the first designs of a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import CategoricalDistribution

from repnet_search.results.confirmation import read_confirmations
from repnet_search.results.front import pareto_front, trained
from repnet_search.results.record import BASELINES, Origin
from repnet_search.results.study import RecordReader
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.propose import ORIGIN_KEY
from repnet_search.search.space import Choice, Params

DESIGNS = 5
"""Taken over from each study: a start is worth little more than a proposal, and the new study has its own."""


def list_winners(study: optuna.Study) -> list[Params]:
    """Returns the parameter values of a study's best designs: confirmed ones first, then its front from the top."""
    records = RecordReader(study).read()
    confirmed = read_confirmations(study)
    means = {design_id: item.validation[0] for design_id, item in confirmed.items()}
    ended = [record for record in trained(records) if record.origin not in BASELINES]
    by_mean = sorted((r for r in ended if r.design_id in means), key=lambda record: -means[record.design_id])
    front = [record for record in reversed(pareto_front(records)) if record.origin not in BASELINES]
    chosen = {record.design_id: record.number for record in reversed([*by_mean, *front])}
    trials = study.get_trials(deepcopy=False)
    return [dict(trials[number].params) for number in reversed(chosen.values())][:DESIGNS]


def translate(params: Mapping[str, Choice], distributions: Mapping[str, CategoricalDistribution]) -> Params:
    """Returns the values of another space in this one: each as it is, else the nearest, else this space's first."""
    return {name: _translate(params.get(name), item.choices) for name, item in distributions.items()}


def enqueue_winners(study: optuna.Study, feasible: FeasibleSpace, others: Sequence[optuna.Study]) -> int:
    """Queues the winners of other studies that fit here and are not there yet; returns how many these are."""
    known = [trial.system_attrs.get("fixed_params") for trial in study.get_trials(deepcopy=False)]
    count = 0
    for params in (params for other in others for params in list_winners(other)):
        candidate = feasible.candidate(translate(params, feasible.space.distributions))
        if feasible.fits(candidate) and candidate.params not in known:
            known.append(candidate.params)
            study.enqueue_trial(candidate.params, user_attrs={ORIGIN_KEY: Origin.WARM_START.value})
            count += 1
    return count


def _translate(value: Choice, choices: Sequence[Choice]) -> Choice:
    if value in choices:
        return value
    if isinstance(value, str):  # a recipe's label begins with its optimizer
        alike = [choice for choice in choices if str(choice).split()[:1] == value.split()[:1]]
        return alike[0] if alike else choices[0]
    numbers = [choice for choice in choices if isinstance(choice, int | float) and not isinstance(choice, bool)]
    if isinstance(value, int | float) and numbers:
        return min(numbers, key=lambda choice: abs(float(choice) - float(value)))
    return choices[0]
