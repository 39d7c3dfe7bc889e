"""What is taken for what: the confusion matrix of a trained design, and its accuracy per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go

from repnet_search.report.figures_style import BLUE, GREY, finish

_PALE: Final = "#DCEAF3"
"""Opaque, so that the counts can be read on a dark page too."""
MOST_COUNTS: Final = 20
"""Classes up to which the matrix shows its counts."""
_LEAST_PIXELS, _CELL_PIXELS, _MOST_PIXELS = 320, 30, 900


def create_confusion_figure(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> go.Figure:
    """Returns the confusion matrix, the colour as the share of the true class, so that small classes are seen too.

    Args:
        labels: of the classes.
        counts: images by true class (rows) and predicted class.
    """
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    names = [_plain(label) for label in labels]
    figure = go.Figure(
        go.Heatmap(
            x=names,
            y=names,
            z=[[100 * share if share else None for share in row] for row in shares],
            text=[[str(count) if count else "" for count in row] for row in counts],
            texttemplate="%{text}" if len(labels) <= MOST_COUNTS else None,
            customdata=counts,
            colorscale=[[0, _PALE], [1, BLUE]],
            zmin=0,
            zmax=100,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "% of the<br>true class"}, "thickness": 10, "len": 0.8},
            hovertemplate="true %{y}, taken for %{x}: %{customdata} images (%{z:.1f} %)<extra></extra>",
        )
    )
    height = min(_MOST_PIXELS, max(_LEAST_PIXELS, 90 + _CELL_PIXELS * len(labels)))
    finish(figure, height=height, legend=False)
    figure.update_xaxes(title="predicted class", type="category", showgrid=False)
    figure.update_yaxes(title="true class", type="category", autorange="reversed", showgrid=False)
    return figure


def create_classes_figure(labels: Sequence[str], accuracies: Sequence[float | None]) -> go.Figure:
    """Returns the accuracy (%) of each class, the worst first.

    Args:
        labels: of the classes.
        accuracies: in 0..1; None of a class without images, which is left out.
    """
    known = [(share, label) for label, share in zip(labels, accuracies, strict=True) if share is not None]
    ranked = sorted(known)
    figure = go.Figure(
        go.Bar(
            x=[100 * share for share, _ in ranked],
            y=[_plain(label) for _, label in ranked],
            orientation="h",
            marker={"color": BLUE, "line": {"color": GREY, "width": 0}},
            texttemplate="%{x:.0f}",
            textposition="auto",
            textangle=0,
            hovertemplate="class %{y}: %{x:.1f} %<extra></extra>",
        )
    )
    finish(figure, height=min(_MOST_PIXELS, max(_LEAST_PIXELS, 90 + 24 * len(ranked))), legend=False)
    figure.update_xaxes(title="accuracy (%)", range=[0, 100])
    figure.update_yaxes(title="class", type="category", autorange="reversed")
    return figure


def create_saturation_figure(saturation: Sequence[tuple[int, float]]) -> go.Figure:
    """Returns the share (%) of b that was clamped behind each writing connector of an int8 backbone.

    Args:
        saturation: the block of each connector and its share in 0..1.
    """
    figure = go.Figure(
        go.Bar(
            x=[f"block {block}" for block, _ in saturation],
            y=[100 * share for _, share in saturation],
            marker={"color": BLUE},
            texttemplate="%{y:.2f}",
            textposition="outside",
            hovertemplate="after %{x}: %{y:.2f} % clamped<extra></extra>",
        )
    )
    finish(figure, height=260, legend=False)
    figure.update_xaxes(title="connector after", type="category")
    most = max((100 * share for _, share in saturation), default=0.0)
    figure.update_yaxes(title="values clamped (%)", range=[0, max(1.0, 1.2 * most)])
    return figure


def confusion_rows(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Returns the data behind the matrix: a row per true class, its accuracy and its counts."""
    rows = []
    for index, (label, row) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row)
        accuracy = 100 * row[index] / total if total else None
        taken = {f"taken for {name}": count for name, count in zip(labels, row, strict=True)}
        rows.append({"true class": label, "images": total, "accuracy (%)": accuracy} | taken)
    return rows


def _plain(label: str) -> str:
    """Returns a class's name as text: plotly reads a few tags."""
    return label.replace("&", "&amp;").replace("<", "&lt;")
