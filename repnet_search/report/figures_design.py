"""The drawing of a design beside the memory of its training step, row by row: blocks and modules with their arrows.

Drawing, forward and backward pass share their rows, so that pointing at a block marks it in both passes.
"""

from __future__ import annotations

from itertools import chain
from math import ceil, sqrt
from typing import Final

import plotly.graph_objects as go

from repnet_search.report.design_drawing import (
    BACKBONE_LANE,
    REPNET_LANE,
    DesignDrawing,
    Flow,
    Part,
    Row,
)
from repnet_search.report.design_passes import UNFADED, add_compared, add_moments, add_peak, near_budget
from repnet_search.report.figures_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    YELLOW,
    choose_unit,
    finish,
)
from repnet_search.units import format_number, format_size

ROW_PIXELS: Final = 25
_FRAME_PIXELS: Final = 190
_LABEL_PIXELS: Final = 6
"""Of a letter left of a row, more than its usual width."""
_LEGEND_COLUMNS: Final = 5
_BOX_HEIGHT: Final = 0.66
_WIDEST_BOX, _NARROWEST_BOX = 0.62, 0.12
_SUM_RADIUS: Final = 0.08
_LANES: Final = (-0.42, 1.42)
_BAND: Final = "rgba(230, 159, 0, 0.28)"
"""Orange, see-through: what was chosen."""

_PART_COLOURS: Final = {
    Part.IMAGE: YELLOW,
    Part.FORWARD_ONLY: SKY,
    Part.GRADIENT: SKY,
    Part.TRAINED: GREEN,
}
_PART_LINES: Final = {
    Part.IMAGE: (GREY, 1.0),
    Part.FORWARD_ONLY: (GREY, 1.0),
    Part.GRADIENT: (VERMILLION, 2.5),
    Part.TRAINED: (GREY, 1.0),
}
"""Colour and width of the edges."""
_FLOW_COLOURS: Final = {Flow.BACKBONE: GREY, Flow.STREAM: GREEN, Flow.WRITE: VERMILLION, Flow.READ: BLUE}
_FLOW_DASHES: Final = {Flow.BACKBONE: "solid", Flow.STREAM: "solid", Flow.WRITE: "solid", Flow.READ: "dot"}


def create_design_figure(
    drawing: DesignDrawing, *, compared: DesignDrawing | None = None, marked: str | None = None
) -> go.Figure:
    """Returns the drawing with the bytes alive in both passes beside it.

    Args:
        drawing: of the design.
        compared: of another design, whose bytes are marked at the places that both have.
        marked: the place to mark, such as "block 6".
    """
    figure = go.Figure()
    heaviest = max(drawing.peak_bytes, compared.peak_bytes if compared is not None else 0)
    unit = choose_unit(heaviest)
    _add_arrows(figure, drawing)
    _add_boxes(figure, drawing)
    for axis, name, colour in (("x2", "forward", BLUE), ("x3", "backward", VERMILLION)):
        add_moments(figure, drawing, axis, unit, name=name, colour=colour)
        if compared is not None:
            add_compared(figure, drawing, compared, axis, unit[0], name=name)
    add_peak(figure, drawing, unit[0])
    _lay_out(figure, drawing, heaviest, unit)
    row = drawing.row_of(marked) if marked is not None else None
    if row is not None:
        figure.add_hrect(y0=row - 0.5, y1=row + 0.5, fillcolor=_BAND, line_width=0, layer="below")
    return figure


def _add_arrows(figure: go.Figure, drawing: DesignDrawing) -> None:
    for flow in Flow:
        paths = [arrow.points for arrow in drawing.arrows if arrow.flow is flow]
        if not paths:
            continue
        cut = [_shorten(path, flow) for path in paths]
        points = list(chain.from_iterable([*path, (None, None)] for path in cut))
        sizes = list(chain.from_iterable([*[0] * (len(path) - 1), 9, 0] for path in cut))
        figure.add_scatter(
            x=[point[0] for point in points],
            y=[point[1] for point in points],
            mode="lines+markers",
            line={"color": _FLOW_COLOURS[flow], "width": 1.8, "dash": _FLOW_DASHES[flow]},
            marker={"symbol": "arrow", "angleref": "previous", "size": sizes, "color": _FLOW_COLOURS[flow]},
            name=flow.value,
            hoverinfo="skip",
        )
    if drawing.additions:
        figure.add_scatter(
            x=[lane for lane, _ in drawing.additions],
            y=[row for _, row in drawing.additions],
            mode="markers",
            marker={"symbol": "circle-cross-open", "size": 11, "color": GREY, "line": {"width": 1.8}},
            name="sum",
            hoverinfo="skip",
            showlegend=False,
        )


def _shorten(path: tuple[tuple[float, float], ...], flow: Flow) -> list[tuple[float, float]]:
    """Returns a path from the edge of the box that it comes from to that of the box or sum that it points to."""
    (x0, y0), (x1, y1) = path[-2:]
    start_x, start_y = path[0]
    if len(path) == 2 and y0 == y1 and flow is Flow.WRITE:
        start_x -= _NARROWEST_BOX / 2
    elif x0 == x1 and not start_y % 1:
        start_y += _BOX_HEIGHT / 2
    if y0 == y1:
        end = (x1 - _SUM_RADIUS if x1 > x0 else x1 + _SUM_RADIUS, y1)
    else:
        end = (x1, y1 - (_SUM_RADIUS * 2 if y1 % 1 else _BOX_HEIGHT / 2))
    return [(start_x, start_y), *path[1:-1], end]


