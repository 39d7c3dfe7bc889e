"""What a search found: the winner beside the last layer alone and the widest fitting design, on the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import optuna

from repnet_search.errors import StudyError
from repnet_search.results.confirmation import Confirmation, choose_winner, dump_run, near_best
from repnet_search.results.front import best_of_origin
from repnet_search.results.record import Origin, TrialRecord
from repnet_search.results.storage import study_folder
from repnet_search.results.study import TESTED_KEY, StudyView, view_study
from repnet_search.search.trained import load_trained
from repnet_search.spec.files import design_to_yaml, save_text
from repnet_search.training.evaluate import measure_test_accuracies
from repnet_search.training.task import Task


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A study with its winner and what it is compared with.

    Test accuracies are in `view.tested`, and by seed in `view.confirmed` where the designs were confirmed. `near` are
    the confirmed designs that are as good as the winner within a point, the cheapest first.
    """

    view: StudyView
    winner: TrialRecord
    last_layer: TrialRecord | None
    widest: TrialRecord | None
    near: Sequence[TrialRecord] = ()

    @property
    def compared(self) -> list[tuple[str, TrialRecord]]:
        """The designs of the comparison with their names."""
        named = [("winner", self.winner), ("last layer alone", self.last_layer), ("widest fitting", self.widest)]
        return [(name, record) for name, record in named if record is not None]


def finish_search(study: optuna.Study, task: Task) -> SearchResult:
    """Returns the result of a study; writes its winner, and reads the test set for the compared designs.

    Raises:
        StudyError: nothing was trained.
    """
    view = view_study(study)
    limit = view.settings.available_bytes
    winner = choose_winner(view.records, view.confirmed, budget_bytes=limit)
    if winner is None:
        raise StudyError(f"The study {view.name!r} has no trained design yet; run it for longer.")
    save_text(study_folder(view.name) / "best.yaml", design_to_yaml(winner.design))
    last_layer, widest = (_best_of(view, origin) for origin in (Origin.LAST_LAYER, Origin.WIDEST))
    for record in (winner, last_layer, widest):
        if record is not None:
            _read_test_set(study, view, record, task)
    near = near_best(view.records, view.confirmed, budget_bytes=limit)
    return SearchResult(view_study(study), winner, last_layer, widest, near)


def _best_of(view: StudyView, origin: Origin) -> TrialRecord | None:
    """Returns the best design of an origin within the study's budget, one that was confirmed where there is one."""
    limit = view.settings.available_bytes
    confirmed = [record for record in view.records if record.design_id in view.confirmed]
    best = best_of_origin(confirmed, origin, budget_bytes=limit)
    return best if best is not None else best_of_origin(view.records, origin, budget_bytes=limit)


def _read_test_set(study: optuna.Study, view: StudyView, record: TrialRecord, task: Task) -> None:
    """Records the test accuracy of a design, and of each seed of its confirmation; what is known is not read again."""
    metric = view.settings.training.metric
    confirmation = view.confirmed.get(record.design_id)
    if confirmation is not None:
        if confirmation.test is None:
            models = [load_trained(record, task, study_name=view.name, run=run) for run in confirmation.runs]
            accuracies = measure_test_accuracies(models, record.design, task, metric=metric)
            _record_test(study, confirmation, accuracies)
    elif record.design_id not in view.tested:
        model = load_trained(record, task, study_name=view.name)
        (accuracy,) = measure_test_accuracies([model], record.design, task, metric=metric)
        known = study.user_attrs.get(TESTED_KEY, {})
        study.set_user_attr(TESTED_KEY, known | {record.design_id: accuracy})


def _record_test(study: optuna.Study, confirmation: Confirmation, accuracies: Sequence[float]) -> None:
    for run, accuracy in zip(confirmation.runs, accuracies, strict=True):
        study.set_user_attr(run.key, dump_run(replace(run, test_accuracy=accuracy)))
