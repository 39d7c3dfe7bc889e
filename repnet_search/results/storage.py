"""Where studies are kept: an Optuna journal file in ./repnet-studies, or any storage URL that Optuna knows."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage

from repnet_search.errors import StudyError, suggest
from repnet_search.results.journal import Journal, RecordsJournal, describe_damage, mend_journal

STUDIES_FOLDER = Path("repnet-studies")
JOURNAL_NAME = "journal.log"
_JOURNAL_START = b'{"op_code"'


def open_storage(storage: str | None, *, create: bool = False, params: bool = True) -> BaseStorage:
    """Returns a storage.

    Args:
        storage: a URL such as sqlite:///studies.db, the path of a journal file, or None for the default journal.
        create: whether a journal file that is missing is made.
        params: whether trials have their parameters; who reads their records alone has a large journal in a sixth of
            the time without.

    Raises:
        StudyError: it is missing, cannot be read or written, or is not a storage of studies.
    """
    if storage is not None and "://" in storage:
        _check_sqlite(storage, create=create)
        return _open_url(storage)
    path = Path(storage) if storage is not None else STUDIES_FOLDER / JOURNAL_NAME
    if path.is_dir():
        raise StudyError(f"A storage is a journal file or a URL, but {path} is a folder; use {path / JOURNAL_NAME}.")
    if not path.exists() and not create:
        raise StudyError(f"There is no study storage at {path}; 'repnet-search run' makes one in the current folder.")
    if storage is not None and not path.parent.is_dir():
        raise StudyError(f"The storage {path} cannot be made: there is no folder {path.parent}; make it first.")
    _check_journal(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if create and path.exists():
            mend_journal(path)
        return JournalStorage(Journal(path) if params else RecordsJournal(path))
    except OSError as error:
        raise StudyError(f"The study storage {path} cannot be written: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise StudyError(describe_damage(path, error)) from error  # a line is JSON, but no entry that Optuna knows


def load_optuna_study(name: str, storage: BaseStorage) -> optuna.Study:
    """Returns a study by name.

    Raises:
        StudyError: the storage holds no study of that name.
    """
    names = list_study_names(storage)
    if name not in names:
        known = f" It holds: {', '.join(names)}." if names else " It is empty."
        raise StudyError(f"There is no study named {name!r} in this storage.{suggest(name, names) or known}")
    return optuna.load_study(study_name=name, storage=storage)


def list_study_names(storage: BaseStorage) -> list[str]:
    """Returns the names of all studies, in the order in which they were made."""
    return [study.study_name for study in storage.get_all_studies()]


def study_folder(name: str) -> Path:
    """Returns the folder of a study's files: best.yaml and the trained weights.

    Raises:
        StudyError: the name cannot be a folder's.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise StudyError(
            f"A study's name must be letters, digits, '.', '_' and '-' (at most 100, the first a letter or digit), "
            f"but is {name!r}."
        )
    return STUDIES_FOLDER / name


def _open_url(url: str) -> BaseStorage:
    try:
        return RDBStorage(url)
    except Exception as error:  # whatever a database driver raises: it is the user's URL that decides which
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StudyError(f"The storage {_without_password(url)} cannot be opened: {reason}.") from error


def _check_sqlite(url: str, *, create: bool) -> None:
    """Refuses an SQLite file that is missing or another program's: opening it would make or change it."""
    if not url.startswith("sqlite:///") or "?" in url:
        return
    path = Path(url.removeprefix("sqlite:///"))
    if not path.is_file() or path.stat().st_size == 0:
        if not create:
            raise StudyError(f"There is no study storage at {url}; 'repnet-search run' makes one.")
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise StudyError(f"{url} is not a storage of studies ({error}); name another with --storage.") from error
    if not {"studies", "trials", "version_info"} <= names:
        raise StudyError(f"{url} is not a storage of studies; name another with --storage.")


def _without_password(url: str) -> str:
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _check_journal(path: Path) -> None:
    """Refuses a file that does not begin as a journal does; Optuna would fail on it later, less clearly."""
    if not path.exists():
        return
    try:
        with path.open("rb") as file:
            start = file.read(len(_JOURNAL_START))
    except OSError as error:
        raise StudyError(f"The study storage {path} cannot be read: {error.strerror}.") from error
    if not _JOURNAL_START.startswith(start):  # a kill may have left a part of the first line
        raise StudyError(f"{path} is not a storage of studies; name another file with --storage.")