def _add_boxes(figure: go.Figure, drawing: DesignDrawing) -> None:
    """Draws a box per place, as wide as the root of its output's bytes, in one trace; and r_0 beside the image."""
    rows = drawing.rows
    largest = max(row.output_bytes for row in rows)
    lanes = [REPNET_LANE if row.place.startswith("module") else BACKBONE_LANE for row in rows]
    widths = [_box_width(row.output_bytes, largest) for row in rows]
    lines = [_PART_LINES[row.part] for row in rows]
    figure.add_bar(
        x=widths,
        base=[lane - width / 2 for lane, width in zip(lanes, widths, strict=True)],
        y=list(range(len(rows))),
        width=_BOX_HEIGHT,
        orientation="h",
        marker={
            "color": [_PART_COLOURS[row.part] for row in rows],
            "line": {"color": [colour for colour, _ in lines], "width": [width for _, width in lines]},
        },
        name="place",
        customdata=[[row.place] for row in rows],
        hovertext=[_describe(row) for row in rows],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
        **UNFADED,
    )
    if drawing.r0 is not None:
        _add_pooled_image(figure, _box_width(drawing.r0[1], largest))
    for part in dict.fromkeys(row.part for row in rows):
        _name_part(figure, part)


def _box_width(output_bytes: int, largest_bytes: int) -> float:
    return max(_NARROWEST_BOX, _WIDEST_BOX * sqrt(output_bytes / largest_bytes))


def _add_pooled_image(figure: go.Figure, width: float) -> None:
    figure.add_bar(
        x=[width],
        base=[REPNET_LANE - width / 2],
        y=[0],
        width=_BOX_HEIGHT,
        orientation="h",
        marker={"color": YELLOW, "line": {"color": GREY, "width": 1}},
        name="r₀",
        showlegend=False,
        hoverinfo="skip",
    )


def _name_part(figure: go.Figure, part: Part) -> None:
    """Puts a kind of place into the legend."""
    colour, width = _PART_LINES[part]
    marker = {"symbol": "square", "size": 11, "color": _PART_COLOURS[part], "line": {"color": colour, "width": width}}
    figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=part.value, hoverinfo="skip")


def _describe(row: Row) -> str:
    """Returns what pointing at a box says: its output, what it keeps, what it computes."""
    lines = [f"output {row.dimensions}, {format_size(row.output_bytes)}"]
    memory = row.memory
    if memory is not None and memory.kept_bytes:
        masks = f" (masks {format_size(memory.mask_bytes)})" if memory.mask_bytes else ""
        lines.append(f"keeps {format_size(memory.kept_bytes)} for the backward pass{masks}")
    if memory is not None and memory.macs:
        lines.append(f"{memory.macs / 1e6:.2f} million MACs a step")
    if memory is not None and memory.trainable_parameters:
        lines.append(f"{format_number(memory.trainable_parameters)} trained parameters")
    return "<br>".join(lines)


def _lay_out(figure: go.Figure, drawing: DesignDrawing, heaviest: int, unit: tuple[int, str]) -> None:
    count = len(drawing.rows)
    budget = near_budget(drawing.budget_bytes, heaviest)
    top = 1.06 * max(heaviest, budget or 0) / unit[0]
    scale = {
        "range": [0, top],
        "anchor": "y",
        "title": {"text": unit[1], "standoff": 4},
        "nticks": 5,
        "zeroline": False,
    }
    figure.update_layout(
        legend={"entrywidth": 118, "font": {"size": 11}},
        barmode="overlay",
        hovermode="y unified",
        hoversubplots="axis",
        hoverdistance=ROW_PIXELS // 2,  # the rows above and below are no part of what is pointed at
        spikedistance=ROW_PIXELS // 2,
        xaxis={"domain": [0, 0.34], "range": list(_LANES), "showgrid": False, "zeroline": False, "anchor": "y"}
        | {"tickvals": [BACKBONE_LANE, REPNET_LANE], "ticktext": ["frozen", "Rep-Net"], "side": "top"}
        | {"tickangle": 0, "tickfont": {"size": 11}},
        xaxis2=scale | {"domain": [0.38, 0.68]},
        xaxis3=scale | {"domain": [0.72, 1]},
        yaxis={
            "range": [count - 0.4, -0.6],
            "tickvals": list(range(count)),
            "ticktext": [_label(row) for row in drawing.rows],
            "ticks": "",
            "showgrid": False,
            "zeroline": False,
            "showspikes": True,
            "spikemode": "across",
            "spikesnap": "hovered data",
            "spikethickness": 2,
            "spikedash": "solid",
            "spikecolor": ORANGE,
        },
    )
    finish(
        figure,
        height=_FRAME_PIXELS + ROW_PIXELS * count,
        left=10 + _LABEL_PIXELS * max(len(_label(row)) - len("<b></b>") for row in drawing.rows),
        bottom=50,
        legend_rows=ceil(sum(trace.showlegend is not False for trace in figure.data) / _LEGEND_COLUMNS),
    )
    for axis, text in (("x2", "forward ↓"), ("x3", "backward ↑")):
        figure.add_annotation(
            x=0, xref=f"{axis} domain", y=1, yref="paper", yanchor="bottom", xanchor="left", text=text, showarrow=False
        )
        if budget is not None:
            at = budget / unit[0]
            line = {"color": VERMILLION, "width": 2, "dash": "dash"}
            figure.add_shape(type="line", xref=axis, yref="paper", x0=at, x1=at, y0=0, y1=1, line=line)


def _label(row: Row) -> str:
    short = row.place.replace("module ", "m").replace("block ", "b")
    return f"<b>{short}</b> {row.dimensions} · {format_size(row.output_bytes)}"
