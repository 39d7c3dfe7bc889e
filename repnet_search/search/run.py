"""The search: proposals are estimated, those that fit and are new are trained, all are recorded.

One study has one objective, validation accuracy, under the hard budget. Memory is known before training, so an
over-budget proposal costs microseconds: Optuna is told of it as pruned, with its constraint, so that TPE learns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import optuna
from optuna.trial import TrialState

from repnet_search.errors import RepnetSearchError
from repnet_search.results.confirmation import choose_winner, read_confirmations
from repnet_search.results.front import count_since_front, count_trained
from repnet_search.results.record import ALWAYS_TRAINED, BASELINES, INTERRUPTED, Outcome, TrialRecord
from repnet_search.results.storage import study_folder
from repnet_search.results.study import RECORD_KEY, RecordReader, dump_record
from repnet_search.search.cut_off import CutOff, settle_cut_off
from repnet_search.search.feasible import Candidate, FeasibleSpace
from repnet_search.search.propose import ORIGIN_KEY, Proposal, Proposer
from repnet_search.search.rungs import find_stratum, goes_on, rung_epochs
from repnet_search.search.trained import save_trained
from repnet_search.spec.files import design_to_yaml, save_text
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.study import StudySpec
from repnet_search.training.proxy import ProxyResult, Rungs, train_design
from repnet_search.training.task import Task

MEMORY_CONSTRAINT = "ram_bytes_over_budget"
FLASH_CONSTRAINT = "flash_bytes_over_limit"
REGION_CONSTRAINT = "bytes_without_region"
FAILURES_IN_A_ROW = 5
WAIT_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """When a search stops.

    Args:
        trials: trained designs of the study in all.
        deadline: a time of `time.time()`.
        patience: trained designs in a row of which none was on the front when it was new.
    """

    trials: int
    deadline: float | None = None
    patience: int | None = None


def describe_end(records: Sequence[TrialRecord], limits: Limits) -> str | None:
    """Returns why a search that has just ended did so before it had all its trials, in a line; None where it has."""
    trained = count_trained(records)
    if trained >= limits.trials:
        return None
    ended = f"The search ended after {trained} of {limits.trials} designs"
    if limits.patience is not None and count_since_front(records) >= limits.patience:
        return f"{ended}: the last {limits.patience} brought nothing new to the front (--patience)."
    if limits.deadline is not None and time.time() >= limits.deadline:
        return f"{ended}: its time is over (--timeout)."
    return f"{ended}: no other design that fits is found in the space."


Listener = Callable[[TrialRecord], None]
"""Told of each record as it ends."""


class Search:
    """One worker on a study."""

    def __init__(
        self, study: optuna.Study, settings: StudySpec, task: Task, feasible: FeasibleSpace, *, worker: int = 0
    ) -> None:
        self.study = study
        self.settings = settings
        self.task = task
        self.reader = RecordReader(study)
        self.proposer = Proposer(study, feasible, settings.search, seed=settings.training.seed, worker=worker)

    def run(self, limits: Limits, *, listener: Listener) -> None:
        """Searches until a limit is reached or no new design is found.

        Raises:
            RepnetSearchError: several trainings in a row failed.
            KeyboardInterrupt: passed on, the running trial recorded as interrupted.
        """
        failures = 0
        while limits.deadline is None or time.time() < limits.deadline:
            records = self.reader.read()
            waiting = self._waiting_origins()
            busy = sum(record.outcome is Outcome.RUNNING and record.origin not in BASELINES for record in records)
            trained = count_trained(records)
            if limits.patience is not None and count_since_front(records) >= limits.patience:
                return
            if trained >= limits.trials and not any(origin in BASELINES for origin in waiting):
                return
            if trained + busy >= limits.trials and not any(origin in BASELINES for origin in waiting):
                time.sleep(WAIT_SECONDS)  # another worker trains the last ones, and may fail or be killed
                settle_cut_off(self.study, reason=CutOff.WORKER_KILLED)
                continue
            proposal = self.proposer.next(records, waiting=bool(waiting))
            if proposal is None:
                return
            if self._is_surplus(proposal, limits):
                self.study.tell(proposal.trial, state=TrialState.FAIL)
                continue
            record = self._evaluate(proposal)
            listener(record)
            failures = failures + 1 if record.outcome is Outcome.FAILED else 0
            if failures == FAILURES_IN_A_ROW:
                raise RepnetSearchError(
                    f"{failures} trainings in a row failed, the last with: {record.reason} What was finished is kept."
                )

    def _is_surplus(self, proposal: Proposal, limits: Limits) -> bool:
        """Returns whether other workers began enough trainings between our look at the study and this proposal."""
        if proposal.origin in BASELINES:
            return False
        records = [record for record in self.reader.read() if record.number < proposal.trial.number]
        busy = sum(record.outcome is Outcome.RUNNING and record.origin not in BASELINES for record in records)
        return count_trained(records) + busy >= limits.trials

    def _waiting_origins(self) -> list[str]:
        queued = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return [trial.user_attrs.get(ORIGIN_KEY, "") for trial in queued]

    def _evaluate(self, proposal: Proposal) -> TrialRecord:
        """Returns the record of a proposal, told to Optuna."""
        candidate, trial = proposal.candidate, proposal.trial
        record = _record(proposal)
        for name, excess in _constraints(candidate, self.settings).items():
            trial.set_constraint(name, excess)
        if not candidate.fit.fits:
            return self._tell(trial, replace(record, outcome=Outcome.OVER_BUDGET, reason=candidate.fit.problem))
        trial.set_user_attr(RECORD_KEY, dump_record(record))
        # Looked for behind our own record: of two workers that propose one design at once, one sees the other.
        known = _find_same(record, self.reader.read())
        if known is not None:
            # The sampler hears the known value again; nothing is trained twice.
            reason = f"same design as trial {known.number}"
            repeated = replace(
                record, outcome=Outcome.REPEATED, validation_accuracy=known.validation_accuracy, reason=reason
            )
            return self._tell(trial, repeated)
        return self._tell(trial, self._train(candidate, record, trial))

    def _train(self, candidate: Candidate, record: TrialRecord, trial: optuna.Trial) -> TrialRecord:
        try:
            rungs = self._create_rungs(record, trial)
            result = self.train(candidate.resolved, rungs=rungs)
        except KeyboardInterrupt:
            self._tell(trial, replace(record, outcome=Outcome.INTERRUPTED, reason=INTERRUPTED))
            raise
        except OSError:
            raise  # a full disk, say: the next training would fail as well
        except Exception as error:
            # Running out of memory here says nothing about the device: a failure with its reason, never infeasible.
            return replace(record, outcome=Outcome.FAILED, reason=_describe(error))
        if result.stopped:
            return replace(
                record,
                outcome=Outcome.STOPPED,
                reason=f"{100 * result.validation_accuracy:.1f} % after epoch {len(result.losses)}: not among the best",
                losses=result.losses,
                elapsed_seconds=result.elapsed_seconds,
            )
        return replace(
            record,
            outcome=Outcome.TRAINED,
            validation_accuracy=result.validation_accuracy,
            losses=result.losses,
            elapsed_seconds=result.elapsed_seconds,
            saturation=result.saturation,
        )

    def train(self, resolved: ResolvedDesign, *, rungs: Rungs | None) -> ProxyResult:
        """Returns how a design did, its trained parameters kept; a replay of recorded trainings stands in for this."""
        model, result = train_design(resolved, self.task, self.settings.training, rungs=rungs)
        if not result.stopped:
            save_trained(self.study.study_name, resolved.id, model)
        return result

    def _create_rungs(self, record: TrialRecord, trial: optuna.Trial) -> Rungs | None:
        """Returns where a training may be stopped; Optuna is told of each rung, and other workers see it there."""
        reduction = self.settings.search.reduction
        if reduction == 1 or record.origin in ALWAYS_TRAINED:
            return None

        def judge(epoch: int, accuracy: float) -> bool:
            trial.report(accuracy, epoch)
            return goes_on(accuracy, self._peers(record, epoch), reduction=reduction)

        return Rungs(rung_epochs(self.settings.training.epochs, reduction=reduction), judge)

    def _peers(self, record: TrialRecord, epoch: int) -> list[float]:
        """Returns the accuracies of the other designs of a record's stratum of memory that came to a rung."""
        budget_bytes = self.settings.available_bytes
        stratum = find_stratum(record.ram_bytes, budget_bytes=budget_bytes)
        others = {
            other.number
            for other in self.reader.read()
            if other.number != record.number and find_stratum(other.ram_bytes, budget_bytes=budget_bytes) == stratum
        }
        trials = self.study.get_trials(deepcopy=False)
        return [
            trial.intermediate_values[epoch]
            for trial in trials
            if trial.number in others and epoch in trial.intermediate_values
        ]

    def _tell(self, trial: optuna.Trial, record: TrialRecord) -> TrialRecord:
        trial.set_user_attr(RECORD_KEY, dump_record(record))
        if record.validation_accuracy is not None:
            # Before Optuna is told, so that a kill in between leaves a trial that the next run finishes.
            save_best(self.study, self.settings, self.reader.read())
            self.study.tell(trial, record.validation_accuracy)
        elif record.outcome in (Outcome.OVER_BUDGET, Outcome.REPEATED, Outcome.STOPPED):
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, state=TrialState.FAIL)
        return record


