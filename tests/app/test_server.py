"""The process that serves the browser shows the first page before there is an address."""

from __future__ import annotations

import http.client
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from streamlit import App

from app import server
from tests.app.conftest import BROWSER

PORT = 8502


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Returns what is shown and where it is served, in this order."""
    done: list[Any] = []
    monkeypatch.setattr(server, "show_browser", lambda name: done.append(name))
    monkeypatch.setattr(server.uvicorn, "run", lambda app, host, port, **_: done.append((host, port)))
    return done


@pytest.mark.parametrize(
    ("storage", "shown"),
    [(None, [None]), ("a.log", ["a.log"]), ("sqlite:///a.db", ["sqlite:///a.db"]), ("postgresql://host/a", [])],
)
def test_a_file_is_shown_before_there_is_an_address(calls: list[Any], storage: str | None, shown: list[str]) -> None:
    server.serve(App(BROWSER), port=PORT, storage=storage)
    assert calls == [*shown, ("127.0.0.1", PORT)]


def test_a_storage_that_cannot_be_shown_is_the_pages_to_say(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(name: str | None) -> None:
        raise RuntimeError(f"{name} is damaged.")

    monkeypatch.setattr(server, "show_browser", fail)
    server.serve(App(BROWSER), port=PORT, storage=str(tmp_path / "a.log"))
    assert calls == [("127.0.0.1", PORT)]


def test_the_settings_beside_the_browser_count(tmp_path: Path) -> None:
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text('[server]\nfileWatcherType = "poll"\naddress = "0.0.0.0"\n')
    code = f"""
from streamlit import App, config
App({str(BROWSER)!r})
names = ("server.fileWatcherType", "server.address", "browser.gatherUsageStats", "runner.postScriptGC")
print([config.get_option(name) for name in names])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['none', '127.0.0.1', False, False]"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("origin", [None, "http://other.example"])
def test_no_other_site_may_listen(app_url: str, origin: str | None) -> None:
    place = urlsplit(app_url)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": origin or app_url}
    headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "c3R1ZHkgYnJvd3Nlci4uLg=="}
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)
    connection.request("GET", "/_stcore/stream", headers=headers)
    assert connection.getresponse().status == (101 if origin is None else 403)
    connection.close()
