"""A study as its readers see it: settings and trial records, whichever program looks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from repnet_search.errors import SpecError, StudyError
from repnet_search.results.confirmation import Confirmation, choose_winner, read_confirmations
from repnet_search.results.frame import create_frame
from repnet_search.results.front import count_trained
from repnet_search.results.record import INTERRUPTED, Origin, Outcome, TrialRecord
from repnet_search.results.session import Session, read_sessions
from repnet_search.results.storage import list_study_names, load_optuna_study, open_storage
from repnet_search.spec.design import Design
from repnet_search.spec.files import validate_spec
from repnet_search.spec.study import StudySpec

if TYPE_CHECKING:
    import pandas as pd

SETTINGS_KEY = "repnet_settings"
TESTED_KEY = "repnet_test_accuracy"
RECORD_KEY = "repnet_record"
CUT_OFF_KEY = "repnet_cut_off"
"""Of a trial that did not end by itself: why."""


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study read at one moment.

    `tested` holds test accuracies by design id, means over seeds where the design was confirmed; `confirmed` what
    training again from fresh seeds gave, by design id. `sessions` are the runs that made it.
    """

    name: str
    settings: StudySpec
    records: tuple[TrialRecord, ...]
    tested: Mapping[str, float]
    confirmed: Mapping[str, Confirmation] = field(default_factory=dict)
    sessions: tuple[Session, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """Returns how many trials ended so."""
        return sum(record.outcome is outcome for record in self.records)

    @property
    def trained_count(self) -> int:
        """Trained designs that `--trials` counts: the baselines are left out."""
        return count_trained(self.records)

    @property
    def confirms_longer(self) -> bool:
        """Whether the confirmation trained for longer than the search."""
        return any(item.epochs > self.settings.training.epochs for item in self.confirmed.values())

    def choose_winner(self, *, budget_bytes: int | None = None) -> TrialRecord | None:
        """Returns the best design within a budget (None: the study's own), as `confirmation.choose_winner` says."""
        limit = self.settings.available_bytes if budget_bytes is None else budget_bytes
        return choose_winner(self.records, self.confirmed, budget_bytes=limit)

    def accuracy_of(self, record: TrialRecord) -> float | None:
        """Returns a design's validation accuracy in 0..1: its confirmed mean, else what the search saw, if anything."""
        confirmation = self.confirmed.get(record.design_id)
        return confirmation.validation[0] if confirmation is not None else record.validation_accuracy

    def test_gain(self, record: TrialRecord, other: TrialRecord) -> float | None:
        """Returns how much better a design is than another on the test images, in 0..1; None where one saw none."""
        accuracy, of_other = (self.tested.get(item.design_id) for item in (record, other))
        return accuracy - of_other if accuracy is not None and of_other is not None else None

    def to_frame(self) -> pd.DataFrame:
        """Returns a row per trial: how it ended, its memory in bytes, its accuracies in 0..1, its design's fields."""
        return create_frame(self.records, confirmed=self.confirmed, tested=self.tested)


def load_study(name: str, *, storage: str | None = None) -> StudyView:
    """Returns a study by name from a storage (None: the journal in ./repnet-studies).

    Raises:
        StudyError: there is no such study, or it was not made by repnet-search.
    """
    return view_study(load_optuna_study(name, open_storage(storage, params=False)))


def list_studies(storage: BaseStorage, *, on_unreadable: Callable[[StudyError], None] | None = None) -> list[StudyView]:
    """Returns all studies of a storage that repnet-search made.

    Args:
        storage: what holds them.
        on_unreadable: told of a study that is damaged or another version's, which is then left out.

    Raises:
        StudyError: a study cannot be read, and nobody is to be told.
    """
    views = []
    for name in list_study_names(storage):
        study = optuna.load_study(study_name=name, storage=storage)
        if SETTINGS_KEY not in study.user_attrs:
            continue
        try:
            views.append(view_study(study))
        except StudyError as error:
            if on_unreadable is None:
                raise
            on_unreadable(error)
    return views


def view_study(study: optuna.Study) -> StudyView:
    """Returns what a study holds now.

    Raises:
        StudyError: repnet-search did not make it.
    """
    settings = read_settings(study)
    tested = {key: float(value) for key, value in study.user_attrs.get(TESTED_KEY, {}).items()}
    confirmed = read_confirmations(study)
    tested |= {design_id: item.test[0] for design_id, item in confirmed.items() if item.test is not None}
    records = tuple(RecordReader(study).read())
    try:
        sessions = read_sessions(study)
    except SpecError as error:
        raise StudyError(f"{error} It may come from another version; start a new study.") from error
    return StudyView(study.study_name, settings, records, tested, confirmed, sessions)


def read_settings(study: optuna.Study) -> StudySpec:
    """Returns a study's settings.

    Raises:
        StudyError: repnet-search did not make it, or another version did.
    """
    value = study.user_attrs.get(SETTINGS_KEY)
    if value is None:
        raise StudyError(f"The study {study.study_name!r} was not made by repnet-search; choose another name.")
    try:
        return validate_spec(StudySpec, value, source=f"study {study.study_name!r}")
    except SpecError as error:
        raise StudyError(f"{error} It may come from another version; start a new study.") from error


def read_record(trial: FrozenTrial) -> TrialRecord | None:
    """Returns a trial's record, None where the trial was cut off before it had one.

    Raises:
        StudyError: the record is damaged, or another version's.
    """
    value = trial.user_attrs.get(RECORD_KEY)
    if value is None:
        return None
    try:
        return _parse_record(trial, value)
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"The record of trial {trial.number} cannot be read; it may be damaged or come from another version."
        ) from error


