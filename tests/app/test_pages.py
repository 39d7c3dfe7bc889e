"""The frame of every page: study, page, what the URL says, and what stands there when nothing can be read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from repnet_search import Outcome
from repnet_search.results.storage import open_storage
from tests.app.conftest import RECORDS, OpenPage, RecordStudy, everything, make_record, metrics, texts

HOSTILE = "<img src=x onerror=alert(1)> **b** [a](http://example.com) :red[c] $x$"
OWN_PAGES = ("studies", "front", "compare", "what-matters", "trials")


def test_one_study_opens_at_its_front(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study())
    assert not page.exception
    assert page.session_state["page"] == "front"
    assert metrics(page)["Budget"] == ["256.0 KiB"]


def test_several_studies_open_at_their_list(open_page: OpenPage, record_study: RecordStudy) -> None:
    record_study("first")
    page = open_page(record_study("second"))
    assert page.session_state["page"] == "studies"
    assert page.dataframe[0].value["study"].tolist() == ["second", "first"]


def test_a_link_with_a_study_alone_opens_its_front(open_page: OpenPage, record_study: RecordStudy) -> None:
    record_study("first")
    page = open_page(record_study("second"), study="first")
    assert (page.session_state["page"], page.session_state["study"]) == ("front", "first")


def test_the_url_follows_page_and_study(open_page: OpenPage, record_study: RecordStudy) -> None:
    record_study("first")
    page = open_page(record_study("second", records=RECORDS[:1]), study="first", page="front", design="2")
    page.button_group(key="page").set_value("trials").run()
    assert page.query_params["page"] == "trials"
    page.selectbox(key="study").select("second").run()
    assert not page.exception
    assert page.query_params["study"] == "second"
    assert "design" not in page.query_params
    assert page.dataframe[0].value["trial"].tolist() == [0]


def test_an_unknown_study_in_the_url_is_said(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study("first"), study="none")
    assert not page.exception
    assert page.selectbox(key="study").value == "first"
    assert any("no study named 'none'" in text for text in texts(page))


@pytest.mark.parametrize("page_name", ["nonsense", ""])
def test_an_unknown_page_in_the_url_is_the_usual_one(
    open_page: OpenPage, record_study: RecordStudy, page_name: str
) -> None:
    page = open_page(record_study(), page=page_name, design="nonsense", compare="a,b,c,d,e,f")
    assert not page.exception
    assert page.session_state["page"] == "front"
    assert any("no page named 'nonsense'" in text for text in texts(page)) == (page_name == "nonsense")


def test_an_unknown_design_in_the_url_is_said(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(), page="design", study="first", design="ffffffff")
    assert not page.exception
    assert "This study has no design 'ffffffff'; this is its best one." in texts(page)


@pytest.mark.parametrize("page_name", OWN_PAGES)
def test_markup_in_a_name_is_text(open_page: OpenPage, record_study: RecordStudy, page_name: str) -> None:
    failed = make_record(6, ram_kib=100, outcome=Outcome.FAILED, reason=HOSTILE)
    page = open_page(record_study(HOSTILE, data=HOSTILE, records=(*RECORDS, failed)), page=page_name)
    assert not page.exception
    assert page.selectbox(key="study").options == [HOSTILE]
    assert any(HOSTILE in text for text in texts(page))
    formatted = [*page.markdown, *page.caption, *page.subheader, *page.header]
    assert not any("img" in element.value for element in formatted)
    assert not any(element.proto.allow_html for element in formatted if hasattr(element.proto, "allow_html"))


@pytest.mark.parametrize("page_name", OWN_PAGES)
def test_a_study_without_a_trained_design_opens(open_page: OpenPage, record_study: RecordStudy, page_name: str) -> None:
    record_study("failed", records=RECORDS[4:])
    storage = record_study("empty", records=())
    assert not open_page(storage, page=page_name, study="failed").exception
    page = open_page(storage, page=page_name, study="empty")
    assert not page.exception
    if page_name != "studies":
        assert any("No trial has ended yet" in text for text in texts(page))


@pytest.mark.parametrize("page_name", OWN_PAGES)
def test_looking_writes_nothing(open_page: OpenPage, record_study: RecordStudy, tmp_path: Path, page_name: str) -> None:
    storage = record_study()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    open_page(storage, page=page_name)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_missing_storage_is_said_and_not_made(
    open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = open_page(None)
    assert not page.exception
    assert "There is no study storage at" in texts(page)[0]
    assert not list(tmp_path.iterdir())


def test_an_empty_storage_is_said(open_page: OpenPage, storage: str) -> None:
    open_storage(storage, create=True)
    assert "holds no study of repnet-search" in texts(open_page(storage))[0]


def test_a_storage_of_another_program_is_said(open_page: OpenPage, storage: str) -> None:
    optuna.create_study(study_name="other", storage=open_storage(storage, create=True))
    page = open_page(storage)
    assert not page.exception
    assert "holds no study of repnet-search" in texts(page)[0]


def test_a_database_of_another_program_is_said(open_page: OpenPage, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    page = open_page(f"sqlite:///{tmp_path / 'other.db'}")
    assert not page.exception
    assert "is not a storage of studies" in texts(page)[0]


@pytest.mark.parametrize("content", ["not a journal\n", '{"op_code": 0, "broken\n{"op_code": 1}\n'])
def test_a_broken_storage_is_said(open_page: OpenPage, storage: str, content: str) -> None:
    Path(storage).write_text(content)
    page = open_page(storage)
    assert not page.exception
    assert [heading.value for heading in page.header] == ["No study to show"]
    assert len(texts(page)) == 1


def test_a_record_that_cannot_be_read_is_said(open_page: OpenPage, record_study: RecordStudy) -> None:
    storage = record_study()
    text = Path(storage).read_text()
    Path(storage).write_text(text.replace('"outcome":"over budget"', '"outcome":"unheard of"'))
    page = open_page(storage)
    assert not page.exception
    assert "cannot be read" in texts(page)[0]


def test_a_study_that_cannot_be_read_leaves_the_others(open_page: OpenPage, record_study: RecordStudy) -> None:
    storage = record_study("broken")
    text = Path(storage).read_text()
    Path(storage).write_text(text.replace('"outcome":"over budget"', '"outcome":"unheard of"'))
    page = open_page(record_study("whole", records=RECORDS[:3]), page="studies")
    assert page.dataframe[0].value["study"].tolist() == ["whole"]
    assert any(text.startswith("Left out:") for text in everything(page))
