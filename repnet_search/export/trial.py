"""A trained design of a study on images, as the study left it: accuracy per class and what is taken for what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from repnet_search.data import Split
from repnet_search.errors import RepnetSearchError, StudyError
from repnet_search.export.evaluate import Evaluation
from repnet_search.export.study import load_task_of
from repnet_search.results.confirmation import ConfirmedRun
from repnet_search.results.record import TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.search.trained import load_trained
from repnet_search.training.evaluate import TEST_BATCH, predict
from repnet_search.training.task import TaskOptions


@dataclass(frozen=True, slots=True)
class TrialEvaluation:
    """What a trial's trained weights make of images.

    Args:
        evaluation: the counts.
        images: which ones, such as "the validation images".
        weights: which training they are from, such as "of the search".
    """

    evaluation: Evaluation
    images: str
    weights: str


def evaluate_trial(view: StudyView, record: TrialRecord, *, test: bool = False) -> TrialEvaluation:
    """Returns how a trial's kept weights do on the study's validation or test images; only reads, trains nothing.

    It has the embedded images and weights alone: a study does not say where a user's own lie. The validation images
    are seen with the weights of the search, for a confirmation's may have been trained on them. The test images are
    only read where the study has read them for this design, or the choice of a design would follow them.

    Args:
        view: the study.
        record: its trial.
        test: whether the test images are meant.

    Raises:
        StudyError: images or weights are not embedded ones, the trained weights are not there, or the test images
            were not read for this design yet.
    """
    if test and record.design_id not in view.tested:
        raise StudyError(
            f"The test images were not read for design {record.short_id}; they are kept for the study's end, so look "
            "at the validation images."
        )
    confirmation = view.confirmed.get(record.design_id)
    run = confirmation.exported_run if test and confirmation is not None else None
    options = TaskOptions(
        proxy_images=view.settings.data.proxy_images, accelerator="cpu", data_cache_bytes=0, feature_cache_bytes=0
    )
    try:
        task = load_task_of(view, record, options)
    except RepnetSearchError as error:
        raise StudyError(f"Only embedded images and weights can be looked at here. {error}") from error
    model = load_trained(record, task, study_name=view.name, run=run)
    split = Split.TEST if test else Split.VALIDATION
    batches = task.source.batches(split, resolution=record.design.resolution, batch=TEST_BATCH)
    (predicted,), labels = predict([model], record.design, task, batches)
    pairs = Counter(zip(labels.tolist(), predicted.tolist(), strict=True))
    images = f"the {len(labels)} {split.value} images"
    return TrialEvaluation(Evaluation(tuple(task.source.classes), pairs), images, _describe_weights(run))


def _describe_weights(run: ConfirmedRun | None) -> str:
    return "of the search" if run is None else f"of the confirmation, {run.epochs} epochs, seed {run.seed}"
