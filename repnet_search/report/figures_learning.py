"""Learning curves of the search's trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from repnet_search.report.figures_style import SERIES, SYMBOLS, finish


def create_losses_figure(curves: Mapping[str, Sequence[float]]) -> go.Figure:
    """Returns the mean training cross-entropy of each epoch, the first being 1, a line per design.

    Args:
        curves: of each design by its name, the losses of its epochs.
    """
    figure = go.Figure()
    for index, (name, losses) in enumerate(curves.items()):
        figure.add_scatter(
            x=list(range(1, len(losses) + 1)),
            y=list(losses),
            mode="lines+markers",
            name=name,
            line={"color": SERIES[index % len(SERIES)]},
            marker={"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 7},
            hovertemplate=f"{name}, epoch %{{x}}: %{{y:.4g}}<extra></extra>",
        )
    longest = max((len(losses) for losses in curves.values()), default=0)
    figure.update_xaxes(title="epoch of the search", tickformat="d", dtick=max(1, longest // 8))
    figure.update_yaxes(title="training loss, measured<br>(cross-entropy)", rangemode="tozero")
    return finish(figure, height=280, left=90, legend=len(curves) > 1)
