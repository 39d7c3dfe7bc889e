"""How much each field of a design decides over accuracy and over memory, as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from repnet_search.report.figures_style import BLUE, GREY, ORANGE, finish
from repnet_search.search.importance import FieldImportance


def create_importance_figure(fields: Sequence[FieldImportance]) -> go.Figure:
    """Returns two bars per field: its share of what decides accuracy, and of the variance of training memory.

    Args:
        fields: of a study, in the order in which they are drawn; where accuracies were too few, memory stands alone.
    """
    names = [item.field.replace("_", " ") for item in fields]
    figure = go.Figure()
    if any(item.accuracy is not None for item in fields):
        shares = [100 * (item.accuracy or 0.0) for item in fields]
        _add_bars(figure, names, shares, name="accuracy", colour=BLUE, pattern="")
        _add_chance(figure, names, [100 * (item.by_chance or 0.0) for item in fields])
    shares = [100 * item.memory for item in fields]
    _add_bars(figure, names, shares, name="training memory", colour=ORANGE, pattern="/")
    figure.update_layout(barmode="group", bargap=0.25, scattermode="group", scattergap=0.25)
    figure.update_xaxes(title="importance (%)", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", tickmode="linear")
    return finish(figure, height=130 + 36 * max(2, len(fields)))


def _add_bars(
    figure: go.Figure, names: Sequence[str], shares: Sequence[float], *, name: str, colour: str, pattern: str
) -> None:
    figure.add_bar(
        x=list(shares),
        y=list(names),
        orientation="h",
        name=name,
        offsetgroup=name,
        marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": "white"}},
        hovertemplate=f"%{{y}}: %{{x:.1f}} % of {name}<extra></extra>",
    )


def _add_chance(figure: go.Figure, names: Sequence[str], shares: Sequence[float]) -> None:
    """Marks how long a bar of accuracy could be by chance alone."""
    figure.add_scatter(
        x=list(shares),
        y=list(names),
        mode="markers",
        orientation="h",
        name="accuracy, by chance at most",
        offsetgroup="accuracy",
        marker={"symbol": "line-ns-open", "size": 14, "color": GREY, "line": {"width": 3}},
        hovertemplate="%{y}: by chance up to %{x:.1f} % in 95 % of shuffles<extra></extra>",
    )
