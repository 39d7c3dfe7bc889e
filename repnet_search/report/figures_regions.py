"""How much of each region of a board's RAM a design uses."""

from __future__ import annotations

from typing import Any, Final

import plotly.graph_objects as go

from repnet_search.export.plan import MemoryPlan
from repnet_search.report.figures_style import BLUE, GREY, ORANGE, finish
from repnet_search.report.memory_plot import STATE_NAME
from repnet_search.units import KIB

_REGION_PIXELS: Final = 34


def create_regions_figure(plan: MemoryPlan) -> go.Figure:
    """Returns how much of each region of a board's RAM is used for buffers and for good, and what is left (KiB)."""
    names = [region.name for region in plan.regions]
    parts = (
        ("buffers of the step", BLUE, "", [region.buffer_bytes for region in plan.regions]),
        (STATE_NAME, ORANGE, "/", [region.state_bytes for region in plan.regions]),
        ("free", "rgba(128,132,149,0.25)", "", [region.size_bytes - region.used_bytes for region in plan.regions]),
    )
    figure = go.Figure()
    for name, colour, pattern, sizes in parts:
        figure.add_bar(
            x=[size / KIB for size in sizes],
            y=names,
            orientation="h",
            name=name,
            marker={"color": colour, "pattern": {"shape": pattern}, "line": {"color": GREY, "width": 1}},
            hovertemplate="%{y}: %{x:.1f} KiB<extra>" + name + "</extra>",
        )
    figure.update_layout(barmode="stack")
    finish(figure, height=130 + _REGION_PIXELS * len(names))
    figure.update_xaxes(title="RAM (KiB), the reserve left out")
    figure.update_yaxes(autorange="reversed", title="region")
    return figure


def region_rows(plan: MemoryPlan) -> list[dict[str, Any]]:
    """Returns the data behind the regions' figure, in bytes."""
    return [
        {
            "region": region.name,
            "size (bytes)": region.size_bytes,
            "buffers (bytes)": region.buffer_bytes,
            f"{STATE_NAME} (bytes)": region.state_bytes,
            "free (bytes)": region.size_bytes - region.used_bytes,
        }
        for region in plan.regions
    ]
