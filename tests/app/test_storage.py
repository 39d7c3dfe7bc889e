"""Reading while a search writes: what is new is seen, and nobody is held up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import streamlit as st

from app.storage import QUIET_SECONDS, find_stamp, read_studies
from repnet_search import Outcome
from repnet_search.results.storage import open_storage
from tests.app.conftest import RECORDS, OpenPage, RecordStudy, make_record

RUNNING = make_record(6, ram_kib=90, outcome=Outcome.RUNNING)


@pytest.fixture(autouse=True)
def _forget() -> None:
    st.cache_resource.clear()


def test_what_is_added_is_seen_at_the_next_look(record_study: RecordStudy) -> None:
    storage = record_study("first", records=RECORDS[:2])
    assert [len(view.records) for view in read_studies(storage).views] == [2]
    record_study("second")
    assert [len(view.records) for view in read_studies(storage).views] == [2, 6]


def test_what_has_not_changed_is_not_read_again(record_study: RecordStudy) -> None:
    storage = record_study()
    assert read_studies(storage) is read_studies(storage)


def test_another_journal_in_the_same_place_is_read_anew(record_study: RecordStudy) -> None:
    storage = record_study("first")
    read_studies(storage)
    Path(storage).unlink()
    record_study("other", records=RECORDS[:1])
    assert [view.name for view in read_studies(storage).views] == ["other"]


def test_a_line_that_is_being_written_is_left_out(record_study: RecordStudy) -> None:
    storage = record_study()
    whole = Path(storage).read_bytes()
    read_studies(storage)
    with Path(storage).open("ab") as file:
        file.write(b'{"op_code":9,"trial_')
    assert len(read_studies(storage).views[0].records) == 6
    Path(storage).write_bytes(whole)  # as the next writer mends it
    record_study("second")
    assert len(read_studies(storage).views) == 2


def test_a_locked_journal_is_read(record_study: RecordStudy) -> None:
    fcntl = pytest.importorskip("fcntl")
    storage = record_study()
    with Path(storage).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert len(read_studies(storage).views) == 1


def test_a_database_is_read_from_a_copy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    open_storage(url, create=True)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Exception, match="holds no study"):
        read_studies(url)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert find_stamp(url) == find_stamp(url)


def test_a_run_is_told_from_one_that_was_killed(record_study: RecordStudy) -> None:
    storage = record_study(records=(*RECORDS, RUNNING))
    reading = read_studies(storage)
    assert (reading.describe_run(reading.views[0]) or "").startswith("running: 1 design in training")
    past = time.time() - 2 * QUIET_SECONDS
    os.utime(storage, (past, past))
    reading = read_studies(storage)
    assert (reading.describe_run(reading.views[0]) or "").startswith("perhaps stopped: 1 design begun, nothing written")


def test_a_study_at_rest_is_no_run(record_study: RecordStudy) -> None:
    reading = read_studies(record_study())
    assert reading.describe_run(reading.views[0]) is None


def test_the_page_says_that_a_search_runs(open_page: OpenPage, record_study: RecordStudy) -> None:
    page = open_page(record_study(records=(*RECORDS, RUNNING)))
    assert not page.exception
    assert any("running: 1 design in training" in element.value for element in page.markdown)
