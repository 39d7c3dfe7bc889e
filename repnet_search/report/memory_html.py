"""The picture of a design's training memory as an HTML page with everything inside: it opens without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repnet_search.report.memory_plot import MemoryPicture

if TYPE_CHECKING:
    import plotly.graph_objects as go

HEIGHT_PIXELS = 900


def draw_html(picture: MemoryPicture) -> str:
    """Returns the picture as one HTML page."""
    text: str = create_figure(picture).to_html(
        include_plotlyjs=True, full_html=True, config={"displaylogo": False, "responsive": True}
    )
    return text


def create_figure(picture: MemoryPicture) -> go.Figure:
    """Returns the picture as a plotly figure on white, with its title: above the bytes alive, below the arena."""
    from repnet_search.report.figures_step import create_memory_figure

    figure = create_memory_figure(picture)
    title = {"text": picture.title, "font": {"size": 15}}
    margin = {"t": 80, "b": 90}
    figure.update_layout(title=title, height=HEIGHT_PIXELS, template="plotly_white", margin=margin)
    return figure
