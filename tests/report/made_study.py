"""A small study that nothing was trained for: what a report is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial

from repnet_search.results.confirmation import Confirmation, ConfirmedRun, dump_run
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.results.session import Session
from repnet_search.results.storage import open_storage
from repnet_search.results.study import RECORD_KEY, SETTINGS_KEY, StudyView, dump_record
from repnet_search.spec.design import BackboneSpec, Connector, Design, Norm
from repnet_search.spec.space import ModuleChoices, SpaceSpec
from repnet_search.spec.study import DataSpec, StudySpec, WeightsSpec
from repnet_search.spec.target import Schedule
from repnet_search.spec.training import Metric, TrainingSpec

KIB = 1024
OWN_SPACE = SpaceSpec(module=ModuleChoices(norm=(Norm.GROUP,)), resolution=(48, 64))


def make_record(
    number: int,
    *,
    ram_kib: int,
    accuracy: float | None = None,
    origin: Origin = Origin.SAMPLER,
    outcome: Outcome = Outcome.TRAINED,
    blocks: tuple[int, ...] = (),
    reason: str = "",
) -> TrialRecord:
    return TrialRecord(
        number=number,
        outcome=outcome,
        origin=origin,
        recorded=Design(connectors=tuple(Connector(after_block=block) for block in blocks)),
        design_id=f"{number:08x}" + "0" * 56,
        ram_bytes=ram_kib * KIB,
        terms=(("arena", ram_kib * KIB - 1000), ("parameters", 1000)),
        trainable_parameters=1130,
        validation_accuracy=accuracy,
        reason=reason,
    )


LAST_LAYER = make_record(0, ram_kib=64, accuracy=0.68, origin=Origin.LAST_LAYER)
WIDEST = make_record(1, ram_kib=250, accuracy=0.81, origin=Origin.WIDEST, blocks=(3, 6))
BEST = make_record(2, ram_kib=205, accuracy=0.875, blocks=(13, 16))
CHEAPER = make_record(3, ram_kib=140, accuracy=0.79, blocks=(16,))
FAILED = make_record(4, ram_kib=100, outcome=Outcome.FAILED, reason="The <b>loss</b> became nan.")
RUNNING = make_record(5, ram_kib=120, outcome=Outcome.RUNNING)
RECORDS = (LAST_LAYER, WIDEST, BEST, CHEAPER, FAILED)


def make_settings(*, data: str = "my images", board: str | None = None, space: SpaceSpec | None = None) -> StudySpec:
    return StudySpec(
        budget_bytes=256 * KIB,
        reserve_bytes=0 if board is None else 8 * KIB,
        flash_bytes=None if board is None else 1000 * KIB,
        board=board,
        schedule=Schedule.LAYER if board is None else Schedule.STREAMED,
        backbone=BackboneSpec(),
        weights=WeightsSpec(name="w.safetensors", sha256="a" * 64, input_range="-1,1"),
        data=DataSpec(name=data, sha256="b" * 64, classes=10, proxy_images=200),
        space=space or OWN_SPACE,
        training=TrainingSpec(epochs=2, seed=7, metric=Metric.ACCURACY if board is None else Metric.BALANCED_ACCURACY),
    )


def make_view(
    *,
    name: str = "first",
    records: Iterable[TrialRecord] = RECORDS,
    confirmed: Mapping[TrialRecord, Iterable[float]] | None = None,
    tested: bool = False,
    settings: StudySpec | None = None,
    sessions: Iterable[Session] = (),
) -> StudyView:
    """Returns a study; `confirmed` has the accuracy of each seed, by design."""
    confirmations = {
        record.design_id: Confirmation(
            tuple(
                ConfirmedRun(record.design_id, 4, seed, accuracy, accuracy - 0.01 if tested else None)
                for seed, accuracy in enumerate(accuracies, start=1_000_010)
            )
        )
        for record, accuracies in (confirmed or {}).items()
    }
    tests = {design_id: item.test[0] for design_id, item in confirmations.items() if item.test is not None}
    return StudyView(name, settings or make_settings(), tuple(records), tests, confirmations, tuple(sessions))


def save_view(view: StudyView, path: Path) -> str:
    """Writes a study as a search does; returns its storage."""
    study = optuna.create_study(study_name=view.name, storage=open_storage(str(path), create=True))
    study.set_user_attr(SETTINGS_KEY, view.settings.model_dump(mode="json"))
    for record in view.records:
        attributes: dict[str, Any] = {RECORD_KEY: dump_record(record)}
        states = {Outcome.TRAINED: TrialState.COMPLETE, Outcome.RUNNING: TrialState.RUNNING}
        state = states.get(record.outcome, TrialState.FAIL)
        study.add_trial(create_trial(state=state, value=record.validation_accuracy, user_attrs=attributes))
    for confirmation in view.confirmed.values():
        for run in confirmation.runs:
            study.set_user_attr(run.key, dump_run(run))
    return str(path)
