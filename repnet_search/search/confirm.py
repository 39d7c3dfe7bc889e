"""The best designs trained again, longer and from fresh seeds: a search's best is the best of many noisy numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import optuna

from repnet_search.results.confirmation import ConfirmedRun, dump_run, read_runs
from repnet_search.results.front import best_of_origin, trained
from repnet_search.results.record import BASELINES, Origin, TrialRecord
from repnet_search.results.study import RecordReader
from repnet_search.search.trained import save_trained
from repnet_search.spec.resolve import resolve
from repnet_search.spec.study import StudySpec
from repnet_search.training.proxy import train_design
from repnet_search.training.task import Task

SEED_OFFSET = 1_000_003
"""Between the search's seed and the first fresh one, so that no confirmation repeats a training of the search."""


LONGER = 2
"""A confirmation trains for so many times the search's epochs, unless it is told otherwise."""


@dataclass(frozen=True, slots=True)
class ConfirmationPlan:
    """How many designs are confirmed, from how many seeds, for how many epochs each."""

    designs: int
    seeds: int
    epochs: int


RunListener = Callable[[ConfirmedRun], None]


def choose_confirmed(records: Sequence[TrialRecord], *, limit_bytes: int, designs: int) -> list[TrialRecord]:
    """Returns what is to be confirmed: the best designs within a limit, the last layer alone and the widest design."""
    fitting = [record for record in trained(records) if record.ram_bytes <= limit_bytes]
    ranked = sorted(
        (record for record in fitting if record.origin not in BASELINES),
        key=lambda record: (-(record.validation_accuracy or 0.0), record.ram_bytes),
    )
    compared = [best_of_origin(fitting, origin, budget_bytes=limit_bytes) for origin in (*BASELINES, Origin.WIDEST)]
    chosen = {record.design_id: record for record in (*ranked[:designs], *compared) if record is not None}
    return list(chosen.values())


def plan_runs(
    study: optuna.Study, settings: StudySpec, records: Sequence[TrialRecord], plan: ConfirmationPlan
) -> list[ConfirmedRun]:
    """Returns the trainings that the study does not hold yet, their accuracies still to be found."""
    done = {run.key for run in read_runs(study)}
    chosen = choose_confirmed(records, limit_bytes=settings.available_bytes, designs=plan.designs)
    first = settings.training.seed + SEED_OFFSET
    runs = [
        ConfirmedRun(record.design_id, plan.epochs, seed, 0.0)
        for seed in range(first, first + plan.seeds)
        for record in chosen
    ]
    return [run for run in runs if run.key not in done]


class Confirmer:
    """Trains designs of a study again."""

    def __init__(self, study: optuna.Study, settings: StudySpec, task: Task) -> None:
        self.study = study
        self.settings = settings
        self.task = task
        self.records = {record.design_id: record for record in trained(RecordReader(study).read())}

    def run(self, runs: Sequence[ConfirmedRun], *, listener: RunListener) -> None:
        """Trains, saves and records each of the runs that the study does not hold yet."""
        done = {run.key for run in read_runs(self.study)}
        for planned in runs:
            if planned.key in done:
                continue
            record = self.records[planned.design_id]
            training = self.settings.training.model_copy(update={"epochs": planned.epochs, "seed": planned.seed})
            model, result = train_design(resolve(record.design), self.task, training)
            save_trained(self.study.study_name, record.design_id, model, planned)
            seconds = round(result.elapsed_seconds, 3)
            run = replace(planned, validation_accuracy=result.validation_accuracy, elapsed_seconds=seconds)
            self.study.set_user_attr(run.key, dump_run(run))
            listener(run)
