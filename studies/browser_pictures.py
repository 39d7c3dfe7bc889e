"""The README's pictures of the study browser.

python -m studies.browser_pictures --study NAME [--storage URL]

run where the study's storage is, or with --storage; needs a Chromium and playwright (the extra `test`). Writes
studies/pictures/front.png, design.png and what_if.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from studies.chromium import DRAWN, find_chromium, list_flags, run_dashboard

PAGES = {"front": ("front", 1000), "design": ("design", 1000), "what_if": ("what-if", 1800)}
"""Pictures by name: the page's URL name, and the height in pixels."""

WIDTH = 1280
COLOURS = 128
"""More are not to be seen, and a third of the bytes."""

QUIET_MS = 1000
"""For what moves when a page has come."""


def take(page: Page, address: str, *, study: str, folder: Path) -> None:
    """Writes each picture."""
    for name, (place, height) in PAGES.items():
        page.set_viewport_size({"width": WIDTH, "height": height})
        page.goto(f"{address}/?{urlencode({'page': place, 'study': study})}")
        page.wait_for_function(DRAWN, timeout=60_000)
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
    options = ["--storage", arguments.storage] if arguments.storage is not None else []
    with run_dashboard(*options) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list_flags())
        take(browser.new_page(), address, study=arguments.study, folder=Path(__file__).parent / "pictures")
        browser.close()


if __name__ == "__main__":
    main()
