"""A dashboard and a Chromium to look at it with: for pictures, timings and tests of the study browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

DRAWN = """
() => {
  const drawn = (element, part) => element.querySelector(part) || !element.checkVisibility();
  return document.querySelector('[data-testid="stApp"]')?.getAttribute("data-test-script-state") === "notRunning"
      && document.querySelector(".page-end") !== null
      && [...document.querySelectorAll('[data-testid="stDataFrame"]')].every(e => drawn(e, "canvas"))
      && [...document.querySelectorAll('[data-testid="stPlotlyChart"]')].every(e => drawn(e, ".main-svg"))
      && ![...document.querySelectorAll('[data-stale="true"], [data-testid="stSkeleton"]')]
        .some(e => e.checkVisibility());
}
"""
"""Whether the app's script has ended and everything that it sent is drawn, in JavaScript."""

_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_START_SECONDS = 60.0


def find_chromium() -> str | None:
    """Returns the path of the Chromium that the machine has, None where only playwright may have its own."""
    return next(filter(None, map(shutil.which, _CHROMIUMS)), None)


def list_flags() -> list[str]:
    """Returns the flags of a Chromium that asks nobody for anything."""
    flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync"]
    return [*flags, "--no-sandbox"] if os.name == "posix" and os.geteuid() == 0 else flags


@contextmanager
def run_dashboard(
    *options: str, folder: Path | None = None, environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[str]:
    """Yields the address of a dashboard that runs meanwhile.

    Args:
        options: of `repnet-search dashboard`, beside its port.
        folder: where it runs; None is the current one.
        environment: of its process; None is this one's.
        log: the file for what it prints.

    Raises:
        RuntimeError: it has ended, or says nothing for a minute.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "repnet_search", "dashboard", "--port", str(port), *options]
    with (log or Path(os.devnull)).open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        _wait_for(f"http://127.0.0.1:{port}", process, log=log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(url: str, process: subprocess.Popen[bytes], *, log: Path | None) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):
            return
        time.sleep(0.1)
    said = f": {log.read_text()}" if log is not None else ""
    raise RuntimeError(f"The dashboard did not start{said}")
