"""From a study to a bundle."""

from __future__ import annotations

from repnet_search.errors import OverBudgetError, StudyError, WeightsError
from repnet_search.export.bundle import save_bundle
from repnet_search.export.card import Provenance
from repnet_search.export.place import BundlePlace
from repnet_search.memory import estimate_memory
from repnet_search.results.device import describe_shortage
from repnet_search.results.record import TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.search.trained import load_trained
from repnet_search.spec.resolve import resolve
from repnet_search.spec.target import DeviceLimits
from repnet_search.training.task import Task, TaskOptions, load_task
from repnet_search.units import format_size


def choose_record(view: StudyView, *, budget_bytes: int | None) -> TrialRecord:
    """Returns the trial with the best design of a study under a budget; None means the study's own.

    Raises:
        OverBudgetError: nothing fits the budget.
    """
    limit = budget_bytes if budget_bytes is not None else view.settings.available_bytes
    record = view.choose_winner(budget_bytes=limit)
    if record is None:
        shortage = describe_shortage(view, DeviceLimits(limit, None))
        raise OverBudgetError(f"No trained design of study {view.name!r} fits {format_size(limit)}: {shortage}.")
    return record


def load_task_of(view: StudyView, record: TrialRecord, options: TaskOptions) -> Task:
    """Returns the weights and the images that a trial of a study was trained on.

    Raises:
        StudyError: the weights or the images are not the study's.
        DataError, UsageError: the images or the accelerator cannot be used.
    """
    backbone = record.design.backbone
    wanted = view.settings.all_weights[backbone]
    with_these = f"Design {record.short_id} was trained on the weights {wanted.name} (sha256 {wanted.sha256[:12]}…)"
    try:
        task = load_task(options, backbone)
    except WeightsError as error:
        raise StudyError(f"{with_these}; give them with --weights: {error}") from error
    given = task.weights_of(backbone)
    if given.sha256 != wanted.sha256:
        raise StudyError(f"{with_these}, but these are others; give them with --weights.")
    if given.input_range.text != wanted.input_range:
        raise StudyError(
            f"Design {record.short_id} was trained on images in --input-range={wanted.input_range}, but "
            f"{given.input_range.text} is given; leave the option out."
        )
    _check_images(view, task)
    return task


def export_record(view: StudyView, record: TrialRecord, task: Task, place: BundlePlace, *, onnx: bool = False) -> None:
    """Writes a trained design of a study as a bundle.

    Args:
        view: the study.
        record: its trial.
        task: the weights and images that it was trained on.
        place: where to.
        onnx: whether model.onnx is written too.

    Raises:
        StudyError: its trained parameters are missing.
        RepnetSearchError: as `save_bundle`.
    """
    resolved = resolve(record.design)
    named = view.settings.training.metric.of
    confirmation = view.confirmed.get(record.design_id)
    run = confirmation.exported_run if confirmation is not None else None
    model = load_trained(record, task, study_name=view.name, run=run)
    validation = run.validation_accuracy if run is not None else record.validation_accuracy
    test = run.test_accuracy if run is not None else view.tested.get(record.design_id)
    measured = {named("validation"): validation, named("test"): test}
    accuracies = {name: value for name, value in measured.items() if value is not None}
    memory = estimate_memory(resolved, classes=task.classes, schedule=view.settings.schedule)
    training = view.settings.training
    if run is not None:
        training = training.model_copy(update={"epochs": run.epochs, "seed": run.seed})
    provenance = Provenance(
        study=view.name,
        training=training,
        confirmation=confirmation,
        board=view.settings.board,
        limits=view.settings.limits,
        saturation=record.saturation,
    )
    save_bundle(place, resolved, model, task, memory, accuracies=accuracies, provenance=provenance, onnx=onnx)


def _check_images(view: StudyView, task: Task) -> None:
    settings = view.settings
    if task.source.sha256() != settings.data.sha256:
        raise StudyError(
            f"The study {view.name!r} was made with the images {settings.data.name} (sha256 "
            f"{settings.data.sha256[:12]}…); give them with --data."
        )
