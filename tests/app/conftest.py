"""A small study, written as a search writes it, and the browser over it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import optuna
import pytest
import streamlit as st
from optuna.trial import TrialState, create_trial
from streamlit.testing.v1 import AppTest

from repnet_search import Design, Origin, Outcome, TrialRecord
from repnet_search.results.confirmation import ConfirmedRun, dump_run
from repnet_search.results.storage import open_storage
from repnet_search.results.study import RECORD_KEY, SETTINGS_KEY, dump_record
from repnet_search.spec.design import BackboneSpec, Connector, Norm
from repnet_search.spec.space import ModuleChoices, SpaceSpec
from repnet_search.spec.study import DataSpec, StudySpec, WeightsSpec
from repnet_search.spec.target import Schedule
from repnet_search.spec.training import Metric, TrainingSpec
from tests.app.web import SCREENSHOTS, app_url, chromium, tiny_study, web

__all__ = ["app_url", "chromium", "tiny_study", "web"]  # fixtures, which pytest finds here

BROWSER = Path(__file__).parents[2] / "app" / "browser.py"
KIB = 1024

OpenPage = Callable[..., AppTest]
RecordStudy = Callable[..., str]


def make_record(
    number: int,
    *,
    ram_kib: int,
    accuracy: float | None = None,
    origin: Origin = Origin.SAMPLER,
    outcome: Outcome = Outcome.TRAINED,
    reason: str = "",
) -> TrialRecord:
    """Returns a record whose design has `number` connectors."""
    design = Design(connectors=tuple(Connector(after_block=block) for block in range(number)))
    return TrialRecord(
        number=number,
        outcome=outcome,
        origin=origin,
        recorded=design,
        design_id=f"{number:08x}" + "0" * 56,
        ram_bytes=ram_kib * KIB,
        terms=(("arena", ram_kib * KIB - 1000), ("parameters", 1000)),
        trainable_parameters=1130,
        validation_accuracy=accuracy,
        losses=(1.5, 0.5) if outcome is Outcome.TRAINED else (),
        elapsed_seconds=1.25,
        reason=reason,
    )


def make_runs(record: TrialRecord, accuracies: Iterable[float]) -> list[ConfirmedRun]:
    """Returns a run of a design's confirmation per accuracy, of 4 epochs."""
    return [
        ConfirmedRun(design_id=record.design_id, epochs=4, seed=seed, validation_accuracy=accuracy, test_accuracy=0.8)
        for seed, accuracy in enumerate(accuracies)
    ]


RECORDS = (
    make_record(0, ram_kib=64, accuracy=0.68, origin=Origin.LAST_LAYER),
    make_record(1, ram_kib=250, accuracy=0.81, origin=Origin.WIDEST),
    make_record(2, ram_kib=205, accuracy=0.875, origin=Origin.PAPER),
    make_record(3, ram_kib=140, accuracy=0.79),
    make_record(4, ram_kib=300, outcome=Outcome.OVER_BUDGET, reason="44.0 KiB over the budget"),
    make_record(5, ram_kib=100, outcome=Outcome.FAILED, reason="The loss became nan in epoch 1."),
)


CONFIRMED = (
    *make_runs(RECORDS[0], (0.70, 0.70, 0.70)),
    *make_runs(RECORDS[2], (0.89, 0.90, 0.91)),
    *make_runs(RECORDS[3], (0.893, 0.895, 0.897)),
)
"""Of the confirmed designs, the one of 140 KiB is within a point of the one of 205 KiB."""


def make_settings(*, data: str = "digits", board: str | None = None, budget_bytes: int = 256 * KIB) -> StudySpec:
    """Returns the settings of a study under a budget, or on a board with its flash and another schedule and metric."""
    return StudySpec(
        budget_bytes=budget_bytes,
        flash_bytes=1024 * KIB if board is not None else None,
        board=board,
        schedule=Schedule.LAYER if board is None else Schedule.STREAMED,
        backbone=BackboneSpec(),
        weights=WeightsSpec(name="letters", sha256="0" * 64, input_range="-1,1"),
        data=DataSpec(name=data, sha256="0" * 64, classes=10),
        space=SpaceSpec(module=ModuleChoices(norm=(Norm.GROUP,))),
        training=TrainingSpec(epochs=2, metric=Metric.ACCURACY if board is None else Metric.BALANCED_ACCURACY),
    )


