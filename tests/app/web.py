"""The browser in a real Chromium: a small study that a search made, the app as its command starts it.

A page fails its test on any error in the console, any exception box, and any request that leaves this machine.
Screenshots go to build/screenshots, a folder that the test run names at its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from studies.chromium import DRAWN, find_chromium, list_flags, run_dashboard

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

ROOT = Path(__file__).parents[2]
SCREENSHOTS = ROOT / "build" / "screenshots"
STUDY = "tiny"
_RUN = (
    *("run", "--budget", "100KB", "--space", "tiny", "--resolution", "24", "--trials", "3", "--epochs", "1"),
    *("--views", "1", "--confirm", "2", "--confirm-seeds", "2", "--confirm-epochs", "1", "--workers", "1"),
    *("--feature-cache", "0", "--data-cache", "0", "--study", STUDY),
)
_PATIENCE_MILLISECONDS = 60_000
"""Of a machine that does much else."""
_POINT = """
([name, index]) => {
  const plots = [...document.querySelectorAll(".js-plotly-plot")];
  const plot = plots.find(p => p._fullLayout && p.data?.some(t => t.name === name));
  if (!plot) return null;
  const trace = plot.data.find(t => t.name === name), box = plot.getBoundingClientRect();
  const { xaxis, yaxis } = plot._fullLayout;
  return [
    box.x + xaxis._offset + xaxis.d2p(trace.x[index]),
    box.y + yaxis._offset + yaxis.d2p(trace.y[index]),
    trace.customdata[index][0],
  ];
}
"""


@dataclass
class WebPage:
    """A tab of the browser on the app; everything that must not happen is collected in `problems`."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listens to what goes wrong."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error in the page: {error}"))
        self.page.on("request", self._on_request)

    def open(self, **place: str) -> None:
        """Opens a place of the app, such as `page="front"`, and waits until it is shown."""
        if self.page.viewport_size is not None:
            self.page.set_viewport_size(self.page.viewport_size | {"height": 900})  # a picture has made it higher
        self.page.goto(f"{self.url}/?{urlencode({'study': STUDY} | place)}")
        self.wait()

    def wait(self) -> None:
        """Waits until the app has shown all of its page, and notes an exception box."""
        for _ in range(2):  # a click's rerun takes a moment to begin, longer where the machine does much else
            self.page.wait_for_timeout(250)
            self.page.wait_for_function(DRAWN)
        for box in self.page.locator('[data-testid="stException"]').all():
            self.problems.append(f"exception box: {box.inner_text()[:500]}")

    def click(self, name: str) -> None:
        """Clicks the button of that name."""
        self.page.get_by_role("button", name=name, exact=True).first.click()
        self.wait()

    def turn_to(self, label: str) -> None:
        """Clicks a page's name in the bar."""
        self.page.locator('[data-testid="stButtonGroup"]').first.get_by_text(label, exact=True).click()
        self.wait()

    def turn_part(self, name: str) -> None:
        """Clicks a part's name of the open page."""
        self.page.get_by_role("tab", name=name).click()
        self.wait()

    def click_point(self, trace: str, index: int = 0) -> int:
        """Clicks a marker of a plot by its trace's name; returns its trial."""
        x, y, trial = self.page.wait_for_function(_POINT, arg=[trace, index]).json_value()
        self.page.mouse.move(x, y)
        self.page.mouse.click(x, y)
        self.wait()
        return int(trial)

    def text(self) -> str:
        """Returns all that the page says."""
        return self.page.locator('[data-testid="stMain"]').inner_text()

    def shot(self, name: str) -> Path:
        """Saves the whole page as a picture."""
        width = self.page.viewport_size["width"] if self.page.viewport_size else 1280
        container = '[data-testid="stMainBlockContainer"]'
        height = self.page.evaluate(f"document.querySelector('{container}').scrollHeight")
        self.page.set_viewport_size({"width": width, "height": min(int(height) + 40, 5000)})
        self.page.wait_for_timeout(400)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.problems.append(f"console: {message.text[:300]}")

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((self.url, "data:", "blob:", self.url.replace("http", "ws", 1))):
            self.problems.append(f"request to {request.url[:200]}")


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder in which a search has made a study of three designs, two of them confirmed."""
    folder = tmp_path_factory.mktemp("study")
    done = subprocess.run(
        [sys.executable, "-m", "repnet_search", *_RUN], cwd=folder, env=_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def app_url(tiny_study: Path) -> Iterator[str]:
    """Yields the address of the app over the small study, as `repnet-search dashboard` starts it."""
    log = tiny_study / "dashboard.log"
    with run_dashboard(folder=tiny_study, environment=_environment(), log=log) as address:
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yields a Chromium; skips where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    path = find_chromium()
    with api.sync_playwright() as playwright:
        if path is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium found: apt-get install chromium, or playwright install chromium")
        browser = playwright.chromium.launch(executable_path=path, args=list_flags())
        yield browser
        browser.close()


@pytest.fixture
def web(chromium: Browser, app_url: str, request: pytest.FixtureRequest) -> Iterator[WebPage]:
    """Yields a page on the app; mark a test `parametrize("web", [{...}], indirect=True)` for another window."""
    options: dict[str, Any] = getattr(request, "param", {})
    width, scheme = options.get("width", 1280), options.get("scheme", "light")
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True)
    context.set_default_timeout(_PATIENCE_MILLISECONDS)
    page = WebPage(context.new_page(), app_url)
    yield page
    problems = list(page.problems)  # what closing cuts off is none
    context.close()
    assert problems == [], problems


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
