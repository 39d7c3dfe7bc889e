"""The study browser in a real Chromium: clicks, the slider, links, downloads, dark, narrow."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from tests.app.web import STUDY, WebPage

pytestmark = pytest.mark.timeout(300)

OWN_PAGES = ("studies", "front", "compare", "what-matters", "trials")


def test_a_click_on_a_point_selects_its_design(web: WebPage) -> None:
    web.open(page="front")
    before = web.page.url
    trial = web.click_point("last layer alone")
    web.page.wait_for_url("**design=*")
    assert web.page.url != before
    assert f"Trial {trial}, last layer alone: trained." in web.text()
    web.page.go_back()
    web.wait()
    assert "design=" not in web.page.url


def test_the_slider_answers_at_once(web: WebPage) -> None:
    web.open(page="front")
    assert "next 32 KiB buy" in web.text()
    slider = web.page.get_by_role("slider").first
    slider.press("Home")
    web.wait()
    web.page.get_by_text("No trained design fits.").wait_for()
    assert "buy the first design that fits" in web.text()
    slider.press("End")
    web.wait()
    web.page.get_by_text("No trained design fits.").wait_for(state="detached")


def test_the_plots_data_is_downloaded(web: WebPage, tmp_path: Path) -> None:
    web.open(page="front")
    with web.page.expect_download() as download:
        web.page.get_by_role("button", name="Download CSV").first.click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert path.name == "front.csv"
    assert any(row["role"] == "last layer alone" for row in rows)


def test_pages_are_gone_through_by_the_bar(web: WebPage) -> None:
    web.open()
    for label, name in (("Compare", "compare"), ("What matters", "what-matters"), ("Trials", "trials")):
        web.turn_to(label)
        web.page.wait_for_url(f"**page={name}*")
    web.page.go_back()
    web.page.wait_for_url("**page=what-matters*")
    web.wait()
    assert "Which fields decide" in web.text()
    assert f"study={STUDY}" in web.page.url


@pytest.mark.parametrize(
    "web",
    [{"scheme": "light"}, {"scheme": "dark"}, {"scheme": "light", "width": 420}],
    indirect=True,
    ids=["light", "dark", "narrow"],
)
def test_every_page_is_shown_whole(web: WebPage, request: pytest.FixtureRequest) -> None:
    window = request.node.callspec.id
    for name in OWN_PAGES:
        web.open(page=name)
        web.shot(f"{name}-{window}")
        colour = web.page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        is_dark = sum(map(int, re.findall(r"\d+", colour)[:3])) < 3 * 128
        assert is_dark == (window == "dark"), (name, colour)
        overhang = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert web.page.evaluate(overhang) <= 0, name
