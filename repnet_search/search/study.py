"""Making a study, or going on with one that has the same settings."""

from __future__ import annotations

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from repnet_search.errors import StudyError
from repnet_search.results.storage import list_study_names, study_folder
from repnet_search.results.study import SETTINGS_KEY, read_settings
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.propose import enqueue_starts
from repnet_search.spec.study import StudySpec


def open_study(name: str, storage: BaseStorage, settings: StudySpec, feasible: FeasibleSpace) -> optuna.Study:
    """Returns a study that is new, its starts queued, or has these very settings.

    Trials that an earlier run was cut off in are recorded as failed.

    Raises:
        StudyError: a study of this name has other settings, or the storage or the folder cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = study_folder(name)
    try:
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        exists = name in list_study_names(storage)
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        if exists:
            _refuse_to_mix(study, settings)
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                study.tell(trial.number, state=TrialState.FAIL)
        else:
            study.set_user_attr(SETTINGS_KEY, settings.model_dump(mode="json"))
            enqueue_starts(study, feasible, seed=settings.training.seed)
    except OSError as error:
        raise StudyError(
            f"Studies are written to {folder.parent}, which is not possible here ({error.strerror}); change to a "
            "folder that you can write."
        ) from error
    return study


def _refuse_to_mix(study: optuna.Study, settings: StudySpec) -> None:
    different = read_settings(study).differences(settings)
    if different:
        names = " and another ".join(name.removesuffix("_bytes") for name in different)
        raise StudyError(
            f"The study {study.study_name!r} exists with another {names}; choose another name with --study, or leave "
            "the name out to get one of its own."
        )
