"""What all figures of the study browser and of the report share: colours, sizes, margins, the line of a limit.

Colours are those of [Okabe2008color], which colour-blind readers tell apart and which stand out on a light and on a
dark page; kinds of things differ in their symbol or pattern too. A figure sets no background and no colour of text,
so that the page it stands on does.

[Okabe2008color] M. Okabe, K. Ito, Color Universal Design, 2008.
"""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go

from repnet_search.units import KIB, MIB

BLUE: Final = "#0072B2"
SKY: Final = "#56B4E9"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"
VERMILLION: Final = "#D55E00"
PURPLE: Final = "#CC79A7"
YELLOW: Final = "#F0E442"
GREY: Final = "#808495"
"""Readable on white and on black."""

SERIES: Final = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION)
"""For things that have no colour of their own, in this order."""

SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "cross", "x")
PATTERNS: Final = ("", "/", ".", "x", "-", "\\")

_MIB_FROM: Final = 4 * MIB
_LEGEND_ROW_PIXELS: Final = 19


def choose_unit(largest_bytes: float) -> tuple[int, str]:
    """Returns in what an axis counts bytes, and its name.

    >>> choose_unit(262144), choose_unit(64 * 1024**2)
    ((1024, 'KiB'), (1048576, 'MiB'))
    """
    return (MIB, "MiB") if largest_bytes >= _MIB_FROM else (KIB, "KiB")


def finish(
    figure: go.Figure, *, height: int, left: int = 72, bottom: int = 66, legend: bool = True, legend_rows: int = 1
) -> go.Figure:
    """Returns the figure with its margins, the legend below it and no dragging, as all have them.

    Plotly makes a margin wider where labels or legend do not fit, but lays everything out a second time then: half of
    what a plot takes to appear. So margins begin with what usually fits.

    Args:
        figure: what is drawn.
        height: of all of it, in pixels.
        left: the width of what stands left of the plot, in pixels.
        bottom: the height of the labels and the title below the plot, in pixels.
        legend: whether there is one.
        legend_rows: how many rows of names it has where there is usual room.
    """
    place = {"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0, "traceorder": "normal"}
    legend_pixels = 10 + _LEGEND_ROW_PIXELS * legend_rows if legend else 0
    figure.update_layout(
        height=height,
        margin={"l": left, "r": 16, "t": 34, "b": bottom + legend_pixels},
        legend=place,
        showlegend=legend,
        dragmode=False,
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def add_limit(figure: go.Figure, x: float, *, text: str, colour: str = VERMILLION, dash: str = "dash") -> None:
    """Draws an upright line; its text stands above the plot and ends at it, where there is always room."""
    figure.add_vline(x=x, line={"color": colour, "width": 2, "dash": dash})
    figure.add_annotation(
        x=x,
        y=1,
        yref="paper",
        text=text,
        font={"color": colour},
        xanchor="right",
        yanchor="bottom",
        showarrow=False,
    )
