"""The trained parameters of a study's designs, as safetensors in its folder; and their accuracy on the test images."""

from __future__ import annotations

from pathlib import Path

import safetensors
from safetensors.torch import load_file
from safetensors.torch import save as dump_safetensors

from repnet_search.errors import StudyError
from repnet_search.models.repnet import RepNet
from repnet_search.results.confirmation import ConfirmedRun
from repnet_search.results.record import TrialRecord
from repnet_search.results.storage import study_folder
from repnet_search.spec.files import save_bytes
from repnet_search.spec.resolve import resolve
from repnet_search.training.proxy import create_model
from repnet_search.training.task import Task


def trained_path(study_name: str, design_id: str, run: ConfirmedRun | None = None) -> Path:
    """Returns where a design's trained parameters are: of the search, or of one run of its confirmation."""
    suffix = "" if run is None else f"-e{run.epochs}-s{run.seed}"
    return study_folder(study_name) / "weights" / f"{design_id[:16]}{suffix}.safetensors"


def save_trained(study_name: str, design_id: str, model: RepNet, run: ConfirmedRun | None = None) -> None:
    """Writes the trained parameters of a design."""
    state = {name: value.cpu().contiguous() for name, value in model.trainable_state().items()}
    save_bytes(trained_path(study_name, design_id, run), dump_safetensors(state))


def load_trained(record: TrialRecord, task: Task, *, study_name: str, run: ConfirmedRun | None = None) -> RepNet:
    """Returns a trial's trained model, or that of one run of its confirmation.

    Raises:
        StudyError: its trained parameters are not in the study's folder, or are not this design's.
    """
    path = trained_path(study_name, record.design_id, run)
    model = create_model(resolve(record.design), task, seed=0)
    try:
        model.load_trainable_state(load_file(path))
    except (OSError, safetensors.SafetensorError, KeyError, RuntimeError) as error:
        raise StudyError(
            f"The trained parameters of design {record.short_id} are not readable at {path}; they lie in the folder "
            "where the study was run: go there, or train the design again with 'repnet-search train'."
        ) from error
    return model
