"""The drawing is the estimate: the same places, bytes and operators, and arrows as the connectors say."""

from __future__ import annotations

import pytest

from repnet_search.memory import MemoryExplanation, explain_memory
from repnet_search.report.design_drawing import (
    BACKBONE_LANE,
    REPNET_LANE,
    Flow,
    Part,
    create_drawing,
    drawing_rows,
)
from repnet_search.report.figures_design import create_design_figure
from repnet_search.spec import Connector, Design, Exchange, ModuleInput, get_preset, resolve

KIB = 1024
DESIGN = Design(
    connectors=(
        Connector(after_block=6, exchange=Exchange.TO_REPNET),
        Connector(after_block=10),
        Connector(after_block=13, exchange=Exchange.TO_BACKBONE),
        Connector(after_block=16, exchange=Exchange.TO_REPNET),
    )
)


@pytest.fixture(scope="module")
def explained() -> MemoryExplanation:
    return explain_memory(resolve(DESIGN), classes=10)


def test_rows_are_the_places_of_the_step_with_its_bytes(explained: MemoryExplanation) -> None:
    drawing = create_drawing(explained)
    assert [row.place for row in drawing.rows] == [place.place for place in explained.places]
    assert max(moment.alive_bytes for row in drawing.rows for moment in (*row.forward, *row.backward)) == (
        drawing.peak_bytes
    )
    assert drawing.peak_bytes == explained.estimate.live_peak_bytes + drawing.state_bytes
    assert sum(len(row.forward) + len(row.backward) for row in drawing.rows) == len(explained.graph.ops)
    by_place = {row.place: row for row in drawing.rows}
    assert by_place["block 6"].dimensions == "16×6×6"
    assert by_place["block 6"].output_bytes == 4 * 16 * 6 * 6
    assert by_place["image"].dimensions == "3×48×48"
    assert drawing.r0 == ((1, 3, 12, 12), 4 * 3 * 12 * 12)


def test_a_gradient_passes_from_the_first_writer_on(explained: MemoryExplanation) -> None:
    parts = {row.place: row.part for row in create_drawing(explained).rows}
    assert parts["block 10"] is Part.FORWARD_ONLY
    assert parts["block 11"] is Part.GRADIENT
    assert parts["module 1"] is parts["head"] is Part.TRAINED


def test_arrows_are_what_the_connectors_exchange(explained: MemoryExplanation) -> None:
    drawing = create_drawing(explained)
    rows = {row.place: index for index, row in enumerate(drawing.rows)}
    writes = [arrow.points[0][1] for arrow in drawing.arrows if arrow.flow is Flow.WRITE]
    assert writes == [rows["module 2"], rows["module 3"]]
    reads = [arrow.points[0][1] for arrow in drawing.arrows if arrow.flow is Flow.READ]
    assert reads == [rows[f"module {number}"] + 0.5 for number in (1, 2, 4)]
    lanes = [lane for lane, _ in drawing.additions]
    assert lanes == [REPNET_LANE, BACKBONE_LANE, BACKBONE_LANE, REPNET_LANE]
    last = [arrow for arrow in drawing.arrows if arrow.flow is Flow.STREAM][-1]
    assert last.points[-1] == (BACKBONE_LANE, rows["head"])


def test_modules_that_read_their_blocks_input_are_drawn_so() -> None:
    design = get_preset("paper", Design(connectors=()))
    assert design.module_input is ModuleInput.BLOCK_INPUT
    drawing = create_drawing(explain_memory(resolve(design), classes=10))
    rows = {row.place: index for index, row in enumerate(drawing.rows)}
    reads = [arrow.points[0] for arrow in drawing.arrows if arrow.flow is Flow.READ]
    assert reads[0] == (BACKBONE_LANE, rows["block 4"] - 0.5)
    assert len(reads) == len(design.connectors) - 1


def test_the_last_layer_alone_has_one_lane() -> None:
    drawing = create_drawing(explain_memory(resolve(Design(connectors=())), classes=10))
    assert {arrow.flow for arrow in drawing.arrows} == {Flow.BACKBONE}
    assert drawing.r0 is None
    assert drawing.rows[0].place == "image"
    create_design_figure(drawing)


def test_the_figure_shares_its_rows_so_that_pointing_marks_both_passes(explained: MemoryExplanation) -> None:
    drawing = create_drawing(explained, budget_bytes=200 * KIB)
    figure = create_design_figure(drawing, compared=drawing, marked="block 13").to_dict()
    assert {trace.get("yaxis", "y") for trace in figure["data"]} == {"y"}
    layout = figure["layout"]
    assert (layout["hovermode"], layout["hoversubplots"]) == ("y unified", "axis")
    assert layout["yaxis"]["spikemode"] == "across"
    clickable = [trace for trace in figure["data"] if "customdata" in trace]
    places = [[place] for place in (row.place for row in drawing.rows)]
    assert len(clickable) == 3
    assert all(trace["customdata"] == places for trace in clickable)
    band = next(shape for shape in layout["shapes"] if shape.get("fillcolor", "").startswith("rgba(230"))
    row = drawing.row_of("block 13")
    assert row is not None
    assert (band["y0"], band["y1"]) == (row - 0.5, row + 0.5)
    assert "200.0 KiB" not in str(layout)  # the line alone; the pages' numbers say what it is
    assert {layout[axis]["title"]["text"] for axis in ("xaxis2", "xaxis3")} == {"KiB"}


def test_bars_are_the_bytes_alive_at_every_operator(explained: MemoryExplanation) -> None:
    drawing = create_drawing(explained)
    traces = {trace["name"]: trace for trace in create_design_figure(drawing).to_dict()["data"] if "name" in trace}
    for name, direction in (("alive forward", True), ("alive backward", False)):
        bars = traces[name]
        drawn = sorted(round((length + bars["base"]) * KIB) for length in bars["x"])
        turn = explained.graph.forward_ops
        live = explained.liveness.live_bytes
        wanted = live[:turn] if direction else live[turn:]
        assert drawn == sorted(size + drawing.state_bytes for size in wanted)


def test_the_data_has_a_row_per_place(explained: MemoryExplanation) -> None:
    drawing = create_drawing(explained)
    rows = {row["place"]: row for row in drawing_rows(drawing)}
    assert list(rows) == [row.place for row in drawing.rows]
    kept = sum(row["kept for backward (bytes)"] for row in rows.values())
    assert kept == explained.estimate.kept_bytes
    assert sum(row["MACs of the step"] for row in rows.values()) == explained.estimate.macs
    assert rows["block 3"]["alive backward (bytes)"] is None
