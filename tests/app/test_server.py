"""The process that serves the browser reads first what the first page shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import server
from repnet_search import RepnetSearchError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Returns what is read and run, in this order."""
    done: list[Any] = []
    monkeypatch.setattr(server, "read_studies", lambda name: done.append(name))
    monkeypatch.setattr(server, "run_streamlit", lambda arguments, prog_name: done.append(arguments))
    return done


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        (["--server.port", "1"], [None]),
        (["--server.port", "1", "--", "a.log"], ["a.log"]),
        (["--", "sqlite:///a.db"], ["sqlite:///a.db"]),
        (["--", "postgresql://host/a"], []),
    ],
)
def test_a_file_is_read_before_there_is_an_address(calls: list[Any], arguments: list[str], read: list[str]) -> None:
    server.serve("browser.py", arguments)
    assert calls == [*read, ["run", "browser.py", *arguments]]


def test_a_storage_that_cannot_be_read_is_the_pages_to_say(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(name: str | None) -> None:
        raise RepnetSearchError(f"{name} is damaged.")

    monkeypatch.setattr(server, "read_studies", fail)
    server.serve("browser.py", ["--", str(tmp_path / "a.log")])
    assert calls == [["run", "browser.py", "--", str(tmp_path / "a.log")]]
