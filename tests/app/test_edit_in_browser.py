"""Design and What if in a real Chromium: point, click, measure, edit, download; dark, light, narrow."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.design_page import PARTS
from repnet_search import load_design, load_study
from repnet_search.errors import StudyError
from repnet_search.export.trial import evaluate_trial
from tests.app.web import STUDY, WebPage

pytestmark = pytest.mark.timeout(300)

_ROW = """
([index, lane]) => {
  const plot = document.querySelectorAll(".js-plotly-plot")[0];
  plot.scrollIntoView({ block: "start" });
  const box = plot.getBoundingClientRect(), { xaxis, yaxis } = plot._fullLayout;
  return [box.x + xaxis._offset + xaxis.d2p(lane), box.y + yaxis._offset + yaxis.d2p(index)];
}
"""


def test_pointing_at_a_block_marks_it_and_a_click_marks_its_operators(web: WebPage) -> None:
    web.open(page="design")
    web.page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length >= 3")
    x, y = web.page.evaluate(_ROW, [4, 0])
    web.page.mouse.move(x, y)
    web.page.mouse.move(x + 1, y + 1)
    web.page.locator(".hoverlayer").get_by_text("output", exact=False).first.wait_for()
    said = web.page.locator(".hoverlayer").first.text_content()
    assert said is not None
    assert "forward: at most" in said
    assert web.page.locator(".spikeline").count() > 0
    web.page.mouse.click(x + 1, y + 1)
    web.wait()
    marks = "document.querySelectorAll('.js-plotly-plot')[1].layout.shapes.filter(s => s.opacity === 0.25).length"
    web.page.wait_for_function(f"{marks} >= 2")


def test_classes_are_measured_on_demand(web: WebPage) -> None:
    web.open(page="design")
    web.turn_part("What it learned")
    web.click("Measure")
    web.page.get_by_text("Measured now on the 400 validation images of digits").wait_for()
    assert "taken for" not in web.text()  # the data of the matrix is in its CSV


def test_an_edited_design_is_downloaded_as_a_file_that_loads(web: WebPage, tmp_path: Path) -> None:
    web.open(page="what-if")
    web.turn_part("Backbone and input")
    field = web.page.get_by_label("Image side (px)")
    field.fill("56")
    field.press("Enter")
    web.wait()
    web.page.get_by_text("Undo (1)").wait_for()
    web.turn_part("Connectors")
    web.click("Add a connector")
    web.page.get_by_text("Undo (2)").wait_for()
    with web.page.expect_download() as download:
        web.page.get_by_role("button", name="Download YAML").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    design = load_design(path)
    assert design.resolution == 56
    web.page.get_by_text("The command, and the file").click()
    web.page.get_by_text(f"repnet-search train {path.name} --budget 100KB").wait_for()
    web.click("Back to the start")
    web.page.get_by_text("Undo (3)").wait_for()


def test_the_own_module_of_a_connector_is_edited_behind_its_button(web: WebPage) -> None:
    web.open(page="what-if")
    web.click("Add a connector")
    web.page.get_by_role("button", name="Module").first.click()
    web.wait()
    field = web.page.locator('[data-testid="stPopoverBody"]').get_by_role("spinbutton", name="Depth")
    field.fill("2")
    field.press("Enter")
    web.wait()
    web.page.get_by_text(": depth 2").wait_for()
    assert field.input_value() == "2"  # it stays open
    web.shot("what-if-module")


def test_a_wrong_value_is_one_sentence(web: WebPage) -> None:
    web.open(page="what-if")
    web.turn_part("Modules")
    field = web.page.get_by_label("Kernel").first
    field.fill("4")
    field.press("Enter")
    web.wait()
    web.page.get_by_text("module.kernel must be an odd number, but got 4.").wait_for()
    web.turn_part("Recipe")
    web.page.get_by_text("module.kernel must be an odd number, but got 4.").wait_for()
    assert "Traceback" not in web.text()


@pytest.mark.parametrize(
    "web",
    [{"scheme": "light"}, {"scheme": "dark"}, {"scheme": "light", "width": 420}],
    indirect=True,
    ids=["light", "dark", "narrow"],
)
def test_both_pages_are_shown_whole(web: WebPage, request: pytest.FixtureRequest) -> None:
    web.page.set_default_timeout(60_000)  # a picture of thousands of lines takes long on a busy machine
    window = request.node.callspec.id
    for name in ("what-if", "design"):
        web.open(page=name)
        assert _overhang(web, f"{name}-{window}") <= 0, name
        if name == "what-if":  # what stays in sight covers what is scrolled below it, and is not seen as a box
            assert _background(web, ".st-key-what-if-top") == _background(web, ".stApp")
    for part in PARTS[1:]:
        web.turn_part(part)
        assert _overhang(web, f"design-{part.split()[-1]}-{window}") <= 0, part


def _background(web: WebPage, place: str) -> str:
    return str(web.page.evaluate(f"getComputedStyle(document.querySelector('{place}')).backgroundColor"))


def _overhang(web: WebPage, name: str) -> int:
    """Takes a picture; returns by how many pixels the page is wider than its window."""
    web.shot(name)
    return int(web.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_the_kept_weights_give_what_the_search_measured(tiny_study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_study)
    view = load_study(STUDY)
    record = view.choose_winner()
    assert record is not None
    seen = evaluate_trial(view, record)
    assert seen.evaluation.accuracy == pytest.approx(record.validation_accuracy)
    assert (seen.images, seen.weights) == ("the 400 validation images", "of the search")
    tested = evaluate_trial(view, record, test=True)
    run = view.confirmed[record.design_id].exported_run
    assert tested.evaluation.accuracy == pytest.approx(run.test_accuracy)
    assert tested.weights == f"of the confirmation, 1 epochs, seed {run.seed}"
    untested = next(other for other in view.records if other.design_id not in view.tested)
    with pytest.raises(StudyError, match="The test images were not read for design"):
        evaluate_trial(view, untested, test=True)
