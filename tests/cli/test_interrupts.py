"""Ends that no error explains: signals, a port that is taken, a study that cannot be read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import optuna
import pytest

from repnet_search.__main__ import main
from repnet_search.results.storage import open_storage
from repnet_search.results.study import SETTINGS_KEY
from tests.cli.conftest import Run


def test_ctrl_c_while_the_program_is_loaded_shows_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "repnet_search.cli.main", Interrupting("repnet_search.cli.main"))
    with pytest.raises(SystemExit, match="130"):
        main()


def test_sigterm_ends_a_command_with_143(workplace: Path) -> None:
    code = (
        "import os, signal, sys; from repnet_search.cli import main; "
        "main.cli.add_command(main.click.command('wait')(lambda: os.kill(os.getpid(), signal.SIGTERM))); "
        "sys.argv = ['repnet-search', 'wait']; main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (143, "", "")


def test_sigterm_that_was_ignored_stays_so(workplace: Path) -> None:
    code = (
        "import os, signal, sys; from repnet_search.cli import main; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "main.cli.add_command(main.click.command('wait')(lambda: os.kill(os.getpid(), signal.SIGTERM))); "
        "sys.argv = ['repnet-search', 'wait']; main.main()"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_dashboard_says_that_its_port_is_taken(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    open_storage(None, create=True)
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("Streamlit was started"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = cli("dashboard", "--port", taken.getsockname()[1])
    assert done.code == 1
    assert "cannot be used, perhaps by another dashboard; use --port" in done.err


def test_a_study_of_another_version_is_left_out_with_a_line(cli: Run) -> None:
    study = optuna.create_study(study_name="old", storage=open_storage(None, create=True))
    study.set_user_attr(SETTINGS_KEY, {"budget": 1})
    done = cli("studies", "--json")
    assert done.code == 0
    assert json.loads(done.out) == []
    assert done.err.startswith("Left out: study 'old': ")
    assert done.err.count("\n") == 1