def save_best(study: optuna.Study, settings: StudySpec, records: list[TrialRecord]) -> None:
    """Writes the best design so far to the study's best.yaml; an earlier run may have confirmed some."""
    best = choose_winner(records, read_confirmations(study), budget_bytes=settings.available_bytes)
    if best is not None:
        save_text(study_folder(study.study_name) / "best.yaml", design_to_yaml(best.design))


def _find_same(record: TrialRecord, records: list[TrialRecord]) -> TrialRecord | None:
    """Returns the trial that has trained a design, or that began to earlier; None where there is none."""
    same = [other for other in records if other.design_id == record.design_id and other.number != record.number]
    trained = next((other for other in same if other.outcome is Outcome.TRAINED), None)
    began = (other for other in same if other.outcome is Outcome.RUNNING and other.number < record.number)
    return trained or next(began, None)


def _describe(error: Exception) -> str:
    """Returns the first line of an error, with its type where it is not one of ours."""
    if isinstance(error, MemoryError):
        return "Out of memory."
    first = next(iter(str(error).splitlines()), "")
    ours = isinstance(error, RepnetSearchError | RuntimeError) and first
    return first if ours else f"{type(error).__name__}: {first}".removesuffix(": ")


def _constraints(candidate: Candidate, settings: StudySpec) -> dict[str, int]:
    """Returns what a design has too much of what the study limits; at most 0 where it fits."""
    fit, limits = candidate.fit, settings.limits
    constraints = {MEMORY_CONSTRAINT: fit.ram_excess_bytes}
    if fit.flash_excess_bytes is not None:
        constraints[FLASH_CONSTRAINT] = fit.flash_excess_bytes
    if limits.regions:
        # What is over the RAM in all is not placed: it is at least that far from having its regions.
        constraints[REGION_CONSTRAINT] = max(0, fit.ram_excess_bytes) or fit.unplaced_bytes
    return constraints


def _record(proposal: Proposal) -> TrialRecord:
    candidate = proposal.candidate
    return TrialRecord(
        number=proposal.trial.number,
        outcome=Outcome.RUNNING,
        origin=proposal.origin,
        recorded=candidate.resolved.design,
        design_id=candidate.resolved.id,
        ram_bytes=candidate.memory.ram_bytes,
        terms=candidate.memory.terms,
        trainable_parameters=candidate.memory.trainable_parameters,
        flash_bytes=candidate.memory.flash_bytes,
        seen=proposal.seen,
        over=proposal.over,
    )
