"""The trained parameters of a study's designs, as safetensors in its folder; and their accuracy on the test images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import optuna
import safetensors
from safetensors.torch import load_file
from safetensors.torch import save as dump_safetensors

from repnet_search.errors import StudyError
from repnet_search.models.repnet import RepNet
from repnet_search.results.record import TrialRecord
from repnet_search.results.storage import study_folder
from repnet_search.results.study import TESTED_KEY, read_settings
from repnet_search.spec.files import save_bytes
from repnet_search.spec.resolve import resolve
from repnet_search.training.proxy import create_model, measure_test_accuracy
from repnet_search.training.task import Task


def trained_path(study_name: str, design_id: str) -> Path:
    """Returns where a design's trained parameters are."""
    return study_folder(study_name) / "weights" / f"{design_id[:16]}.safetensors"


def save_trained(study_name: str, design_id: str, model: RepNet) -> None:
    """Writes the trained parameters of a design."""
    state = {name: value.cpu().contiguous() for name, value in model.trainable_state().items()}
    save_bytes(trained_path(study_name, design_id), dump_safetensors(state))


def load_trained(record: TrialRecord, task: Task, *, study_name: str) -> RepNet:
    """Returns a trial's trained model.

    Raises:
        StudyError: its trained parameters are not in the study's folder, or are not this design's.
    """
    path = trained_path(study_name, record.design_id)
    model = create_model(resolve(record.design), task, seed=0)
    try:
        model.load_trainable_state(load_file(path))
    except (OSError, safetensors.SafetensorError, KeyError, RuntimeError) as error:
        raise StudyError(
            f"The trained parameters of design {record.short_id} are not readable at {path}; they lie in the folder "
            "where the study was run: go there, or train the design again with 'repnet-search train'."
        ) from error
    return model


def measure_test_accuracies(study: optuna.Study, records: Iterable[TrialRecord], task: Task) -> dict[str, float]:
    """Returns the study's metric on the test images by design id; what the study has already is not measured again."""
    tested: dict[str, float] = dict(study.user_attrs.get(TESTED_KEY, {}))
    metric = read_settings(study).training.metric
    for record in records:
        if record.design_id not in tested:
            model = load_trained(record, task, study_name=study.study_name)
            tested[record.design_id] = measure_test_accuracy(model, record.design, task, metric=metric)
            study.set_user_attr(TESTED_KEY, tested)
    return tested
