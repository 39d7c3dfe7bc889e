"""Which design next.

First the starts: the last layer alone in every recipe, the widest and the paper's design that fit, and some random
designs that fit. Then in turn Optuna's sampler, a neighbour of the best designs, and every fourth time a design for a
lower stratum of memory, so that the study answers smaller budgets too.

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

from repnet_search.results.front import count_trained
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.search.feasible import Candidate, FeasibleSpace

ORIGIN_KEY = "repnet_origin"
STARTUP_DESIGNS = 8
STRATA = (0.75, 0.5, 0.6)
STRATUM_EVERY = 4
UNTRAINED_IN_A_ROW = 8
NEIGHBOUR_TRIES = 200


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate with the Optuna trial that it belongs to."""

    trial: optuna.Trial
    candidate: Candidate
    origin: Origin


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
        if not waiting and not self._queue_fixed(records, number):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # multivariate is chosen: it measured best
            self.study.sampler = TPESampler(
                multivariate=True, constant_liar=True, n_startup_trials=1, seed=self._seed(number) % 2**32
            )
            trial = self.study.ask(dict(self.feasible.space.distributions))
        origin = Origin(trial.user_attrs.get(ORIGIN_KEY, Origin.SAMPLER.value))
        return Proposal(trial, self.feasible.candidate(dict(trial.params)), origin)

    def _queue_fixed(self, records: Sequence[TrialRecord], number: int) -> bool:
        """Queues a design of our own where one is due; returns False where one is due and none is found."""
        random = Random(f"{self.seed} {number} {self.worker}")
        seen = {record.design_id for record in records}
        counted = count_trained(records)
        turn = counted % STRATUM_EVERY
        budget = self.feasible.limits.ram_bytes
        if counted < STARTUP_DESIGNS or _untrained_in_a_row(records) >= UNTRAINED_IN_A_ROW:
            exchanges = self.feasible.space.exchanges
            turn = sum(record.origin is Origin.FEASIBLE for record in records) % len(exchanges)
            candidate = self.feasible.sample(random, limit_bytes=budget, seen=seen, fixed=exchanges[turn])
            # A way of exchanging may not fit at all; then any will do.
            candidate = candidate or self.feasible.sample(random, limit_bytes=budget, seen=seen)
            return self._queue(candidate, Origin.FEASIBLE)
        if turn == STRATUM_EVERY - 1:
            limit = int(STRATA[counted // STRATUM_EVERY % len(STRATA)] * budget)
            candidate = self._neighbour(random, seen, records, limit)
            candidate = candidate or self.feasible.sample(random, limit_bytes=limit, seen=seen)
            return self._queue(candidate, Origin.STRATUM) or True
        if turn % 2:
            return self._queue(self._neighbour(random, seen, records, budget), Origin.NEIGHBOUR) or True
        return True

    def _queue(self, candidate: Candidate | None, origin: Origin) -> bool:
        if candidate is None:
            return False
        self.study.enqueue_trial(candidate.params, user_attrs={ORIGIN_KEY: origin.value})
        return True

    def _neighbour(
        self, random: Random, seen: set[str], records: Sequence[TrialRecord], limit: int
    ) -> Candidate | None:
        """Returns a parent within a limit with one or two fields changed, still within it and new."""
        parents = _parents([record for record in records if record.ram_bytes <= limit])
        params = {trial.number: trial.params for trial in self.study.get_trials(deepcopy=False)}
        for _ in range(NEIGHBOUR_TRIES if parents else 0):
            drawn = self.feasible.space.sample(random)
            changed = random.sample(sorted(drawn), random.randint(1, 2))
            parent = params[random.choice(parents).number]
            candidate = self.feasible.candidate(parent | {name: drawn[name] for name in changed})
            within = candidate.memory.ram_bytes <= limit and self.feasible.fits(candidate)
            if within and candidate.resolved.id not in seen:
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
