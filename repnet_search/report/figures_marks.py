"""What is marked in the picture of a training step: peak, budget, where the backward pass begins, a place."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go

from repnet_search.report.design_passes import near_budget
from repnet_search.report.figures_style import GREY, ORANGE
from repnet_search.report.memory_plot import BUDGET_COLOUR, MemoryPicture

_ROOM_FOR_NAME: Final = 0.85
_LABEL_PIXELS: Final = 12
_ALIVE_PIXELS: Final = 330
"""Of the upper part."""
_BAND: Final = {"fillcolor": ORANGE, "opacity": 0.25, "line_width": 0, "layer": "below"}


def add_marks(figure: go.Figure, picture: MemoryPicture, marked: str | None) -> None:
    """Marks the peak, the budget, where the backward pass begins, and the operators of a place."""
    unit, is_left = picture.unit_bytes, picture.peak_op < 0.6 * len(picture.operators)
    for row in (1, 2):
        figure.add_vline(x=picture.forward_ops - 0.5, line={"width": 1, "dash": "dot", "color": GREY}, row=row, col=1)
        for first, last in _spans(picture, marked):
            figure.add_vrect(x0=first - 0.5, x1=last + 0.5, row=row, col=1, **_BAND)
    figure.add_annotation(
        x=picture.peak_op,
        y=picture.peak_bytes / unit,
        text=f"<b>{picture.peak_label}</b>",
        xanchor="left" if is_left else "right",
        ax=20 if is_left else -20,
        ay=-_peak_label_pixels(picture),
        arrowhead=2,
        row=1,
        col=1,
    )
    budget = near_budget(picture.budget_bytes, picture.peak_bytes)
    if budget is not None:
        height = budget / unit
        figure.add_hline(y=height, line={"color": BUDGET_COLOUR, "dash": "dash"}, row=1, col=1)
        font = {"color": BUDGET_COLOUR}
        label: dict[str, Any] = {"text": f"<b>{picture.budget_label}</b>", "font": font, "yanchor": "bottom"}
        figure.add_annotation(x=picture.quiet_op, y=height, showarrow=False, row=1, col=1, **label)
    _name_passes(figure, picture)


def top_bytes(picture: MemoryPicture) -> float:
    """Returns where the upper part ends."""
    return 1.12 * max(picture.peak_bytes, near_budget(picture.budget_bytes, picture.peak_bytes) or 0)


def _peak_label_pixels(picture: MemoryPicture) -> float:
    """Returns how far above the peak its name stands: above the budget's line too, where that would strike it out."""
    budget = near_budget(picture.budget_bytes, picture.peak_bytes)
    if budget is None or budget < picture.peak_bytes:
        return _LABEL_PIXELS
    gap = _ALIVE_PIXELS * (budget - picture.peak_bytes) / top_bytes(picture)
    return gap + _LABEL_PIXELS if gap < 2 * _LABEL_PIXELS else _LABEL_PIXELS


def _name_passes(figure: go.Figure, picture: MemoryPicture) -> None:
    """Names both passes above the line between them; a backward pass too short for its name is named on the left."""
    turn, names = picture.forward_ops - 0.5, [("forward ", "right"), (" backward", "left")]
    if turn > _ROOM_FOR_NAME * len(picture.operators):
        names = [("forward | backward", "right")]
    for text, anchor in names:
        place = {"x": turn, "y": 1, "yref": "y domain", "xanchor": anchor, "yanchor": "bottom"}
        figure.add_annotation(place | {"text": f"<i>{text}</i>", "showarrow": False})


def _spans(picture: MemoryPicture, place: str | None) -> list[tuple[int, int]]:
    """Returns the runs of operators that belong to a place, the first and the last of each."""
    spans: list[tuple[int, int]] = []
    for index, name in enumerate(picture.operators):
        if place is None or not name.startswith(f"{place}, "):
            continue
        if spans and spans[-1][1] == index - 1:
            spans[-1] = (spans[-1][0], index)
        else:
            spans.append((index, index))
    return spans
