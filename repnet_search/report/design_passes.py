"""The memory part of a design's drawing: the bytes alive at every operator, in the row of its place."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go

from repnet_search.report.design_drawing import DesignDrawing, Moment
from repnet_search.report.figures_style import GREY, ORANGE, PURPLE
from repnet_search.units import format_size

UNFADED: Final[dict[str, Any]] = {
    "selected": {"marker": {"opacity": 1}},
    "unselected": {"marker": {"opacity": 1}},
}
"""Plotly fades what was not clicked."""
_MOST_OPERATORS: Final = 8
_FARTHEST_BUDGET: Final = 2.5


def near_budget(budget_bytes: int | None, heaviest_bytes: int) -> int | None:
    """Returns a budget that is near enough to what is drawn to stand on the same axis, None for one far above it."""
    return budget_bytes if budget_bytes is not None and budget_bytes <= _FARTHEST_BUDGET * heaviest_bytes else None


def add_moments(
    figure: go.Figure, drawing: DesignDrawing, axis: str, unit: tuple[int, str], *, name: str, colour: str
) -> None:
    """Draws the bytes alive at each operator of a pass: the rows are read downwards, those of the way back upwards."""
    bars = [
        (row.place, *place)
        for index, row in enumerate(drawing.rows)
        for place in _spread(row.forward if name == "forward" else row.backward, index, upwards=name == "backward")
    ]
    state = drawing.state_bytes
    figure.add_bar(
        x=[(moment.alive_bytes - state) / unit[0] for _, moment, _, _ in bars],
        base=state / unit[0],
        y=[centre for _, _, centre, _ in bars],
        width=[height for _, _, _, height in bars],
        orientation="h",
        xaxis=axis,
        marker={"color": colour, "line": {"width": 0}},
        name=f"alive {name}",
        hoverinfo="skip",
    )
    _add_tips(figure, drawing, axis, unit[0], name=name)
    figure.add_shape(
        type="rect",
        xref=axis,
        yref="paper",
        x0=0,
        x1=state / unit[0],
        y0=0,
        y1=1,
        fillcolor=GREY,
        opacity=0.35,
        line_width=0,
        layer="below",
    )


def _add_tips(figure: go.Figure, drawing: DesignDrawing, axis: str, unit_bytes: int, *, name: str) -> None:
    """Lays a bar that is not seen over each row: it carries what pointing there says, the row's operators together."""
    rows = [(index, row, getattr(row, name)) for index, row in enumerate(drawing.rows)]
    figure.add_bar(
        x=[max((moment.alive_bytes for moment in moments), default=0) / unit_bytes for _, _, moments in rows],
        y=[index for index, _, _ in rows],
        width=1,
        orientation="h",
        xaxis=axis,
        marker={"color": "rgba(0,0,0,0)", "line": {"width": 0}},
        name=f"{name} pass",
        customdata=[[row.place] for _, row, _ in rows],
        hovertext=[_describe_moments(moments, name=name) for _, _, moments in rows],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
        **UNFADED,
    )


def _describe_moments(moments: tuple[Moment, ...], *, name: str) -> str:
    if not moments:
        return f"{name}: nothing runs"
    most = max(moment.alive_bytes for moment in moments)
    lines = [f"{name}: at most {format_size(most)} alive"]
    lines += [f"  {moment.operator} {format_size(moment.alive_bytes)}" for moment in moments[:_MOST_OPERATORS]]
    left_out = len(moments) - _MOST_OPERATORS
    return "<br>".join([*lines, *([f"  and {left_out} more"] if left_out > 0 else [])])


def _spread(moments: tuple[Moment, ...], row: int, *, upwards: bool) -> list[tuple[Moment, float, float]]:
    """Returns the moments of a row with their centre and their height in it."""
    height = 1 / max(1, len(moments))
    centres = [row - 0.5 + (position + 0.5) * height for position in range(len(moments))]
    return [(moment, centre, height) for moment, centre in zip(moments, centres[:: -1 if upwards else 1], strict=True)]


def add_compared(
    figure: go.Figure, drawing: DesignDrawing, compared: DesignDrawing, axis: str, unit_bytes: int, *, name: str
) -> None:
    """Marks the most bytes that another design has alive at the places that both have."""
    rows = []
    for index, row in enumerate(drawing.rows):
        other = compared.row_of(row.place)
        moments = () if other is None else getattr(compared.rows[other], name)
        if moments:
            rows.append((index, max(moment.alive_bytes for moment in moments)))
    figure.add_scatter(
        x=[alive / unit_bytes for _, alive in rows],
        y=[index for index, _ in rows],
        mode="markers",
        xaxis=axis,
        marker={"symbol": "line-ns", "size": 16, "line": {"width": 3, "color": PURPLE}, "color": PURPLE},
        name="the start",
        hovertext=[f"start: at most {format_size(alive)}" for _, alive in rows],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=name == "forward",
    )


def add_peak(figure: go.Figure, drawing: DesignDrawing, unit_bytes: int) -> None:
    """Marks the first operator at which most is alive."""
    for axis, upwards in (("x2", False), ("x3", True)):
        for index, row in enumerate(drawing.rows):
            for moment, centre, _ in _spread(row.backward if upwards else row.forward, index, upwards=upwards):
                if row.place != drawing.peak_place or moment.alive_bytes != drawing.peak_bytes:
                    continue
                figure.add_scatter(
                    x=[moment.alive_bytes / unit_bytes],
                    y=[centre],
                    mode="markers",
                    xaxis=axis,
                    marker={"symbol": "diamond", "size": 11, "color": ORANGE, "line": {"color": GREY, "width": 1}},
                    name=f"peak {format_size(drawing.peak_bytes)}",
                    hoverinfo="skip",
                )
                return
