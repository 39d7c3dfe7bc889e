"""The best designs trained again, longer and from fresh seeds: a search's best is the best of many noisy numbers.

Much of that noise is the choice of validation images, the same for all seeds. So each seed validates on others, where
they are few and were held out from the training images (data/folds.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import optuna

from repnet_search.data.folds import DividedSource, divides_anew
from repnet_search.results.confirmation import ConfirmedRun, dump_run, read_runs
from repnet_search.results.front import best_of_origin, best_under, trained
from repnet_search.results.record import BASELINES, Origin, TrialRecord
from repnet_search.results.study import RecordReader
from repnet_search.search.expectation import expect_accuracies
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.trained import save_trained
from repnet_search.spec.resolve import ResolvedDesign, resolve
from repnet_search.spec.study import StudySpec
from repnet_search.training.calibrate import get_calibration
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


def choose_confirmed(
    records: Sequence[TrialRecord], expected: Mapping[str, float], *, limit_bytes: int, designs: int
) -> list[TrialRecord]:
    """Returns what is to be confirmed: the best designs within a limit, the last layer alone and the widest design.

    The best are those of the highest expected accuracy (by design id), and the one that the search itself has as best.
    """
    fitting = [record for record in trained(records) if record.ram_bytes <= limit_bytes]
    ranked = sorted(
        (record for record in fitting if record.origin not in BASELINES),
        key=lambda record: (-expected.get(record.design_id, 0.0), record.ram_bytes),
    )
    top = best_under(fitting, budget_bytes=limit_bytes)
    compared = [best_of_origin(fitting, origin, budget_bytes=limit_bytes) for origin in (*BASELINES, Origin.WIDEST)]
    chosen = {record.design_id: record for record in (*ranked[:designs], top, *compared) if record is not None}
    return list(chosen.values())


def plan_runs(
    study: optuna.Study, feasible: FeasibleSpace, settings: StudySpec, plan: ConfirmationPlan
) -> list[ConfirmedRun]:
    """Returns the trainings that the study does not hold yet, their accuracies still to be found."""
    records = RecordReader(study).read()
    expected = expect_accuracies(study, feasible, records)
    done = {run.key for run in read_runs(study)}
    chosen = choose_confirmed(records, expected, limit_bytes=settings.available_bytes, designs=plan.designs)
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
        self._divided: dict[int, DividedSource] = {}
        self.records = {record.design_id: record for record in trained(RecordReader(study).read())}

    def run(self, runs: Sequence[ConfirmedRun], *, listener: RunListener) -> None:
        """Trains, saves and records each of the runs that the study does not hold yet."""
        done = {run.key for run in read_runs(self.study)}
        for planned in runs:
            if planned.key in done:
                continue
            record = self.records[planned.design_id]
            resolved = resolve(record.design)
            training = self.settings.training.model_copy(update={"epochs": planned.epochs, "seed": planned.seed})
            model, result = train_design(resolved, self._divide(resolved, planned), training)
            save_trained(self.study.study_name, record.design_id, model, planned)
            seconds = round(result.elapsed_seconds, 3)
            run = replace(planned, validation_accuracy=result.validation_accuracy, elapsed_seconds=seconds)
            self.study.set_user_attr(run.key, dump_run(run))
            listener(run)

    def _divide(self, resolved: ResolvedDesign, run: ConfirmedRun) -> Task:
        """Returns the task with a run's own validation images; an int8 backbone keeps the ranges of the search."""
        if not divides_anew(self.task.source):
            return self.task
        get_calibration(resolved, self.task)
        division = run.seed - self.settings.training.seed - SEED_OFFSET
        if division not in self._divided:
            self._divided[division] = DividedSource(self.task.source, division=division)
        return replace(self.task, source=self._divided[division])
