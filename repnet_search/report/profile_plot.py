"""The profile of a space as a picture: how its designs spread over memory, and what the strongest fields do to it."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

from repnet_search.report.memory_plot import BUDGET_COLOUR, check_plot_path
from repnet_search.report.memory_png import render_png
from repnet_search.search.profile import SpaceProfile
from repnet_search.spec.files import save_bytes
from repnet_search.units import KIB, format_size

FITS_COLOUR = "#009E73"
OVER_COLOUR = "#BDBDBD"
MEMORY_LABEL = "training memory (KiB, logarithmic)"
SHARE_LABEL = "share of the space (%)"
_MOST_TICKS = 8
_SIZE_INCHES = (9.5, 5.2)


def save_profile_plot(result: SpaceProfile, path: str | Path, *, title: str) -> None:
    """Writes the histogram of a space's memory with the budget, as HTML or PNG by the file's suffix.

    Raises:
        UsageError: another suffix.
    """
    suffix = check_plot_path(path)
    data = _draw_png(result, title=title) if suffix == ".png" else _draw_html(result, title=title).encode()
    save_bytes(path, data)


def _shares(result: SpaceProfile) -> list[float]:
    return [100 * count / result.measured for count in result.counts]


def _legend(result: SpaceProfile) -> str:
    error = "" if result.exact else f" ± {196 * result.share_error:.2f}"
    return f"budget {format_size(result.budget_bytes)}: {100 * result.fitting_share:.2f}{error} % fit"


def _colours(result: SpaceProfile) -> list[str]:
    """Returns each bin's colour; no bin is divided by the budget."""
    return [FITS_COLOUR if low <= result.budget_bytes else OVER_COLOUR for low in result.edges_bytes[:-1]]


def _ticks(result: SpaceProfile) -> list[float]:
    """Returns the sizes that the axis names: the budget by powers of two, or of more where many designs are small."""
    low, high = result.edges_bytes[0], result.edges_bytes[-1]
    ratio = 2 ** max(1, round(math.log2(high / low) / _MOST_TICKS))
    first = math.ceil(math.log(low / result.budget_bytes, ratio))
    last = math.floor(math.log(high / result.budget_bytes, ratio))
    return [result.budget_bytes * float(ratio) ** step for step in range(first, last + 1)]


def _draw_png(result: SpaceProfile, *, title: str) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    edges = [edge / KIB for edge in result.edges_bytes]
    widths = [high - low for low, high in pairwise(edges)]
    axes.bar(edges[:-1], _shares(result), widths, align="edge", color=_colours(result), edgecolor="white")
    axes.axvline(result.budget_bytes / KIB, color=BUDGET_COLOUR, linestyle="--", label=_legend(result))
    axes.set_xscale("log")
    axes.set_xticks([tick / KIB for tick in _ticks(result)], [_short(tick) for tick in _ticks(result)])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(MEMORY_LABEL)
    axes.set_ylabel(SHARE_LABEL)
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return render_png(figure)


def _short(size_bytes: float) -> str:
    return f"{size_bytes / KIB:,.4g}" if size_bytes < 1000 * KIB else f"{size_bytes / KIB:,.0f}"


def _draw_html(result: SpaceProfile, *, title: str) -> str:
    import plotly.graph_objects as go

    edges = [edge / KIB for edge in result.edges_bytes]
    bins = list(pairwise(edges))
    figure = go.Figure()
    figure.add_bar(
        x=[(low + high) / 2 for low, high in bins],
        width=[high - low for low, high in bins],
        y=_shares(result),
        marker={"color": _colours(result), "line": {"color": "white", "width": 1}},
        hovertext=[
            f"{low:.1f} to {high:.1f} KiB: {share:.2f} %"
            for (low, high), share in zip(bins, _shares(result), strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
    )
    figure.add_vline(
        x=result.budget_bytes / KIB, line={"color": BUDGET_COLOUR, "dash": "dash"}, annotation_text=_legend(result)
    )
    figure.update_xaxes(
        type="log",
        title=MEMORY_LABEL,
        tickvals=[tick / KIB for tick in _ticks(result)],
        ticktext=[_short(tick) for tick in _ticks(result)],
    )
    figure.update_yaxes(title=SHARE_LABEL)
    figure.update_layout(title={"text": title, "font": {"size": 15}}, template="plotly_white", showlegend=False)
    text: str = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False, "responsive": True})
    return text