def _parse_record(trial: FrozenTrial, value: dict[str, Any]) -> TrialRecord:
    return TrialRecord(
        number=trial.number,
        outcome=_read_outcome(trial, value),
        origin=Origin(value["origin"]),
        recorded=_check_design(value["design"]),
        design_id=value["design_id"],
        ram_bytes=value["ram_bytes"],
        terms=tuple((name, size) for name, size in value["terms"]),
        trainable_parameters=value["trainable_parameters"],
        validation_accuracy=value.get("validation_accuracy"),
        losses=tuple(value.get("losses", ())),
        elapsed_seconds=value.get("elapsed_seconds", 0.0),
        reason=value.get("reason", "") or trial.user_attrs.get(CUT_OFF_KEY, ""),
        flash_bytes=value.get("flash_bytes"),
        saturation=tuple((block, share) for block, share in value.get("saturation", ())),
        seen=value.get("seen", 0),
        over=value.get("over", 0),
    )


def _check_design(value: dict[str, Any]) -> dict[str, Any]:
    """Returns a design's JSON, which is known to be one from here on; raises as pydantic does."""
    Design.model_validate(value)
    return value


def _read_outcome(trial: FrozenTrial, value: dict[str, Any]) -> Outcome:
    """Returns how a trial ended; what was cut off is no failure, whoever wrote that down."""
    outcome = Outcome(value["outcome"])
    if trial.state is not TrialState.FAIL or outcome not in (Outcome.RUNNING, Outcome.FAILED):
        return outcome
    cut_off = CUT_OFF_KEY in trial.user_attrs or value.get("reason") == INTERRUPTED
    return Outcome.INTERRUPTED if cut_off else Outcome.FAILED


class RecordReader:
    """Reads a study's records again and again; those of ended trials are parsed once."""

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._records: dict[int, TrialRecord | None] = {}
        self._unended: list[int] = []

    def read(self) -> list[TrialRecord]:
        """Returns all records there are now, in the order of their trials."""
        trials = self.study.get_trials(deepcopy=False)
        unknown = [*self._unended, *range(len(self._records), len(trials))]
        self._records |= {number: read_record(trials[number]) for number in unknown}
        self._unended = [number for number in unknown if not trials[number].state.is_finished()]
        return [record for record in self._records.values() if record is not None]


def dump_record(record: TrialRecord) -> dict[str, Any]:
    """Returns a record as the JSON that `read_record` reads."""
    value: dict[str, Any] = {
        "outcome": record.outcome.value,
        "origin": record.origin.value,
        "design": json.loads(record.design.model_dump_json(exclude_none=True)),
        "design_id": record.design_id,
        "ram_bytes": record.ram_bytes,
        "terms": [list(term) for term in record.terms],
        "trainable_parameters": record.trainable_parameters,
        "flash_bytes": record.flash_bytes,
    }
    optional = {
        "validation_accuracy": record.validation_accuracy,
        "losses": [float(f"{loss:.5g}") for loss in record.losses],
        "elapsed_seconds": round(record.elapsed_seconds, 3),
        "reason": record.reason,
        "saturation": [[block, round(share, 5)] for block, share in record.saturation],
        "seen": record.seen or None,
        "over": record.over or None,
    }
    return value | {key: item for key, item in optional.items() if item not in (None, "", [])}
