"""Accuracy against training memory, as a figure.

What a search saw is one short training of one seed (a proxy); what was confirmed was trained again, longer and from
fresh seeds. Proxies are drawn small and hollow, confirmed designs large and full, with the 95 % interval of their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from repnet_search.report.figures_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    add_limit,
    choose_unit,
    finish,
)
from repnet_search.report.front_points import SEARCHED, FrontPoint
from repnet_search.results.record import Outcome
from repnet_search.units import format_size

ROLE_MARKERS: Final = {
    SEARCHED: ("circle", BLUE),
    "last layer alone": ("square", SKY),
    "widest fitting": ("triangle-up", GREEN),
    "paper preset": ("diamond", PURPLE),
}
STRIP_MARKERS: Final = {
    Outcome.OVER_BUDGET: ("line-ns-open", VERMILLION),
    Outcome.STOPPED: ("diamond-tall-open", ORANGE),
    Outcome.FAILED: ("x-thin-open", GREY),
}

_WEBGL_FROM: Final = 1500
"""SVG makes an element of the page for each point."""
_FAINT: Final = 0.8


def create_front_figure(
    points: Sequence[FrontPoint],
    *,
    limit_bytes: int,
    limit_text: str,
    metric: str = "accuracy",
    selected: int | None = None,
    asked_bytes: int | None = None,
) -> go.Figure:
    """Returns validation accuracy (%) against training memory, each marker with its trial's number as custom data.

    Args:
        points: what is drawn; below the plot a strip has those without an accuracy.
        limit_bytes: what a design may take.
        limit_text: what stands beside the line there.
        metric: what the accuracy is called.
        selected: the trial to put a ring around.
        asked_bytes: another budget that is asked about.
    """
    unit_bytes, unit = choose_unit(max([limit_bytes, *(point.ram_bytes for point in points)]))
    figure = go.Figure()
    trained = [point for point in points if point.proxy is not None]
    stripped = [point for point in points if point.proxy is None]
    _add_front_line(figure, trained, limit_bytes=limit_bytes, unit_bytes=unit_bytes)
    _add_halos(figure, trained, unit_bytes=unit_bytes)
    _add_trained(figure, trained, unit_bytes=unit_bytes)
    ring = {"symbol": "circle-open", "size": 24, "color": VERMILLION, "line": {"width": 2.5}}
    chosen = [point for point in points if point.trial == selected]
    _add_markers(figure, [point for point in chosen if point in trained], "selected", ring, unit_bytes=unit_bytes)
    if stripped:
        _add_strip(figure, stripped, unit_bytes=unit_bytes)
    if asked_bytes is not None and asked_bytes != limit_bytes:
        figure.add_vline(x=asked_bytes / unit_bytes, line={"color": GREY, "width": 2, "dash": "dot"})
    add_limit(figure, limit_bytes / unit_bytes, text=limit_text)
    figure.update_xaxes(title=f"training memory, estimated ({unit})", rangemode="tozero")
    figure.update_layout(yaxis={"title": f"validation {metric}, measured (%)"})
    return finish(figure, height=580 if stripped else 520)


def _add_front_line(figure: go.Figure, points: Sequence[FrontPoint], *, limit_bytes: int, unit_bytes: int) -> None:
    """Draws steps: between two designs, the cheaper one is the best there is; so too from the last to the budget."""
    front = sorted((point for point in points if point.on_front), key=lambda point: point.ram_bytes)
    x, y = [point.ram_bytes / unit_bytes for point in front], [_proxy(point) for point in front]
    if front and front[-1].ram_bytes < limit_bytes:
        x, y = [*x, limit_bytes / unit_bytes], [*y, y[-1]]
    line = {"shape": "hv", "color": GREY, "width": 1.5}
    figure.add_scatter(x=x, y=y, mode="lines", name="front of the search", line=line, hoverinfo="skip")


def _add_halos(figure: go.Figure, points: Sequence[FrontPoint], *, unit_bytes: int) -> None:
    """Marks the best design, the recommended one, and those within a point of the best, behind their markers."""
    best = [point for point in points if point.is_winner]
    cheapest = [point for point in points if point.is_recommended and not point.is_winner]
    near = [point for point in points if point.is_near_best and not point.is_winner and not point.is_recommended]
    star = {"symbol": "star", "size": 30, "color": ORANGE, "opacity": 0.7}
    disc = {"symbol": "circle", "size": 22, "color": ORANGE, "opacity": 0.5}
    hexagon = {"symbol": "hexagon", "size": 28, "color": GREEN, "opacity": 0.5}
    _add_markers(figure, best, "best", star, unit_bytes=unit_bytes)
    _add_markers(figure, near, "within 1 point of the best", disc, unit_bytes=unit_bytes)
    _add_markers(figure, cheapest, "the cheapest of them", hexagon, unit_bytes=unit_bytes)


def _add_trained(figure: go.Figure, points: Sequence[FrontPoint], *, unit_bytes: int) -> None:
    """Adds the proxies, hollow where something was confirmed, and the confirmed means with their intervals."""
    faint = any(point.confirmed is not None for point in points)
    for role, (symbol, colour) in ROLE_MARKERS.items():
        proxies = [point for point in points if point.role == role]
        confirmed = [point for point in proxies if point.confirmed is not None]
        marker = {"symbol": symbol, "color": colour}
        as_proxy = marker | _style_proxies(symbol, count=len(proxies), faint=faint)
        _add_markers(figure, proxies, role, as_proxy, unit_bytes=unit_bytes, y=_proxy, hover=_describe_proxy)
        if proxies:
            figure.data[-1].legendgroup = role
        if confirmed:
            strong = marker | {"size": 12, "line": {"width": 1, "color": "white"}}
            name = f"{role}, confirmed"
            _add_markers(figure, confirmed, name, strong, unit_bytes=unit_bytes, hover=_describe_confirmed)
            figure.data[-1].update(error_y=_error_bars(confirmed, colour), legendgroup=role, showlegend=False)
    if faint:
        _add_confirmed_to_legend(figure, has_intervals=any(point.interval is not None for point in points))


def _style_proxies(symbol: str, *, count: int, faint: bool) -> dict[str, Any]:
    """Returns how proxies are drawn: as dots where they are so many that rings would be one patch of colour."""
    if count > _WEBGL_FROM:
        return {"size": 4, "opacity": 0.5}
    return {"symbol": f"{symbol}-open", "size": 8, "opacity": _FAINT} if faint else {"size": 10}


def _add_confirmed_to_legend(figure: go.Figure, *, has_intervals: bool) -> None:
    """Says what a large marker with a bar is, whatever its shape."""
    marker = {"symbol": "circle", "size": 12, "color": GREY, "line": {"width": 1, "color": "white"}}
    bars = {"type": "data", "array": [1], "color": GREY, "thickness": 2, "width": 5} if has_intervals else None
    name = "full: confirmed, with 95 % interval" if has_intervals else "full: confirmed"
    figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker, error_y=bars, hoverinfo="skip")


def _add_strip(figure: go.Figure, points: Sequence[FrontPoint], *, unit_bytes: int) -> None:
    """Draws what has no accuracy to compare in a strip of its own below the plot."""
    figure.update_layout(
        yaxis={"domain": [0.26, 1]},
        yaxis2={"domain": [0, 0.15], "anchor": "x", "showgrid": False, "zeroline": False, "type": "category"},
        xaxis={"anchor": "y2"},
    )
    for outcome, (symbol, colour) in STRIP_MARKERS.items():
        members = [point for point in points if point.outcome is outcome]
        if members:
            marker = {"symbol": symbol, "color": colour, "size": 10, "line": {"width": 2, "color": colour}}
            place = lambda point: point.outcome.value  # noqa: E731
            _add_markers(
                figure, members, outcome.value, marker, unit_bytes=unit_bytes, y=place, hover=_describe_without_accuracy
            )
            figure.data[-1].yaxis = "y2"


def _add_markers(
    figure: go.Figure,
    points: Sequence[FrontPoint],
    name: str,
    marker: dict[str, Any],
    *,
    unit_bytes: int,
    y: Callable[[FrontPoint], float | str] | None = None,
    hover: Callable[[FrontPoint], str] | None = None,
) -> None:
    """Adds markers with trial numbers; Plotly would fade the others after a click, the ring shows the choice."""
    if not points:
        return
    place = y or _best_known
    trace = go.Scattergl if len(points) > _WEBGL_FROM else go.Scatter
    keep = {"marker": {"opacity": marker.get("opacity", 1)}}
    figure.add_trace(
        trace(
            x=_as_array([point.ram_bytes / unit_bytes for point in points]),
            y=_as_array([place(point) for point in points]),
            mode="markers",
            name=name,
            marker=marker,
            customdata=_as_array([[point.trial] for point in points]),
            hovertext=_as_array([hover(point) for point in points]) if hover is not None else None,
            hovertemplate="%{hovertext}<extra></extra>" if hover is not None else None,
            hoverinfo="skip" if hover is None else None,
            selected=keep,
            unselected=keep,
        )
    )


def _as_array(values: Sequence[Any]) -> NDArray[np.object_]:
    """Returns values as what Plotly takes as it is; of a list it checks every item."""
    return np.array(values, dtype=object)


def _error_bars(points: Sequence[FrontPoint], colour: str) -> dict[str, Any]:
    """Returns the intervals, cut off at 0 and 100 %, beyond which no accuracy is."""
    halves = [(_best_known(point), 100 * (point.interval or 0.0)) for point in points]
    return {
        "type": "data",
        "array": [min(half, 100 - mean) for mean, half in halves],
        "arrayminus": [min(half, mean) for mean, half in halves],
        "color": colour,
        "thickness": 2,
        "width": 5,
    }


def _describe(point: FrontPoint) -> str:
    return f"design {point.design}, trial {point.trial}, {point.role}<br>{format_size(point.ram_bytes)}, estimated"


def _describe_proxy(point: FrontPoint) -> str:
    return f"{_describe(point)}<br>{_proxy(point):.1f} %, measured once, in the search"


def _describe_confirmed(point: FrontPoint) -> str:
    spread = f" ± {100 * point.interval:.1f}" if point.interval is not None else ""
    seeds = f"the mean of {point.seeds} seeds" if point.seeds > 1 else "one fresh seed"
    epochs = f"{point.epochs} epoch{'s' if point.epochs > 1 else ''}"
    return f"{_describe(point)}<br>{_best_known(point):.1f}{spread} %, {seeds}, {epochs}"


def _describe_without_accuracy(point: FrontPoint) -> str:
    return f"{_describe(point)}<br>{point.outcome.value}"


def _proxy(point: FrontPoint) -> float:
    return _percent(point.proxy)


def _best_known(point: FrontPoint) -> float:
    return _percent(point.confirmed if point.confirmed is not None else point.proxy)


def _percent(share: float | None) -> float:
    return round(100 * share, 4) if share is not None else 0.0