def add_record(study: optuna.Study, record: TrialRecord) -> None:
    """Writes a trial into a study."""
    attributes = {RECORD_KEY: dump_record(record)}
    if record.outcome is Outcome.RUNNING:
        study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=attributes))
    elif record.validation_accuracy is None:
        study.add_trial(create_trial(state=TrialState.FAIL, user_attrs=attributes))
    else:
        study.add_trial(create_trial(value=record.validation_accuracy, user_attrs=attributes))


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return str(tmp_path / "journal.log")


@pytest.fixture
def record_study(storage: str) -> RecordStudy:
    """Returns a function that writes a study into `storage` and returns the storage."""

    def record(
        name: str = "first",
        *,
        records: Iterable[TrialRecord] = RECORDS,
        confirmed: Iterable[ConfirmedRun] = (),
        data: str = "digits",
        board: str | None = None,
        budget_bytes: int = 256 * KIB,
    ) -> str:
        backend = open_storage(storage, create=True)
        study = optuna.create_study(study_name=name, storage=backend, direction="maximize")
        settings = make_settings(data=data, board=board, budget_bytes=budget_bytes)
        study.set_user_attr(SETTINGS_KEY, settings.model_dump(mode="json"))
        for item in records:
            add_record(study, item)
        for run in confirmed:
            study.set_user_attr(run.key, dump_run(run))
        return storage

    return record


@pytest.fixture
def open_page(monkeypatch: pytest.MonkeyPatch) -> OpenPage:
    """Returns a function that opens a page over a storage, as `repnet-search dashboard` and a link to it do."""
    st.cache_resource.clear()

    def open_it(storage: str | None, **place: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", [str(BROWSER), "8501", *([storage] if storage is not None else [])])
        page = AppTest.from_file(BROWSER, default_timeout=30)
        for name, value in place.items():
            page.query_params[name] = value
        return page.run()

    return open_it


def open_part(page: AppTest, field: str) -> None:
    """Opens the part of the editor of What if that has a field, and the module of a connector if it is in there."""
    part = {"connectors": "Connectors", "module": "Modules", "recipe": "Recipe"}.get(field.split("-")[0])
    page.session_state["what-if-part-kept"] = part or "Backbone and input"
    own = re.match(r"connectors-\d+", field)
    if own is not None:
        page.session_state[f"what-if-{own[0]}-module"] = True
    page.run()


def texts(page: AppTest) -> list[str]:
    return [text.value for text in page.text]


def everything(page: AppTest) -> list[str]:
    """Returns all texts of a page, Markdown too."""
    return [element.value for element in (*page.text, *page.caption, *page.markdown, *page.subheader, *page.header)]


def figure(page: AppTest, index: int = 0) -> dict[str, Any]:
    """Returns one of the page's plots as it is sent to the web browser."""
    spec: dict[str, Any] = json.loads(page.get("plotly_chart")[index].proto.spec)
    return spec


def traces(page: AppTest, index: int = 0) -> dict[str, dict[str, Any]]:
    """Returns the parts of one of the page's plots by their name."""
    return {trace["name"]: trace for trace in figure(page, index)["data"]}


def metrics(page: AppTest) -> dict[str, list[str]]:
    """Returns the page's numbers by their heading, in their order."""
    found: dict[str, list[str]] = {}
    for metric in page.metric:
        found.setdefault(metric.label, []).append(metric.value)
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says where the pictures of the browser are."""
    pictures = sorted(SCREENSHOTS.glob("*.png"))
    if pictures:
        terminalreporter.write_line(f"{len(pictures)} screenshots of the study browser are in {SCREENSHOTS}")
