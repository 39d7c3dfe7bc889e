"""Which design next.

First the starts: the last layer alone in every recipe, the widest and the paper's design that fit, the plainest modules
behind as many stages as fit. Then the study's sampler, every fourth time for a lower stratum of memory, so that the
study answers smaller budgets too. Now and then a design that the sampler would have liked but for the limits is
proposed all the same, to be pruned: the study shows what they cut off.

With one worker every choice depends on the study's seed and the trial's number alone, so that a study that went on
after an interruption is the study that was not interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from repnet_search.results.front import count_trained, pareto_front, trained
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.search.batch import Choices
from repnet_search.search.feasible import Candidate, FeasibleSpace
from repnet_search.search.samplers import DesignSampler, History, Seed, Suggestion
from repnet_search.search.space import Params
from repnet_search.spec.study import Sampler, SearchSpec

ORIGIN_KEY = "repnet_origin"
STRATA = (0.75, 0.5, 0.6)
STRATUM_EVERY = 4
UNTRAINED_IN_A_ROW = 8
LEARNT = (Origin.SAMPLER, Origin.STRATUM)
TAUGHT = (Outcome.TRAINED, Outcome.STOPPED)
BEST_REMEMBERED = 50
LATEST_REMEMBERED = 250
"""A bound on what the sampler learns from, so that a proposal takes as long after ten thousand trials as after 300."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate with the Optuna trial that it belongs to.

    `seen` designs were looked at to find it, of which `over` were over the limits.
    """

    trial: optuna.Trial
    candidate: Candidate
    origin: Origin
    seen: int = 0
    over: int = 0


@dataclass(frozen=True, slots=True)
class _Choice:
    candidate: Candidate
    origin: Origin
    suggestion: Suggestion


def list_starts(feasible: FeasibleSpace, *, seed: int) -> list[tuple[Origin, Candidate]]:
    """Returns what every study begins with: baselines, and what is known to be good; of these what fits."""
    starts = [(Origin.LAST_LAYER, feasible.candidate(params)) for params in feasible.space.last_layer()]
    starts.append((Origin.WIDEST, feasible.widest(seed=seed)))
    paper = feasible.paper()
    if paper is not None:
        starts.append((Origin.PAPER, paper))
    starts += [(Origin.DENSEST, candidate) for candidate in feasible.densest()]
    return [(origin, candidate) for origin, candidate in starts if feasible.fits(candidate)]


def enqueue_starts(study: optuna.Study, feasible: FeasibleSpace, *, seed: int) -> None:
    """Queues the starts that a study does not hold yet."""
    queued = [trial.system_attrs.get("fixed_params") for trial in study.get_trials(deepcopy=False)]
    for origin, candidate in list_starts(feasible, seed=seed):
        if candidate.params not in queued:
            study.enqueue_trial(candidate.params, user_attrs={ORIGIN_KEY: origin.value})


class Proposer:
    """Proposes one design after another, for one worker."""

    def __init__(
        self, study: optuna.Study, feasible: FeasibleSpace, search: SearchSpec, *, seed: int, worker: int = 0
    ) -> None:
        self.study = study
        self.feasible = feasible
        self.search = search
        self.seed = seed
        self.worker = worker
        self.sampler = DesignSampler(search.sampler, feasible.fitting)
        self._remembered = Remembered()
        self._choices: dict[int, Choices] = {}
        self._known_choices: set[bytes] = set()
        self._known_ids: set[str] = set()

    def next(self, records: Sequence[TrialRecord], *, waiting: bool) -> Proposal | None:
        """Returns the next proposal, None where no design is found that the study does not have yet.

        Args:
            records: what the study holds.
            waiting: whether its queue holds fixed proposals, which come first.
        """
        trials = self.study.get_trials(deepcopy=False)
        self._learn(records, trials)
        chosen = None if waiting else self._choose(records, (self.seed, len(trials), self.worker))
        if chosen is None and not waiting:
            return None
        # Another worker may empty the queue before we ask; what the study knows already is then recorded as repeated.
        params = chosen.candidate.params if chosen is not None else self.feasible.space.last_layer()[0]
        self.study.sampler = _ChosenSampler(params)
        trial = self.study.ask(dict(self.feasible.space.distributions))
        if chosen is not None and trial.params == chosen.candidate.params:
            return Proposal(trial, chosen.candidate, chosen.origin, chosen.suggestion.seen, chosen.suggestion.over)
        # Out of the queue, perhaps put there just now by another process.
        origin = Origin(trial.user_attrs.get(ORIGIN_KEY, Origin.SAMPLER.value))
        return Proposal(trial, self.feasible.candidate(dict(trial.params)), origin)

    def _learn(self, records: Sequence[TrialRecord], trials: Sequence[FrozenTrial]) -> None:
        """Takes in what the records have that was not there at the last proposal: of ten thousand, that is one."""
        self._remembered.update(records)
        memory = self.feasible.fitting.memory
        new = [record for record in records if record.number not in self._choices]
        if new:
            rows = self.sampler.canonical(np.stack([memory.choices(trials[record.number].params) for record in new]))
            self._choices |= {record.number: row for record, row in zip(new, rows, strict=True)}
            self._known_choices |= {row.tobytes() for row in rows}
            self._known_ids |= {record.design_id for record in new}

    def _choose(self, records: Sequence[TrialRecord], seed: Seed) -> _Choice | None:
        for origin, suggestion in self._suggestions(records, seed):
            if origin is Origin.SAMPLER and len(suggestion.cut) and self._shows_cut(records):
                candidate = self._build(suggestion.cut[0])
                if candidate.resolved.id not in self._known_ids:
                    return _Choice(candidate, origin, suggestion)
            for choices in suggestion.fitting:
                if choices.tobytes() in self._known_choices:
                    continue
                candidate = self._build(choices)
                if candidate.resolved.id not in self._known_ids and self.feasible.fits(candidate):
                    return _Choice(candidate, origin, suggestion)
        return None

    def _suggestions(self, records: Sequence[TrialRecord], seed: Seed) -> Iterator[tuple[Origin, Suggestion]]:
        """Yields suggestions, each for where the one before had nothing new."""
        history, counted = self._history(records), count_trained(records)
        if self.search.sampler is Sampler.TPE and _untrained_in_a_row(records) >= UNTRAINED_IN_A_ROW:
            yield Origin.FEASIBLE, self.sampler.draw(seed=seed)
        elif self.search.sampler is Sampler.TPE and counted % STRATUM_EVERY == STRATUM_EVERY - 1:
            limit_bytes = int(STRATA[counted // STRATUM_EVERY % len(STRATA)] * self.feasible.limits.ram_bytes)
            yield Origin.STRATUM, self.sampler.suggest(history, seed=seed, limit_bytes=limit_bytes)
        yield Origin.SAMPLER, self.sampler.suggest(history, seed=seed)
        yield Origin.FEASIBLE, self.sampler.draw(seed=seed)
        if self.feasible.fitting.is_countable:
            yield Origin.FEASIBLE, self.sampler.list_all(seed=self.seed)

    def _history(self, records: Sequence[TrialRecord]) -> History:
        kept = self._remembered.list_kept(records)
        rows = [self._choices[record.number] for record in kept]
        return History(
            np.array(rows, dtype=np.int16).reshape(len(rows), len(self.feasible.fitting.memory.names)),
            np.array([_accuracy(record) for record in kept], dtype=np.float64),
            np.array([record.ram_bytes for record in kept], dtype=np.int64),
        )

    def _build(self, choices: Choices) -> Candidate:
        return self.feasible.candidate(self.feasible.fitting.memory.params(choices))

    def _shows_cut(self, records: Sequence[TrialRecord]) -> bool:
        """Returns whether the study is to have another over-budget proposal."""
        cut = sum(record.outcome is Outcome.OVER_BUDGET for record in records)
        learnt = sum(record.origin in LEARNT and record.outcome in TAUGHT for record in records)
        return cut < self.search.pruned_per_design * learnt


class Remembered:
    """What the sampler learns from, each ended trial looked at once: the front, the best and the latest."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._front: list[TrialRecord] = []
        self._best: list[TrialRecord] = []
        self._latest: list[TrialRecord] = []

    def update(self, records: Sequence[TrialRecord]) -> None:
        """Takes in what was trained, to its end or to a rung, since the last call."""
        untaken = (record for record in records if record.number not in self._taken)
        new = [record for record in untaken if record.outcome in TAUGHT]
        self._taken |= {record.number for record in new}
        self._front = pareto_front(_by_number(self._front, trained(new)))
        best = _by_number(self._best, trained(new))
        self._best = sorted(best, key=lambda record: -(record.validation_accuracy or 0.0))[:BEST_REMEMBERED]
        self._latest = _by_number(self._latest, new)[-LATEST_REMEMBERED:]

    def list_kept(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Returns what the sampler learns from, and what of the records is in work, the oldest first."""
        running = [record for record in records if record.outcome is Outcome.RUNNING]
        return _by_number(self._front, self._best, self._latest, running)


class _ChosenSampler(BaseSampler):
    """Gives Optuna what was chosen already; what comes out of its queue it never asks for."""

    def __init__(self, params: Params) -> None:
        self.params = params

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns nothing: all parameters are given one by one."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns nothing."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Returns the chosen value of a parameter."""
        return self.params[param_name]


def _accuracy(record: TrialRecord) -> float:
    """Returns an accuracy as a history has it."""
    if record.validation_accuracy is not None:
        return record.validation_accuracy
    return math.nan if record.outcome is Outcome.RUNNING else -math.inf


def _by_number(*groups: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns the trials of all groups, each once, the oldest first."""
    found = {record.number: record for group in groups for record in group}
    return [found[number] for number in sorted(found)]


def _untrained_in_a_row(records: Sequence[TrialRecord]) -> int:
    count = 0
    for record in reversed(records):
        if record.outcome in (Outcome.TRAINED, Outcome.STOPPED, Outcome.RUNNING):
            break
        count += 1
    return count
