"""How fast the study browser is over ten thousand trials, in a Chromium that has never seen it.

python -m studies.browser_speed [--trials 10000] [--repeats 5]     writes browser_speed.md beside this file

Each repeat starts the dashboard and a Chromium anew. The dashboard reads the study before it has an address, which is
timed apart. A time runs from the click (of the first page: from the address) until the app's script has ended and all
that it sent is drawn; the first click on a page also loads what draws it. The study is made up, see many_trials. Needs
a Chromium and playwright (the extra `test`) and an idle machine.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from playwright.sync_api import Page, sync_playwright

from repnet_search.spec.files import save_text
from repnet_search.units import format_number
from studies.chromium import DRAWN, find_chromium, list_flags, run_dashboard
from studies.many_trials import STUDY, save_study

COUNT_ANSWERS = """
window.answers = 0;
window.WebSocket = class extends WebSocket {
  constructor(...all) {
    super(...all);
    this.addEventListener("message", () => { window.answers += 1; });
  }
};
"""
"""Run before the app: what the server says is counted. A short rerun's start is not to be seen in the page."""
ANSWERED = "() => window.answers > 0"
PATIENCE_MS = 90_000
BEGUN_MS = 100
"""Some time after the first answer the page says that the script runs; less than any click takes."""
LOOK_MS = 300
"""More than the app's look at the storage takes, which comes every few seconds and is an answer too."""
WIDTH, HEIGHT = 1280, 1000
TURNS = ("Design", "Front", "What if", "Compare", "Trials", "Design", "What if", "Front")
"""Pages by their names in the bar, in the order in which they are opened after the front."""

Times = dict[str, float]


def time_session(address: str, *, chromium: str | None) -> Times:
    """Returns the seconds of the first page, of each turn, and of other clicks, in a new browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list_flags())
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE_MS)
        page.add_init_script(COUNT_ANSWERS)
        times = {"the first page (Front), cold": _time_first(page, f"{address}/?study={STUDY}")}
        seen = {"Front"}
        for name in TURNS:
            label = f"{name}, {'again' if name in seen else 'first time'}"
            times.setdefault(label, _time(page, partial(_turn_to, page, name)))
            seen.add(name)
        times["Front: dominated designs off"] = _time(page, page.get_by_text("Other dominated designs").first.click)
        times["Front: the slider, a step"] = _time(page, lambda: page.get_by_role("slider").first.press("ArrowLeft"))
        _time(page, partial(_turn_to, page, "What if"))
        times["What if: the part of the input"] = _time(page, page.get_by_role("tab", name="Backbone and input").click)
        side = page.get_by_label("Image side (px)")
        side.fill("56")
        times["What if: another image side"] = _time(page, lambda: side.press("Enter"))
        browser.close()
    return times


def _turn_to(page: Page, name: str) -> None:
    page.locator('[data-testid="stButtonGroup"]').first.get_by_text(name, exact=True).click()


def _time_first(page: Page, address: str) -> float:
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_function(DRAWN)
    return time.perf_counter() - start


def _time(page: Page, act: Callable[[], object]) -> float:
    """Returns the seconds of a click made just after the app has looked for what is new, so that no look is timed."""
    page.evaluate("window.answers = 0")
    page.wait_for_function(ANSWERED)
    page.wait_for_timeout(LOOK_MS)
    page.evaluate("window.answers = 0")
    start = time.perf_counter()
    act()
    page.wait_for_function(ANSWERED)
    page.wait_for_timeout(BEGUN_MS)
    page.wait_for_function(DRAWN)
    return time.perf_counter() - start


def measure(repeats: int) -> list[Times]:
    """Returns the times of each repeat over the study in the current folder."""
    sessions = []
    for repeat in range(repeats):
        begun = time.perf_counter()
        with run_dashboard() as address:
            started = {"from the command to its address": time.perf_counter() - begun}
            sessions.append(started | time_session(address, chromium=find_chromium()))
        print(f"repeat {repeat + 1} of {repeats} is measured", flush=True)
    return sessions


def main() -> None:
    """Makes the study, measures, and writes what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", ExperimentalWarning)  # of the sampler that is told what to choose
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        save_study(arguments.trials, seed=0)
        sessions = measure(arguments.repeats)
    lines = _report(sessions, trials=arguments.trials)
    print("\n".join(lines))
    save_text(arguments.to, "\n".join(lines) + "\n")


def _report(sessions: list[Times], *, trials: int) -> list[str]:
    lines = [
        f"# The study browser over {format_number(trials)} trials",
        "",
        f"`python -m studies.browser_speed --trials {trials} --repeats {len(sessions)}`: seconds on the clock,",
        "from the click until all is drawn; each repeat with a dashboard and a Chromium just started.",
        "",
        "| what | median | least | most |",
        "|---|--:|--:|--:|",
    ]
    for what in sessions[0]:
        times = [session[what] for session in sessions]
        lines.append(f"| {what} | {statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f} |")
    return lines


if __name__ == "__main__":
    main()
