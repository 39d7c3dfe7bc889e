"""Timeline, arena, regions and confusion show the numbers that they are given."""

from __future__ import annotations

import pytest

from repnet_search import create_plan, get_board
from repnet_search.export.plan import MemoryPlan
from repnet_search.memory import MemoryExplanation, explain_memory
from repnet_search.report.figures_confusion import (
    confusion_rows,
    create_classes_figure,
    create_confusion_figure,
    create_saturation_figure,
)
from repnet_search.report.figures_regions import create_regions_figure, region_rows
from repnet_search.report.figures_step import alive_rows, buffer_rows, create_memory_figure
from repnet_search.report.memory_plot import create_picture
from repnet_search.spec import Connector, Design, resolve
from repnet_search.spec.target import DeviceLimits

KIB = 1024
DESIGN = Design(activation_bits=8, connectors=(Connector(after_block=10), Connector(after_block=16)))


@pytest.fixture(scope="module")
def explained() -> MemoryExplanation:
    return explain_memory(resolve(DESIGN), classes=10)


@pytest.fixture(scope="module")
def plan() -> MemoryPlan:
    limits = DeviceLimits.of_board(get_board("stm32f446"), reserve_bytes=32 * KIB)
    return create_plan(resolve(DESIGN), classes=10, limits=limits)


def test_the_timelines_data_adds_up(explained: MemoryExplanation) -> None:
    picture = create_picture(explained, budget_bytes=100 * KIB)
    rows = alive_rows(picture)
    state = explained.estimate.ram_bytes - explained.estimate.arena_bytes
    assert [row["alive in all (bytes)"] - state for row in rows] == list(explained.liveness.live_bytes)
    assert {row["pass"] for row in rows} == {"forward", "backward"}
    layout = create_memory_figure(picture).to_dict()["layout"]
    assert layout["yaxis"]["title"]["text"] == "bytes alive (KiB)"
    assert layout["yaxis2"]["title"]["text"] == "address (KiB)"
    assert "operator of the training step" in layout["xaxis2"]["title"]["text"]


def test_a_marked_place_is_marked_forward_and_backward(explained: MemoryExplanation) -> None:
    picture = create_picture(explained)
    plain, marked = (create_memory_figure(picture, marked=place).layout.shapes for place in (None, "block 13"))
    spans = {(shape.x0, shape.x1) for shape in marked} - {(shape.x0, shape.x1) for shape in plain}
    assert len(spans) == 2
    for first, last in spans:
        places = {explained.graph.ops[op].place for op in range(int(first + 0.5), int(last + 0.5))}
        assert places == {"block 13"}


def test_pointing_at_a_buffer_says_its_address_in_its_region() -> None:
    resolved = resolve(Design(resolution=96, connectors=(Connector(after_block=2), Connector(after_block=13))))
    limits = DeviceLimits.of_board(get_board("stm32h743"), reserve_bytes=32 * KIB)
    plan = create_plan(resolved, classes=10, limits=limits)
    picture = create_picture(explain_memory(resolved, classes=10))
    figure = create_memory_figure(picture, plan=plan)
    said = {text for trace in figure.select_traces({"type": "bar"}) for text in trace.hovertext}
    rows = buffer_rows(picture, plan=plan)
    assert len({row["region"] for row in rows}) > 1
    for row in rows:
        place = f"at {row['offset (bytes)']} of {row['region']}<br>from "
        assert any(text.startswith(f"<b>{row['buffer']}</b>") and place in text for text in said)


def test_a_budget_far_above_does_not_flatten_the_picture(explained: MemoryExplanation) -> None:
    peak = create_picture(explained).peak_bytes
    near, far = (create_picture(explained, budget_bytes=size) for size in (peak + KIB, 100 * peak))
    assert any("budget" in item.text for item in create_memory_figure(near).layout.annotations)
    figure = create_memory_figure(far)
    assert not any("budget" in item.text for item in figure.layout.annotations)
    assert figure.layout.yaxis.range[1] < 1.2 * far.peak_bytes / KIB


def test_buffers_lie_in_their_regions(explained: MemoryExplanation, plan: MemoryPlan) -> None:
    picture = create_picture(explained)
    rows = buffer_rows(picture, plan=plan)
    assert [row["offset (bytes)"] for row in rows] == [buffer.offset_bytes for buffer in plan.buffers]
    assert {row["region"] for row in rows} <= {region.name for region in plan.regions}
    arena = buffer_rows(picture)
    assert [row["offset (bytes)"] for row in arena] == list(explained.arena.offsets)
    texts = [item.text for item in create_memory_figure(picture, plan=plan).layout.annotations]
    for region in plan.regions:
        assert any(text.startswith(f"{region.name}: ") for text in texts)


def test_regions_add_up_to_their_size(plan: MemoryPlan) -> None:
    for row in region_rows(plan):
        parts = [size for name, size in row.items() if name not in ("region", "size (bytes)")]
        assert sum(parts) == row["size (bytes)"]
    figure = create_regions_figure(plan)
    assert [sum(sizes) for sizes in zip(*(trace.x for trace in figure.data), strict=True)] == [
        region.size_bytes / KIB for region in plan.regions
    ]
    assert "KiB" in figure.layout.xaxis.title.text


def test_the_confusion_matrix_is_coloured_by_the_share_of_the_true_class() -> None:
    counts = [[9, 1], [0, 2]]
    labels = ("<b>cat</b>", "dog")
    (trace,) = create_confusion_figure(labels, counts).data
    assert [list(row) for row in trace.z] == [[90, 10], [None, 100]]
    assert [list(row) for row in trace.text] == [["9", "1"], ["", "2"]]
    assert trace.x[0] == "&lt;b>cat&lt;/b>"
    rows = confusion_rows(labels, counts)
    assert rows[0] == {
        "true class": "<b>cat</b>",
        "images": 10,
        "accuracy (%)": 90.0,
        "taken for <b>cat</b>": 9,
        "taken for dog": 1,
    }


def test_classes_stand_worst_first_and_empty_ones_are_left_out() -> None:
    (bars,) = create_classes_figure(("a", "b", "c"), (0.9, None, 0.25)).data
    assert (list(bars.y), list(bars.x)) == (["c", "a"], [25, 90])


def test_saturation_is_a_bar_per_connector() -> None:
    figure = create_saturation_figure(((10, 0.0125), (16, 0.0)))
    assert (list(figure.data[0].x), list(figure.data[0].y)) == (["block 10", "block 16"], [1.25, 0])
    assert "%" in figure.layout.yaxis.title.text
