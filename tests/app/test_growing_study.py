"""A search goes on while its study is looked at: what the reader has set stays, what is shown is new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from app.importance import start_importance
from app.navigation import find_record, name_record
from repnet_search import Outcome, StudyView, load_optuna_study, open_storage, resolve
from tests.app.conftest import (
    RECORDS,
    OpenPage,
    RecordStudy,
    add_record,
    make_record,
    make_settings,
    metrics,
    open_part,
    texts,
)


def _add(storage: str, *, number: int, ram_kib: int, accuracy: float) -> None:
    record = make_record(number, ram_kib=ram_kib, accuracy=accuracy)
    add_record(load_optuna_study("first", open_storage(storage)), record)


def test_a_better_design_does_not_take_the_edited_ones_place(open_page: OpenPage, record_study: RecordStudy) -> None:
    storage = record_study()
    page = open_page(storage, page="what-if", study="first")
    open_part(page, "resolution")
    page.number_input(key="what-if-resolution").set_value(64).run()
    _add(storage, number=6, ram_kib=90, accuracy=0.99)
    page.run()
    assert not page.exception
    assert page.number_input(key="what-if-resolution").value == 64
    assert "Undo (1)" in [button.label for button in page.button]
    page.query_params["page"] = "front"
    page.run()
    assert metrics(page)["Best validation accuracy"] == ["99.0 %"]


def test_every_design_has_an_edit_of_its_own(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(), page="what-if", study="first", design="2")
    open_part(page, "resolution")
    page.number_input(key="what-if-resolution").set_value(64).run()
    page.query_params["design"] = "3"
    page.run()
    assert page.number_input(key="what-if-resolution").value == RECORDS[3].design.resolution
    page.query_params["design"] = "2"
    page.run()
    assert page.number_input(key="what-if-resolution").value == 64


def test_the_fronts_slider_and_toggles_stay(open_page: OpenPage, record_study: RecordStudy) -> None:
    storage = record_study()
    page = open_page(storage, page="front", study="first")
    page.slider[0].set_value(150.0).run()
    page.toggle(key="over budget-first").set_value(True).run()
    _add(storage, number=6, ram_kib=40, accuracy=0.6)  # the slider begins at it
    page.run()
    assert (page.slider[0].min, page.slider[0].value) == (40.0, 150.0)
    page.query_params["page"] = "trials"
    page.run()
    page.query_params["page"] = "front"
    page.run()
    assert not page.exception
    assert page.slider[0].value == 150.0
    assert page.toggle(key="over budget-first").value is True


@pytest.mark.parametrize(("budget_bytes", "shown"), [(100_000, 98.0), (256 * 1024, 256.0), (20 * 1024**2, 20.0)])
def test_the_slider_begins_at_the_studys_own_budget(
    open_page: OpenPage, record_study: RecordStudy, budget_bytes: int, shown: float
) -> None:
    records = [make_record(0, ram_kib=60, accuracy=0.5), make_record(1, ram_kib=97, accuracy=0.9)]
    page = open_page(record_study(records=records, budget_bytes=budget_bytes), page="front", study="first")
    assert page.slider[0].value == shown
    assert any(text.startswith("What the next 32 KiB buy is not known") for text in texts(page))


def test_a_design_whose_training_was_tried_again_is_known(open_page: OpenPage, record_study: RecordStudy) -> None:
    trained = make_record(1, ram_kib=90, accuracy=0.8)
    trained = replace(trained, design_id=resolve(trained.design).id)
    cut_off = replace(trained, number=0, outcome=Outcome.INTERRUPTED, validation_accuracy=None)
    page = open_page(record_study(records=[cut_off, trained]), page="what-if", study="first", design="1")
    assert any(f"this study trained it as {trained.short_id}: 80.0 %" in text for text in texts(page))


def test_a_trial_that_its_design_does_not_lead_to_is_named_by_its_number() -> None:
    trained = make_record(1, ram_kib=90, accuracy=0.8)
    cut_off = replace(trained, number=0, outcome=Outcome.INTERRUPTED, validation_accuracy=None)
    view = StudyView("first", make_settings(), (cut_off, trained), {}, {})
    assert [name_record(view, record) for record in view.records] == ["0", trained.short_id]
    assert [find_record(view, name_record(view, record)) for record in view.records] == [cut_off, trained]


@pytest.mark.parametrize("url", ["{}/journal.log", "sqlite:///{}/studies.db"])
def test_importance_reads_what_the_trials_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    storage = url.format(tmp_path)
    study = optuna.create_study(study_name="first", storage=open_storage(storage, create=True))
    for side in (32, 64):
        study.add_trial(
            create_trial(
                value=0.5,
                params={"resolution": side},
                distributions={"resolution": CategoricalDistribution((32, 64))},
            )
        )
    monkeypatch.setattr("repnet_search.measure_importance", lambda found: [trial.params for trial in found.trials])
    view = StudyView("first", make_settings(), RECORDS, {}, {})
    assert start_importance(storage, view).result(timeout=60) == [{"resolution": 32}, {"resolution": 64}]
