"""Running the command line as a user does, in an empty folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from repnet_search.cli.main import run_cli


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs a command line and gives exit code and output."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        code = run_cli([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture
def complains(cli: Run, workplace: Path) -> Callable[..., str]:
    """Returns a function that runs what must fail, with nothing on stdout and nothing left behind."""

    def run(*arguments: object, code: int) -> str:
        before = sorted(str(path) for path in workplace.rglob("*"))
        done = cli(*arguments)
        assert done.code == code, done
        assert done.out == ""
        assert "Traceback" not in done.err
        lines = [line for line in done.err.splitlines() if not line.startswith("Try ")]
        assert len(lines) == 1, done.err
        assert lines[0].startswith("Error: ")
        assert sorted(str(path) for path in workplace.rglob("*")) == before
        return lines[0]

    return run
