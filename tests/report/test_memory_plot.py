"""Both pictures draw the same, which is the estimate."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from repnet_search.errors import UsageError
from repnet_search.graph import Role, Schedule
from repnet_search.memory import MemoryExplanation, explain_memory
from repnet_search.report.memory_html import create_figure
from repnet_search.report.memory_plot import ROLE_COLOURS, create_picture, save_memory_plot
from repnet_search.report.memory_png import draw_png
from repnet_search.spec import Optimizer, Recipe, resolve
from tests.designs import six_connectors

BUDGET = 200 * 1024


@pytest.fixture(scope="module")
def explained() -> MemoryExplanation:
    recipe = Recipe(optimizer=Optimizer.NORMALISED_SGD)
    design = six_connectors(weight_standardisation=True).model_copy(update={"activation_bits": 8, "recipe": recipe})
    return explain_memory(resolve(design), classes=10, schedule=Schedule.STREAMED)


def test_the_picture_is_the_estimate(explained: MemoryExplanation) -> None:
    picture = create_picture(explained, budget_bytes=BUDGET)
    live = [sum(sizes) for sizes in zip(*picture.alive.values(), strict=True)]
    assert tuple(live) == explained.liveness.live_bytes
    assert picture.peak_bytes == max(live) + picture.state_bytes
    assert live[picture.peak_op] == max(live)
    assert picture.arena_bytes + picture.state_bytes == explained.estimate.ram_bytes
    assert [block.offset_bytes for block in picture.blocks] == list(explained.arena.offsets)
    for part in ("account arena", "schedule streamed", "micro-batch 1", "normalised_sgd ×1"):
        assert part in picture.title


def test_every_role_has_a_colour_of_its_own(explained: MemoryExplanation) -> None:
    assert set(ROLE_COLOURS) == set(Role)
    assert len(set(ROLE_COLOURS.values())) == len(Role)
    assert set(create_picture(explained).alive) == {buffer.role for buffer in explained.liveness.buffers}


def test_large_networks_are_drawn_in_mib(explained: MemoryExplanation) -> None:
    assert create_picture(explained).unit == "KiB"
    large = explain_memory(resolve(six_connectors().model_copy(update={"resolution": 512})), classes=10)
    assert create_picture(large).unit == "MiB"


def test_the_figure_has_titles_units_budget_and_tips(explained: MemoryExplanation) -> None:
    picture = create_picture(explained, budget_bytes=BUDGET)
    layout = create_figure(picture).to_dict()["layout"]
    assert layout["yaxis"]["title"]["text"] == "bytes alive (KiB)"
    assert layout["yaxis2"]["title"]["text"] == "address (KiB)"
    assert "operator of the training step" in layout["xaxis2"]["title"]["text"]
    texts = [annotation["text"] for annotation in layout["annotations"]]
    assert "<b>budget 200.0 KiB</b>" in texts
    assert f"<b>{picture.peak_label}</b>" in texts
    tips = [tip for trace in create_figure(picture).data for tip in trace.hovertext or ()]
    assert any(tip.startswith("<b>b2.0 mask</b>, mask<br>") for tip in tips)


def test_the_page_opens_without_a_network(explained: MemoryExplanation, tmp_path: Path) -> None:
    save_memory_plot(tmp_path / "memory.html", explained, budget_bytes=BUDGET)
    text = (tmp_path / "memory.html").read_text(encoding="utf-8")
    assert "<script src=" not in text
    assert "Plotly.newPlot" in text
    assert [path.name for path in tmp_path.iterdir()] == ["memory.html"]


def test_the_png_shows_the_colours_of_its_roles(explained: MemoryExplanation, tmp_path: Path) -> None:
    save_memory_plot(tmp_path / "memory.png", explained, budget_bytes=BUDGET)
    image = Image.open(tmp_path / "memory.png").convert("RGB")
    assert image.width > 1200
    assert image.height > 900
    colours = {colour for _, colour in image.getcolors(maxcolors=2**24) or []}
    for role in (Role.BACKBONE, Role.REPNET, Role.GRADIENT, Role.MASK, Role.WEIGHT_GRADIENT):
        assert tuple(bytes.fromhex(ROLE_COLOURS[role][1:])) in colours


def test_the_same_design_gives_the_same_png(explained: MemoryExplanation) -> None:
    one, other = (draw_png(create_picture(explained)) for _ in range(2))
    assert one == other
    assert Image.open(io.BytesIO(one)).format == "PNG"


def test_another_suffix_is_refused(explained: MemoryExplanation, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"A plot is written as .html or .png, but got '.*memory.svg'"):
        save_memory_plot(tmp_path / "memory.svg", explained)
