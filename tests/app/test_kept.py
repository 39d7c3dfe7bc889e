"""What is kept of a study between clicks is made anew as soon as the study has been read again."""

from __future__ import annotations

import streamlit as st
from streamlit.testing.v1 import AppTest

from app.kept import list_notable, list_points
from repnet_search import StudyView
from tests.app.conftest import RECORDS, OpenPage, RecordStudy, make_record, make_settings, metrics


def test_it_is_kept_for_one_reading_of_one_study() -> None:
    view = StudyView("first", make_settings(), RECORDS, {}, {})
    points, notable = list_points(view), list_notable(view)
    assert list_points(view) is points
    assert list_notable(view) is notable
    grown = StudyView("first", make_settings(), (*RECORDS, make_record(9, ram_kib=50, accuracy=0.99)), {}, {})
    assert len(list_points(grown)) == len(points) + 1
    assert list_notable(grown)[0].number == 9
    st.cache_resource.clear()


def test_a_page_shows_what_was_recorded_meanwhile(open_page: OpenPage, record_study: RecordStudy) -> None:
    storage = record_study(records=RECORDS[:2])
    page: AppTest = open_page(storage, page="front", study="first")
    assert metrics(page)["Validation accuracy"] != ["99.0 %"] * 2
    record_study("second", records=[make_record(0, ram_kib=50, accuracy=0.99)])
    page.query_params["study"] = "second"
    page.run()
    assert not page.exception
    assert metrics(page)["Validation accuracy"] == ["99.0 %"] * 2  # the best under the budget, and the selected one
