"""The process that serves the browser shows the first page before there is an address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import server


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Returns what is shown and run, in this order."""
    done: list[Any] = []
    monkeypatch.setattr(server, "show_browser", lambda name: done.append(name))
    monkeypatch.setattr(server, "run_streamlit", lambda arguments, prog_name: done.append(arguments))
    return done


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--server.port", "1"], [None]),
        (["--server.port", "1", "--", "a.log"], ["a.log"]),
        (["--", "sqlite:///a.db"], ["sqlite:///a.db"]),
        (["--", "postgresql://host/a"], []),
    ],
)
def test_a_file_is_shown_before_there_is_an_address(calls: list[Any], arguments: list[str], shown: list[str]) -> None:
    server.serve("browser.py", arguments)
    assert calls == [*shown, ["run", "browser.py", *arguments]]


def test_a_storage_that_cannot_be_shown_is_the_pages_to_say(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(name: str | None) -> None:
        raise RuntimeError(f"{name} is damaged.")

    monkeypatch.setattr(server, "show_browser", fail)
    server.serve("browser.py", ["--", str(tmp_path / "a.log")])
    assert calls == [["run", "browser.py", "--", str(tmp_path / "a.log")]]
