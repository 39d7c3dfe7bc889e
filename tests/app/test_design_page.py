"""The page of one design: what it is, what it takes, what it learned, and where it stands among the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from streamlit.testing.v1 import AppTest

from app.design_neighbours import find_better, find_cheaper
from app.design_page import PARTS
from repnet_search import Design, StudyView, design_to_yaml, estimate_memory, format_size, load_study, resolve
from repnet_search.spec.design import Connector
from tests.app.conftest import (
    CONFIRMED,
    RECORDS,
    OpenPage,
    RecordStudy,
    everything,
    figure,
    make_record,
    make_settings,
    metrics,
    texts,
    traces,
)

_STEP, _MEMORY, _LEARNED, _FIELDS, _NEIGHBOURS = PARTS


def _open(open_page: OpenPage, storage: str, number: int, *, part: str = _STEP) -> AppTest:
    page = open_page(storage, page="design", study="first", design=str(number), part=part)
    assert not page.exception
    return page


def test_the_page_says_what_is_measured_and_what_is_estimated(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = _open(open_page, record_study(confirmed=CONFIRMED), 2)
    shown = metrics(page)
    assert shown["Training memory, estimated"] == ["205.0 KiB"]
    assert any(label.startswith("Validation") and label.endswith("measured") for label in shown)
    assert any("account arena, schedule layer, micro-batch 1, recipe sign_sgd ×1" in text for text in texts(page))
    assert any("fresh seeds" in text for text in texts(page))


def test_the_drawing_and_the_timeline_are_of_this_design(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = _open(open_page, record_study(), 2)
    places = [place for (place,) in traces(page)["place"]["customdata"]]
    assert places[:6] == ["image", "block 0", "module 1", "block 1", "module 2", "block 2"]
    assert places[-1] == "head"
    memory = estimate_memory(resolve(RECORDS[2].design), classes=10)
    assert any(format_size(memory.arena_bytes) in str(item) for item in figure(page, 1)["layout"]["annotations"])


def test_a_marked_place_is_marked_in_both_pictures(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = _open(open_page, record_study(), 2)
    plain = [len(figure(page, index)["layout"].get("shapes", ())) for index in (0, 1)]
    page.selectbox(key="design-place").set_value("block 5").run()
    assert not page.exception
    marked = [len(figure(page, index)["layout"]["shapes"]) for index in (0, 1)]
    assert (marked[0] - plain[0], marked[1] - plain[1]) == (1, 4)  # forward and backward, in two rows


def test_the_file_is_shown_whole(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = _open(open_page, record_study(), 3, part=_FIELDS)
    assert page.code[0].value == design_to_yaml(RECORDS[3].design).rstrip("\n")
    assert "Download YAML" in _downloads(page)
    assert not page.get("plotly_chart")  # the other parts are not drawn meanwhile


def test_every_picture_and_the_buffers_have_their_data(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = _open(open_page, record_study(), 3)
    assert _downloads(page).count("Download CSV") == len(page.get("plotly_chart")) == 2
    page.session_state["every-buffer-" + RECORDS[3].short_id] = True
    page.run()
    assert _downloads(page).count("Download CSV") == 3
    page = _open(open_page, record_study("again"), 3, part=_MEMORY)
    assert _downloads(page).count("Download CSV") == len(page.get("plotly_chart")) == 1


def test_the_flash_and_the_regions_of_a_board_are_shown(open_page: OpenPage, record_study: RecordStudy) -> None:
    record = replace(make_record(0, ram_kib=90, accuracy=0.7), recorded=Design(activation_bits=8, connectors=()))
    page = _open(open_page, record_study(records=[record], board="nrf52840"), 0, part=_MEMORY)
    assert "RAM of nrf52840" in [heading.value for heading in page.subheader]
    figures = [figure(page, index) for index in range(len(page.get("plotly_chart")))]
    regions = next(shown for shown in figures if shown["data"][-1]["name"] == "free")
    assert regions["data"][0]["y"] == ["ram"]
    flash = next(frame.value for frame in page.dataframe if "flash (KiB)" in frame.value.columns)
    assert flash["term"].tolist()[-3:] == ["in all", "there are", "left"]


def test_a_design_over_its_budget_has_its_reason_and_its_pictures(
    open_page: OpenPage, record_study: RecordStudy
) -> None:
    page = _open(open_page, record_study(), 4)
    assert any("over budget. 44.0 KiB over the budget" in text for text in texts(page))
    assert len(page.get("plotly_chart")) == 2
    page = _open(open_page, record_study("again"), 4, part=_LEARNED)
    assert "Accuracy per class" not in everything(page)
    assert "Nothing: it was not trained to its end (over budget)." in texts(page)


def test_saturation_is_there_where_the_backbone_is_int8(open_page: OpenPage, record_study: RecordStudy) -> None:
    design = Design(activation_bits=8, connectors=(Connector(after_block=13), Connector(after_block=16)))
    record = replace(make_record(0, ram_kib=90, accuracy=0.7), recorded=design, saturation=((13, 0.02), (16, 0.0)))
    page = _open(open_page, record_study(records=[record]), 0, part=_LEARNED)
    assert "Saturation per connector" in everything(page)
    bars: dict[str, Any] = next(
        trace
        for index in range(len(page.get("plotly_chart")))
        for trace in figure(page, index)["data"]
        if trace.get("x") == ["block 13", "block 16"]
    )
    assert bars["y"] == [2.0, 0.0]


def test_weights_that_are_not_there_are_said_with_the_command(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = _open(open_page, record_study(), 2, part=_LEARNED)
    page.button(key="measure-2").click().run()
    assert not page.exception
    said = next(text for text in texts(page) if "To get it" in text)
    assert said.startswith("Only embedded images and weights can be looked at here. ")
    assert "repnet-search export --study first --to out" in said


def test_neighbours_are_cheaper_or_better_and_lead_there(open_page: OpenPage, record_study: RecordStudy) -> None:
    view = StudyView("first", make_settings(), RECORDS, {}, {})
    assert [record.number for record in find_cheaper(view, RECORDS[1])] == [2, 3, 0]
    assert [record.number for record in find_better(view, RECORDS[3])] == [2]
    assert [record.number for record in find_better(view, RECORDS[4])] == [0, 3, 2]
    confirmed = load_study("again", storage=record_study("again", confirmed=CONFIRMED))
    assert [record.number for record in find_better(confirmed, RECORDS[3])] == [2]  # both were confirmed
    assert [record.number for record in find_better(confirmed, RECORDS[1])] == [2]  # 79 % in the search, so 3 is not
    page = _open(open_page, record_study(), 3, part=_NEIGHBOURS)
    page.button(key="better-2").click().run()
    assert not page.exception
    assert any(text.startswith("Trial 2, paper preset") for text in texts(page))


def _downloads(page: AppTest) -> list[str]:
    return [button.proto.label for button in page.get("download_button")]
