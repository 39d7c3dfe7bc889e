"""Which design next: the last layer alone, the starts, then Optuna's sampler, strata of lower memory, random samples.

With one worker every choice depends on the study's seed and the trial's number alone, so that a study that went on
after an interruption is the study that was not interrupted. Fixed proposals go through Optuna's queue, whose entries
only one worker gets.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler

from repnet_search.results.record import BASELINES, Origin, Outcome, TrialRecord
from repnet_search.search.feasible import Candidate, FeasibleSpace

ORIGIN_KEY = "repnet_origin"
STARTUP_DESIGNS = 8
STRATA = (0.75, 0.5, 0.35)
STRATUM_EVERY = 4
UNTRAINED_IN_A_ROW = 8
SAMPLE_TRIES = 3000


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate with the Optuna trial that it belongs to."""

    trial: optuna.Trial
    candidate: Candidate
    origin: Origin


def enqueue_starts(study: optuna.Study, feasible: FeasibleSpace, *, seed: int) -> None:
    """Queues what every study begins with: the baselines, then the widest and the paper's design that fit."""
    starts = [(Origin.LAST_LAYER, feasible.candidate(params)) for params in feasible.space.last_layer()]
    starts.append((Origin.WIDEST, feasible.widest(seed=seed)))
    paper = feasible.paper()
    if paper is not None:
        starts.append((Origin.PAPER, paper))
    for origin, candidate in starts:
        if feasible.fits(candidate):
            study.enqueue_trial(candidate.params, user_attrs={ORIGIN_KEY: origin.value})


class Proposer:
    """Proposes one design after another, for one worker."""

    def __init__(self, study: optuna.Study, feasible: FeasibleSpace, *, seed: int, worker: int = 0) -> None:
        self.study = study
        self.feasible = feasible
        self.seed = seed
        self.worker = worker

    def next(self, records: Sequence[TrialRecord], *, waiting: bool) -> Proposal | None:
        """Returns the next proposal, None where no design is found that the study does not have yet.

        Args:
            records: what the study holds.
            waiting: whether its queue holds fixed proposals, which come first.
        """
        number = len(self.study.get_trials(deepcopy=False))
        if not waiting and not self._queue_random(records, number):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # multivariate is chosen: it measured best
            self.study.sampler = TPESampler(
                multivariate=True, constant_liar=True, n_startup_trials=1, seed=self._seed(number) % 2**32
            )
            trial = self.study.ask(dict(self.feasible.space.distributions))
        origin = Origin(trial.user_attrs.get(ORIGIN_KEY, Origin.SAMPLER.value))
        return Proposal(trial, self.feasible.candidate(dict(trial.params)), origin)

    def _queue_random(self, records: Sequence[TrialRecord], number: int) -> bool:
        """Queues a random design where one is due; returns False where one is due and none is found."""
        random = Random(f"{self.seed} {number} {self.worker}")
        seen = {record.design_id for record in records}
        counted = sum(record.outcome is Outcome.TRAINED and record.origin not in BASELINES for record in records)
        just_trained = bool(records) and records[-1].outcome is Outcome.TRAINED
        if counted % STRATUM_EVERY == STRATUM_EVERY - 1 and just_trained:
            share = STRATA[counted // STRATUM_EVERY % len(STRATA)]
            if self._queue(self._unseen(random, seen, int(share * self.feasible.budget_bytes)), Origin.STRATUM):
                return True
        if counted < STARTUP_DESIGNS or _untrained_in_a_row(records) >= UNTRAINED_IN_A_ROW:
            return self._queue(self._unseen(random, seen, None), Origin.FEASIBLE)
        return True

    def _queue(self, candidate: Candidate | None, origin: Origin) -> bool:
        if candidate is None:
            return False
        self.study.enqueue_trial(candidate.params, user_attrs={ORIGIN_KEY: origin.value})
        return True

    def _unseen(self, random: Random, seen: set[str], limit: int | None) -> Candidate | None:
        """Returns a random design within a limit that is not in the study yet."""
        for _ in range(20):
            candidate = self.feasible.sample(random, tries=SAMPLE_TRIES // 20, budget_bytes=limit)
            if candidate is not None and candidate.resolved.id not in seen:
                return candidate
        return None

    def _seed(self, number: int) -> int:
        return (self.seed * 1_000_003 + number) * 1_009 + self.worker


def _untrained_in_a_row(records: Sequence[TrialRecord]) -> int:
    count = 0
    for record in reversed(records):
        if record.outcome in (Outcome.TRAINED, Outcome.RUNNING):
            break
        count += 1
    return count
