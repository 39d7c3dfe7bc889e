from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
import pytest

from repnet_search.errors import StudyError
from repnet_search.results.storage import open_storage, study_folder


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_reading_makes_nothing(tmp_path: Path) -> None:
    for storage in (None, "other.log", "sqlite:///other.db"):
        with pytest.raises(StudyError, match="There is no study storage at"):
            open_storage(storage)
    assert list(tmp_path.iterdir()) == []


def test_a_journal_and_an_sqlite_storage_are_made_and_read_again(tmp_path: Path) -> None:
    for storage in (None, "sqlite:///studies.db"):
        assert open_storage(storage, create=True).get_all_studies() == []
        assert open_storage(storage).get_all_studies() == []


@pytest.mark.parametrize("content", [b"hello\n", b"\x89PNG\r\n", b"{}"])
def test_a_file_of_another_program_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(content)
    with pytest.raises(StudyError, match="is not a storage of studies"):
        open_storage(str(path), create=True)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    connection.close()
    before = (tmp_path / "other.db").read_bytes()
    for create in (False, True):
        with pytest.raises(StudyError, match="is not a storage of studies"):
            open_storage("sqlite:///other.db", create=create)
    assert (tmp_path / "other.db").read_bytes() == before


def test_a_torn_last_line_is_cut_off_before_anything_is_added(tmp_path: Path) -> None:
    storage = open_storage("journal.log", create=True)
    optuna.create_study(study_name="mine", storage=storage)
    path = tmp_path / "journal.log"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "worker_id": "abc", "st')
    again = open_storage("journal.log", create=True)
    assert path.read_bytes() == whole
    optuna.create_study(study_name="yours", storage=again)
    assert [study.study_name for study in open_storage("journal.log").get_all_studies()] == ["mine", "yours"]


def test_a_damaged_line_is_one_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    optuna.create_study(study_name="mine", storage=open_storage("journal.log", create=True))
    path.write_bytes(path.read_bytes() + b'{"op_code": 4, "st{"op_code": 0}\n' + path.read_bytes())
    with pytest.raises(StudyError, match=r"one of its lines is damaged .* remove that line"):
        open_storage("journal.log")


def test_a_folder_is_no_storage(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="is a folder"):
        open_storage(str(tmp_path))


def test_an_unknown_url_is_one_sentence_without_its_password() -> None:
    with pytest.raises(StudyError) as error:
        open_storage("nosuch://user:secret@127.0.0.1/x")
    assert "cannot be opened" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 101, "näme"])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match="A study's name must be letters"):
        study_folder(name)
