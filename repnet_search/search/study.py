"""Making a study, or going on with one that has the same settings."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from pydantic import BaseModel

from repnet_search.errors import StudyError
from repnet_search.results.storage import list_study_names, study_folder
from repnet_search.results.study import SETTINGS_KEY, read_settings
from repnet_search.search.cut_off import CutOff, MarkedStudy, settle_cut_off
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.lock import hold_study
from repnet_search.search.propose import enqueue_starts
from repnet_search.spec.files import save_text
from repnet_search.spec.study import StudySpec
from repnet_search.units import format_size

_LONGEST_DIFFERENCE = 200
_DIGEST, _WHOLE_DIGEST = 12, 64
"""Digits of a sha256: those that are shown, of all."""

STARTED_KEY = "repnet_starts_queued"
OWNER_FILE = "study.json"
"""In a study's folder: the digest of the settings that its weights and best.yaml were made with."""


@contextmanager
def open_study(name: str, storage: BaseStorage, settings: StudySpec, feasible: FeasibleSpace) -> Iterator[optuna.Study]:
    """Yields a study that is new or has these very settings, its starts queued; others see that it is being run.

    Trials that an earlier run was cut off in are recorded as interrupted and their designs queued again, unless another
    run is alive on the study; so are those of this run where an error or an interrupt ends it.

    Raises:
        StudyError: a study of this name has other settings, here or in another storage with the same folder, or the
            storage or the folder cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = study_folder(name)
    try:
        if name not in list_study_names(storage):
            _refuse_foreign_folder(folder, name, settings)
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        study = MarkedStudy(name, storage)
        if SETTINGS_KEY in study.user_attrs or study.get_trials(deepcopy=False):
            _refuse_to_mix(study, settings)
        else:
            study.set_user_attr(SETTINGS_KEY, settings.model_dump(mode="json"))
        _refuse_foreign_folder(folder, name, settings)
        save_text(folder / OWNER_FILE, json.dumps({"settings": settings.digest}) + "\n")
        with hold_study(folder) as alone:
            settle_cut_off(study, reason=CutOff.RUN_KILLED, alone=alone)
            if not study.user_attrs.get(STARTED_KEY):
                # Marked only when all are queued: a run that was killed in between is made whole by the next.
                enqueue_starts(study, feasible, seed=settings.training.seed)
                study.set_user_attr(STARTED_KEY, True)
            try:
                yield study
            except (Exception, KeyboardInterrupt) as error:
                _settle_own(name, storage, interrupted=isinstance(error, KeyboardInterrupt))
                raise
    except OSError as error:
        raise StudyError(
            f"Studies are written to {folder.parent}, which is not possible here ({error.strerror}); change to a "
            "folder that you can write, or make room."
        ) from error


def _refuse_foreign_folder(folder: Path, name: str, settings: StudySpec) -> None:
    """Refuses a folder whose weights and best.yaml are those of other settings: they would be overwritten."""
    try:
        owner = json.loads((folder / OWNER_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except ValueError:
        owner = None
    if owner != {"settings": settings.digest}:
        raise StudyError(
            f"The folder {folder} holds the trained designs of a study of this name with other settings, which another "
            "storage keeps; choose another name with --study."
        )


def _settle_own(name: str, storage: BaseStorage, *, interrupted: bool) -> None:
    """Ends the trials of this run, whose workers have ended.

    The storage is read again from its beginning: what it holds in memory is wrong where the interrupt hit its reading.
    """
    reason = CutOff.INTERRUPTED if interrupted else CutOff.RUN_KILLED
    settle_cut_off(MarkedStudy(name, copy.copy(storage)), reason=reason, ending=True)


def _refuse_to_mix(study: optuna.Study, settings: StudySpec) -> None:
    known = read_settings(study)
    different = [_describe_difference(name, known, settings) for name in known.differences(settings)]
    if different:
        raise StudyError(
            f"The study {study.study_name!r} exists with {' and '.join(different)}; choose another name with --study, "
            "or leave the name out to get one of its own."
        )


def _describe_difference(name: str, known: StudySpec, asked: StudySpec) -> str:
    """Returns a setting that differs, with both values; of one with fields, those of them."""
    one, other = getattr(known, name), getattr(asked, name)
    if isinstance(one, BaseModel) and type(one) is type(other):
        fields = ((field, getattr(one, field), getattr(other, field)) for field in type(one).model_fields)
        shown = ", ".join(f"{field} {_compare(field, old, new)}" for field, old, new in fields if old != new)
    else:
        shown = _compare(name, one, other)
    return f"another {name.removesuffix('_bytes')}{f' ({shown})' if 0 < len(shown) < _LONGEST_DIFFERENCE else ''}"


def _compare(name: str, one: object, other: object) -> str:
    return f"{_show(name, one)} in place of {_show(name, other)}"


def _show(name: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return " or ".join(map(str, value))
    if name.endswith("_bytes") and isinstance(value, int):
        return format_size(value)
    return f"{value[:_DIGEST]}…" if isinstance(value, str) and len(value) == _WHOLE_DIGEST else str(value)
