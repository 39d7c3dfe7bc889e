"""The browser's plots, from the data frames of browser_tables.

Colours are those of [Okabe2008color], which colour-blind readers tell apart and which stand out on a light and on a
dark page; kinds of designs differ in their symbol too.

[Okabe2008color] M. Okabe, K. Ito, Color Universal Design, 2008.
"""

from __future__ import annotations

from typing import Final

import pandas as pd
import plotly.graph_objects as go

_BLUE: Final = "#0072B2"
_SKY: Final = "#56B4E9"
_GREEN: Final = "#009E73"
_ORANGE: Final = "#E69F00"
_VERMILLION: Final = "#D55E00"
_PURPLE: Final = "#CC79A7"
_GREY: Final = "#808495"

_ROLE_MARKERS: Final = {
    "searched": ("circle", _BLUE),
    "last layer alone": ("square", _SKY),
    "widest fitting": ("triangle-up", _GREEN),
    "paper preset": ("diamond", _PURPLE),
}
_TERM_COLOURS: Final = (_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _VERMILLION)


def create_front_figure(
    points: pd.DataFrame, *, limit_kib: float, limit_text: str, winner: int | None, selected: int | None
) -> go.Figure:
    """Returns accuracy (%) against memory (KiB): a marker per trained design, the front, the budget.

    Args:
        points: the rows of `points_table`.
        limit_kib: what a design may take.
        limit_text: what stands beside the line at `limit_kib`.
        winner: the trial to mark as the best within the budget.
        selected: the trial that the page shows.
    """
    memory, accuracy = points.columns[3], points.columns[4]
    figure = go.Figure()
    halo = {"symbol": "star", "size": 26, "color": _ORANGE, "opacity": 0.7}
    _add_markers(figure, points[points["trial"] == winner], name="best in budget", marker=halo)
    _add_front(figure, points[points["on the front"]].sort_values(memory), limit_kib=limit_kib)
    for role, (symbol, colour) in _ROLE_MARKERS.items():
        rows = points[points["role"] == role]
        if len(rows):
            _add_markers(figure, rows, name=role, marker={"symbol": symbol, "color": colour, "size": 10})
    ring = {"symbol": "circle-open", "size": 22, "color": _GREY, "line": {"width": 2}}
    _add_markers(figure, points[points["trial"] == selected], name="shown below", marker=ring)
    _add_limit(figure, limit_kib, text=limit_text)
    figure.update_xaxes(title=memory, rangemode="tozero")
    figure.update_yaxes(title=accuracy)
    return _finish(figure, height=460)


def create_terms_figure(terms: pd.DataFrame, *, limit_kib: float, limit_text: str) -> go.Figure:
    """Returns one stacked bar of the memory terms (KiB) against the budget."""
    memory = terms.columns[1]
    figure = go.Figure()
    for index, (term, size_kib) in enumerate(terms.itertuples(index=False, name=None)):
        figure.add_bar(
            x=[size_kib],
            y=[""],
            orientation="h",
            name=term,
            marker={"color": _TERM_COLOURS[index % len(_TERM_COLOURS)]},
            texttemplate="%{x:.1f}",
            textposition="inside",
            textangle=0,
            insidetextanchor="middle",
            hovertemplate=f"{term}: %{{x:.1f}} KiB<extra></extra>",
        )
    _add_limit(figure, limit_kib, text=limit_text)
    figure.update_layout(barmode="stack", bargap=0.5, uniformtext={"mode": "hide", "minsize": 10})
    figure.update_xaxes(title=memory, rangemode="tozero")
    figure.update_yaxes(showticklabels=False)
    return _finish(figure, height=210)


def create_losses_figure(losses: pd.DataFrame) -> go.Figure:
    """Returns the mean cross-entropy of each epoch."""
    epoch, loss = losses.columns
    figure = go.Figure()
    figure.add_scatter(
        x=losses[epoch],
        y=losses[loss],
        mode="lines+markers",
        line={"color": _BLUE},
        hovertemplate="epoch %{x}: %{y:.4g}<extra></extra>",
    )
    figure.update_xaxes(title=epoch, tickformat="d", dtick=max(1, len(losses) // 8))
    figure.update_yaxes(title=f"{loss} (cross-entropy)", rangemode="tozero")
    return _finish(figure, height=260)


def _add_front(figure: go.Figure, front: pd.DataFrame, *, limit_kib: float) -> None:
    """Draws steps: between two designs, the cheaper one is the best there is; so too from the last to the budget."""
    memory, accuracy = front.columns[3], front.columns[4]
    x, y = front[memory].tolist(), front[accuracy].tolist()
    if x and x[-1] < limit_kib:
        x, y = [*x, limit_kib], [*y, y[-1]]
    line = {"shape": "hv", "color": _GREY, "width": 2}
    figure.add_scatter(x=x, y=y, mode="lines", name="Pareto front", line=line, hoverinfo="skip")


def _add_markers(figure: go.Figure, rows: pd.DataFrame, *, name: str, marker: dict[str, object]) -> None:
    """Adds markers with the trial number as custom data; Plotly would fade the others after a click, the ring does."""
    memory, accuracy = rows.columns[3], rows.columns[4]
    figure.add_scatter(
        x=rows[memory].tolist(),
        y=rows[accuracy].tolist(),
        mode="markers",
        name=name,
        marker=marker,
        customdata=[[number] for number in rows["trial"].tolist()],
        text=rows["design"].tolist(),
        hovertemplate="trial %{customdata[0]}, design %{text}<br>%{y:.1f} % in %{x:.1f} KiB<extra>" + name + "</extra>",
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        showlegend=len(rows) > 0,
    )


def _add_limit(figure: go.Figure, limit_kib: float, *, text: str) -> None:
    """Draws the budget; its text stands left of the line, where there is always room."""
    figure.add_vline(
        x=limit_kib,
        line={"color": _VERMILLION, "width": 2, "dash": "dash"},
        annotation={"text": text, "font": {"color": _VERMILLION}},
        annotation_position="bottom left",
        annotation_yshift=4,
    )


def _finish(figure: go.Figure, *, height: int) -> go.Figure:
    place = {"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0}
    legend = place | {"traceorder": "normal", "entrywidth": 95}
    margin = {"l": 10, "r": 10, "t": 30, "b": 10}
    figure.update_layout(height=height, margin=margin, legend=legend, dragmode=False)
    return figure
