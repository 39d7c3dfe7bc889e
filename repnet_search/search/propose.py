"""Which design next.

First the starts: the last layer alone in every recipe, the widest and the paper's design that fit, and some random
designs that fit. Then in turn the study's sampler, a neighbour of the best designs, and every fourth time a design for
a lower stratum of memory, so that the study answers smaller budgets too. Now and then a design that the sampler would
have liked but for the limits is proposed all the same, to be pruned: the study shows what they cut off.

With one worker every choice depends on the study's seed and the trial's number alone, so that a study that went on
after an interruption is the study that was not interrupted.
"""

from __future__ import annotations

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
STARTUP_DESIGNS = 8
STRATA = (0.75, 0.5, 0.6)
STRATUM_EVERY = 4
UNTRAINED_IN_A_ROW = 8
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


def enqueue_starts(study: optuna.Study, feasible: FeasibleSpace, *, seed: int) -> None:
    """Queues what every study begins with and it does not hold yet: baselines, widest and paper's design that fit."""
    starts = [(Origin.LAST_LAYER, feasible.candidate(params)) for params in feasible.space.last_layer()]
    starts.append((Origin.WIDEST, feasible.widest(seed=seed)))
    paper = feasible.paper()
    if paper is not None:
        starts.append((Origin.PAPER, paper))
    queued = [trial.system_attrs.get("fixed_params") for trial in study.get_trials(deepcopy=False)]
    for origin, candidate in starts:
        if feasible.fits(candidate) and candidate.params not in queued:
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
        self._choices: dict[int, Choices] = {}

    def next(self, records: Sequence[TrialRecord], *, waiting: bool) -> Proposal | None:
        """Returns the next proposal, None where no design is found that the study does not have yet.

        Args:
            records: what the study holds.
            waiting: whether its queue holds fixed proposals, which come first.
        """
        number = len(self.study.get_trials(deepcopy=False))
        chosen = None if waiting else self._choose(records, (self.seed, number, self.worker))
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

    def _choose(self, records: Sequence[TrialRecord], seed: Seed) -> _Choice | None:
        known = {row.tobytes() for row in self._choices_of(records)}
        seen = {record.design_id for record in records}
        for origin, suggestion in self._suggestions(records, seed):
            if origin is Origin.SAMPLER and len(suggestion.cut) and self._shows_cut(records):
                candidate = self._build(suggestion.cut[0])
                if candidate.resolved.id not in seen:
                    return _Choice(candidate, origin, suggestion)
            for choices in suggestion.fitting:
                if choices.tobytes() in known:
                    continue
                candidate = self._build(choices)
                if candidate.resolved.id not in seen and self.feasible.fits(candidate):
                    return _Choice(candidate, origin, suggestion)
        return None

    def _suggestions(self, records: Sequence[TrialRecord], seed: Seed) -> Iterator[tuple[Origin, Suggestion]]:
        """Yields suggestions, each for where the one before had nothing new."""
        history = self._history(records)
        if self.search.sampler in (Sampler.TPE, Sampler.GP):
            yield from self._in_turn(records, history, seed)
        yield Origin.SAMPLER, self.sampler.suggest(history, seed=seed)
        yield Origin.FEASIBLE, self.sampler.draw(seed=seed)
        if self.feasible.fitting.is_countable:
            yield Origin.FEASIBLE, self.sampler.list_all(seed=self.seed)

    def _in_turn(
        self, records: Sequence[TrialRecord], history: History, seed: Seed
    ) -> Iterator[tuple[Origin, Suggestion]]:
        """Yields what it is the turn of: a start, a lower stratum, a neighbour; nothing where it is the sampler's."""
        counted = count_trained(records)
        turn, budget_bytes = counted % STRATUM_EVERY, self.feasible.limits.ram_bytes
        if counted < STARTUP_DESIGNS or _untrained_in_a_row(records) >= UNTRAINED_IN_A_ROW:
            exchanges = self.feasible.space.exchanges
            place = sum(record.origin is Origin.FEASIBLE for record in records) % len(exchanges)
            yield Origin.FEASIBLE, self.sampler.draw(seed=seed, fixed=exchanges[place])
            yield Origin.FEASIBLE, self.sampler.draw(seed=seed)  # a way of exchanging may not fit at all
        elif turn == STRATUM_EVERY - 1:
            limit_bytes = int(STRATA[counted // STRATUM_EVERY % len(STRATA)] * budget_bytes)
            for suggestion in self._varied(records, seed, limit_bytes) if self.search.sampler is Sampler.TPE else ():
                yield Origin.STRATUM, suggestion
            yield Origin.STRATUM, self.sampler.suggest(history, seed=seed, limit_bytes=limit_bytes)
        elif turn % 2 and self.search.sampler is Sampler.TPE:
            for suggestion in self._varied(records, seed, budget_bytes):
                yield Origin.NEIGHBOUR, suggestion

    def _varied(self, records: Sequence[TrialRecord], seed: Seed, limit_bytes: int) -> Iterator[Suggestion]:
        """Yields the designs next to the best ones within a limit, where there are any."""
        parents = _parents([record for record in records if record.ram_bytes <= limit_bytes])
        if parents:
            yield self.sampler.vary(self._choices_of(parents), seed=seed, limit_bytes=limit_bytes)

    def _history(self, records: Sequence[TrialRecord]) -> History:
        kept = _remembered(records)
        accuracies = [-np.inf if record.validation_accuracy is None else record.validation_accuracy for record in kept]
        return History(
            self._choices_of(kept),
            np.array(accuracies, dtype=np.float64),
            np.array([record.ram_bytes for record in kept], dtype=np.int64),
        )

    def _choices_of(self, records: Sequence[TrialRecord]) -> Choices:
        """Returns the canonical choices of trials, a row each."""
        memory = self.feasible.fitting.memory
        new = [record.number for record in records if record.number not in self._choices]
        trials = self.study.get_trials(deepcopy=False) if new else []
        for number in new:
            self._choices[number] = self.sampler.canonical(memory.choices(trials[number].params)[None])[0]
        rows = [self._choices[record.number] for record in records]
        return np.array(rows, dtype=np.int16).reshape(len(rows), len(memory.names))

    def _build(self, choices: Choices) -> Candidate:
        return self.feasible.candidate(self.feasible.fitting.memory.params(choices))

    def _shows_cut(self, records: Sequence[TrialRecord]) -> bool:
        """Returns whether the study is to have another over-budget proposal."""
        cut = sum(record.outcome is Outcome.OVER_BUDGET for record in records)
        return cut < self.search.pruned_per_design * (count_trained(records) - STARTUP_DESIGNS + 1)


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


def _remembered(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns what the sampler learns from: the front, the best and the latest of the trained, and what is in work."""
    ended = trained(records)
    best = sorted(ended, key=lambda record: -(record.validation_accuracy or 0.0))[:BEST_REMEMBERED]
    latest = [record for record in records if record.outcome in (Outcome.TRAINED, Outcome.STOPPED)][-LATEST_REMEMBERED:]
    running = [record for record in records if record.outcome is Outcome.RUNNING]
    kept = {record.number: record for record in (*pareto_front(ended), *best, *latest, *running)}
    return [kept[number] for number in sorted(kept)]


def _untrained_in_a_row(records: Sequence[TrialRecord]) -> int:
    count = 0
    for record in reversed(records):
        if record.outcome in (Outcome.TRAINED, Outcome.STOPPED, Outcome.RUNNING):
            break
        count += 1
    return count


def _parents(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns the best design, and the best of those that only read, that only write, and that do both.

    A few trainings cannot tell yet which way of exchanging is the best here, so each keeps its chance.
    """
    trained = [record for record in records if record.outcome is Outcome.TRAINED]
    by_accuracy = sorted(trained, key=lambda record: record.validation_accuracy or 0.0)
    best = {}
    for record in by_accuracy:
        ways = {connector.exchange.writes for connector in record.design.connectors}
        if ways:
            best[frozenset(ways)] = record
    return [*by_accuracy[-1:], *best.values()]
