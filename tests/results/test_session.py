"""What a study keeps of its runs: added one by one, read back in order, told from one another."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from repnet_search import __version__
from repnet_search.errors import SpecError, StudyError
from repnet_search.results.session import SESSION_KEY, Session, add_session, read_sessions
from repnet_search.results.storage import open_storage
from repnet_search.results.study import SETTINGS_KEY, list_studies
from tests.report.made_study import make_settings


def make_session(started: str, *, workers: int = 2) -> Session:
    return Session(started=started, workers=workers, confirm=3, confirm_seeds=2, confirm_epochs=8)


def test_runs_are_kept_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    storage = str(tmp_path / "journal.log")
    study = optuna.create_study(study_name="s", storage=open_storage(storage, create=True))
    assert read_sessions(study) == ()
    later, first = make_session("2026-02-01T10:00:00+00:00"), make_session("2026-01-01T10:00:00+00:00", workers=1)
    add_session(study, later)
    add_session(study, first)
    assert read_sessions(optuna.load_study(study_name="s", storage=open_storage(storage))) == (first, later)


def test_a_run_says_by_itself_when_it_began_and_with_which_versions() -> None:
    session = Session(workers=1, confirm=0, confirm_seeds=1, confirm_epochs=1)
    assert session.started.endswith("+00:00")
    assert session.versions["repnet-search"] == __version__
    assert session.versions["torch"]
    assert session.versions["optuna"]


def test_a_damaged_note_of_a_run_is_refused() -> None:
    study = optuna.create_study(study_name="s")
    study.set_user_attr(f"{SESSION_KEY}:now", {"workers": 0})
    with pytest.raises(SpecError, match="study 's'"):
        read_sessions(study)


def test_a_damaged_note_of_a_run_leaves_the_other_studies_readable() -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="s", storage=storage)
    study.set_user_attr(SETTINGS_KEY, make_settings().model_dump(mode="json"))
    study.set_user_attr(f"{SESSION_KEY}:now", {"workers": 0})
    told: list[StudyError] = []
    assert list_studies(storage, on_unreadable=told.append) == []
    assert "study 's'" in str(told[0])
