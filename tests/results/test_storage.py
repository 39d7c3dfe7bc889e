from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
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


def test_a_journal_cut_anywhere_in_its_last_lines_is_read_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    study = optuna.create_study(study_name="mine", storage=open_storage("journal.log", create=True))
    trial = study.ask()
    study.tell(trial, 0.5)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for end in range(len(whole) - len(lines[-2] + lines[-1]), len(whole) + 1):
        path.write_bytes(whole[:end])
        kept = [line for line in lines if whole.index(line) + len(line) - 1 <= end]  # the line's end may be missing
        assert [s.study_name for s in open_storage("journal.log").get_all_studies()] == ["mine"]
        assert path.read_bytes() == whole[:end]
        again = open_storage("journal.log", create=True)
        assert path.read_bytes() == b"".join(kept)
        optuna.load_study(study_name="mine", storage=again).set_user_attr("after", 1)
        read = optuna.load_study(study_name="mine", storage=open_storage("journal.log"))
        assert read.user_attrs == {"after": 1}
        assert [t.value for t in read.trials] == [[], [None], [0.5]][len(kept) - len(lines) + 2]


@pytest.mark.parametrize("end", range(12))
def test_a_journal_whose_first_line_is_torn_is_begun_again(end: int, tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_bytes(b'{"op_code":0,"wor'[:end])
    optuna.create_study(study_name="mine", storage=open_storage("journal.log", create=True))
    assert [study.study_name for study in open_storage("journal.log").get_all_studies()] == ["mine"]


def test_what_another_process_tore_while_we_run_is_not_glued_to_our_next_line(tmp_path: Path) -> None:
    ours = open_storage("journal.log", create=True)
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b'{"op_code":4,"worker_id":"abc","st')
    optuna.create_study(study_name="mine", storage=ours)
    assert [study.study_name for study in open_storage("journal.log").get_all_studies()] == ["mine"]


def test_a_lock_that_a_killed_process_left_behind_holds_nobody_up(tmp_path: Path) -> None:
    storage = open_storage(None, create=True)
    (tmp_path / "repnet-studies" / "journal.log.lock").symlink_to("repnet-studies/journal.log")  # Optuna's own
    code = (
        "import fcntl, os, signal; file = open('repnet-studies/journal.log', 'ab'); fcntl.flock(file, fcntl.LOCK_EX); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    started = time.monotonic()
    optuna.create_study(study_name="mine", storage=storage)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("params", [True, False])
@pytest.mark.parametrize("damage", [b'{"op_code": 4, "st{"op_code": 0}\n', b"\0\0\0\0\n", b"17\n", b"{}\n"])
def test_a_damaged_line_is_one_sentence_that_says_what_to_do(damage: bytes, params: bool, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    optuna.create_study(study_name="mine", storage=open_storage("journal.log", create=True))
    path.write_bytes(path.read_bytes() + damage + path.read_bytes())
    before = path.read_bytes()
    for create in (False, True):
        with pytest.raises(StudyError, match=r"Line 2 of the study storage journal\.log is damaged; .*head -n 1"):
            open_storage("journal.log", create=create, params=params)
    assert path.read_bytes() == before


def test_entries_that_contradict_one_another_are_one_sentence(tmp_path: Path) -> None:
    optuna.create_study(study_name="mine", storage=open_storage("journal.log", create=True))
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b'{"op_code":99,"worker_id":"abc"}\n')
    with pytest.raises(StudyError, match=r"entries of the study storage journal\.log contradict one another"):
        open_storage("journal.log")


def test_a_journal_that_was_removed_is_not_begun_anew_behind_the_run_s_back(tmp_path: Path) -> None:
    storage = open_storage("journal.log", create=True)
    (tmp_path / "journal.log").unlink()
    with pytest.raises(FileNotFoundError):
        optuna.create_study(study_name="mine", storage=storage)
    assert list(tmp_path.iterdir()) == []


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


def test_a_storage_without_parameters_has_the_same_trials_and_sees_what_is_added(tmp_path: Path) -> None:
    written = optuna.create_study(study_name="mine", storage=open_storage("journal.log", create=True))
    read = optuna.load_study(study_name="mine", storage=open_storage("journal.log", params=False))
    for number in range(3):
        trial = written.ask({"x": optuna.distributions.CategoricalDistribution((1, 2))})
        trial.set_user_attr("place", number)
        written.tell(trial, 0.5)
        again = optuna.load_study(study_name="mine", storage=open_storage("journal.log", params=False))
        for study in (read, again):
            found = study.get_trials()
            assert [item.user_attrs["place"] for item in found] == list(range(number + 1))
            assert all(item.state.is_finished() and not item.params for item in found)


@pytest.mark.parametrize("params", [True, False])
def test_a_line_that_is_being_written_is_no_entry_yet(params: bool, tmp_path: Path) -> None:
    study = optuna.create_study(study_name="mine", storage=open_storage("journal.log", create=True))
    study.set_user_attr("key", 1)
    path = tmp_path / "journal.log"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    storage = open_storage("journal.log", params=params)
    assert optuna.load_study(study_name="mine", storage=storage).user_attrs == {}
    path.write_bytes(whole)
    assert optuna.load_study(study_name="mine", storage=storage).user_attrs == {"key": 1}
