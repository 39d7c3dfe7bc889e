"""From a study to a bundle."""

from __future__ import annotations

from pathlib import Path

from repnet_search.errors import OverBudgetError, StudyError
from repnet_search.export.bundle import save_bundle
from repnet_search.memory import estimate_memory
from repnet_search.results.front import best_under
from repnet_search.results.record import TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.search.trained import load_trained
from repnet_search.spec.resolve import resolve
from repnet_search.training.task import Task
from repnet_search.units import format_size


def export_best(view: StudyView, task: Task, folder: Path, *, budget_bytes: int | None, force: bool) -> TrialRecord:
    """Returns the best design of a study under a budget, after writing it as a bundle.

    Args:
        view: the study.
        task: the weights and images that the study was made with.
        folder: where to.
        budget_bytes: None means the study's own budget.
        force: whether an existing folder is replaced.

    Raises:
        StudyError: the weights or the images are not the study's, or its trained parameters are missing.
        OverBudgetError: nothing fits the budget.
        RepnetSearchError: the folder exists, or cannot be written.
    """
    _check_same(view, task)
    limit = budget_bytes if budget_bytes is not None else view.settings.available_bytes
    record = best_under(view.records, budget_bytes=limit)
    if record is None:
        raise OverBudgetError(f"No trained design of study {view.name!r} fits {format_size(limit)}.")
    resolved = resolve(record.design)
    model = load_trained(record, task, study_name=view.name)
    named = view.settings.training.metric.of
    accuracies = {named("validation"): record.validation_accuracy or 0.0}
    if record.design_id in view.tested:
        accuracies[named("test")] = view.tested[record.design_id]
    memory = estimate_memory(resolved, classes=task.classes, schedule=view.settings.schedule)
    save_bundle(folder, resolved, model, task, memory, accuracies=accuracies, force=force)
    return record


def _check_same(view: StudyView, task: Task) -> None:
    settings = view.settings
    if task.weights.sha256 != settings.weights.sha256:
        raise StudyError(
            f"The study {view.name!r} was made with the weights {settings.weights.name} (sha256 "
            f"{settings.weights.sha256[:12]}…); give them with --weights."
        )
    if task.source.sha256() != settings.data.sha256:
        raise StudyError(
            f"The study {view.name!r} was made with the images {settings.data.name} (sha256 "
            f"{settings.data.sha256[:12]}…); give them with --data."
        )
