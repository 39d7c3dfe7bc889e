"""The README's pictures of the study browser.

python -m studies.browser_pictures --study NAME [--storage URL]

run where the study's storage is, or with --storage; needs a Chromium and playwright (the extra `test`). Writes
studies/pictures/front.png, design.png and what_if.png.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

PAGES = {"front": ("front", 1000), "design": ("design", 1000), "what_if": ("what-if", 1250)}
"""Pictures by name: the page's URL name, and the height in pixels."""

WIDTH = 1280
COLOURS = 128
"""More are not to be seen, and a third of the bytes."""

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_SECONDS = 60.0
QUIET_MS = 3000
"""For the plots to be drawn once the page's script has ended."""


@contextmanager
def run_dashboard(storage: str | None) -> Iterator[str]:
    """Yields the address of a dashboard that runs meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--port", str(port), *(["--storage", storage] if storage is not None else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "repnet_search", "dashboard", *options], stdout=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def take(page: Page, address: str, *, study: str, folder: Path) -> None:
    """Writes each picture."""
    for name, (place, height) in PAGES.items():
        page.set_viewport_size({"width": WIDTH, "height": height})
        page.goto(f"{address}/?{urlencode({'page': place, 'study': study})}")
        page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=60_000)
        page.wait_for_timeout(QUIET_MS)
        path = folder / f"{name}.png"
        page.screenshot(path=path)
        Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", required=True)
    parser.add_argument("--storage")
    arguments = parser.parse_args()
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    with run_dashboard(arguments.storage) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        take(browser.new_page(), address, study=arguments.study, folder=Path(__file__).parent / "pictures")
        browser.close()


if __name__ == "__main__":
    main()
