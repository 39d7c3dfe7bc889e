"""A design's training memory by its terms, and that of several designs side by side, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import plotly.graph_objects as go

from repnet_search.memory.explain import MemoryExplanation
from repnet_search.report.figures_style import PATTERNS, SERIES, add_limit, choose_unit, finish

TERM_ORDER: Final = ("arena", "parameters", "norm state", "optimizer state", "accumulated gradients")
"""So that a term has its colour in every figure."""


def create_terms_figure(
    designs: Mapping[str, Sequence[tuple[str, int]]], *, limit_bytes: int, limit_text: str
) -> go.Figure:
    """Returns a stacked bar per design of the terms of its training memory, against what it may take.

    Args:
        designs: of each design by its name, the terms and their bytes.
        limit_bytes: what a design may take.
        limit_text: what stands beside the line there.
    """
    sizes = {name: dict(terms) for name, terms in designs.items()}
    unit_bytes, unit = choose_unit(max([limit_bytes, *(sum(terms.values()) for terms in sizes.values())]))
    figure = go.Figure()
    for index, term in enumerate(_list_terms(designs)):
        if not any(terms.get(term) for terms in sizes.values()):
            continue
        figure.add_bar(
            x=[terms.get(term, 0) / unit_bytes for terms in sizes.values()],
            y=list(sizes),
            orientation="h",
            name=term,
            marker={"color": SERIES[index % len(SERIES)], "line": {"width": 0}},
            texttemplate="%{x:.1f}",
            textposition="inside",
            textangle=0,
            insidetextanchor="middle",
            insidetextfont={"color": "white"},
            hovertemplate=f"{term}: %{{x:.1f}} {unit}<extra></extra>",
        )
    add_limit(figure, limit_bytes / unit_bytes, text=limit_text)
    figure.update_layout(barmode="stack", bargap=0.4, uniformtext={"mode": "hide", "minsize": 10})
    figure.update_xaxes(title=f"training memory, estimated ({unit})", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showticklabels=len(sizes) > 1, type="category")  # ids such as 61238e83
    return finish(figure, height=180 + 50 * len(sizes), left=72 if len(sizes) > 1 else 16)


def list_block_bytes(explained: MemoryExplanation) -> tuple[tuple[str, int], ...]:
    """Returns the most bytes alive in the arena while each block or module runs, forward or backward."""
    return tuple(
        (place.place, max(place.forward_peak_bytes, place.backward_peak_bytes or 0)) for place in explained.places
    )


def create_blocks_figure(designs: Mapping[str, Sequence[tuple[str, int]]]) -> go.Figure:
    """Returns the most bytes alive while each block runs, the designs' bars next to each other.

    Args:
        designs: of each design by its name, what `list_block_bytes` returns.
    """
    largest = max((size for blocks in designs.values() for _, size in blocks), default=0)
    unit_bytes, unit = choose_unit(largest)
    figure = go.Figure()
    for index, (name, blocks) in enumerate(designs.items()):
        figure.add_bar(
            x=[place for place, _ in blocks],
            y=[size / unit_bytes for _, size in blocks],
            name=name,
            marker={"color": SERIES[index % len(SERIES)], "pattern": _pattern(index)},
            hovertemplate=f"{name}, %{{x}}: %{{y:.1f}} {unit}<extra></extra>",
        )
    order = merge_places([[place for place, _ in blocks] for blocks in designs.values()])
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(
        title="block of the backbone, or module of the Rep-Net",
        categoryorder="array",
        categoryarray=order,
        tickangle=-90,
    )
    figure.update_yaxes(title=f"most bytes alive, estimated ({unit})", rangemode="tozero")
    return finish(figure, height=440)


def merge_places(lists: Sequence[Sequence[str]]) -> list[str]:
    """Returns all places in an order that is each design's own.

    >>> merge_places([["b0", "b1", "head"], ["b0", "m1", "b1", "head"]])
    ['b0', 'm1', 'b1', 'head']
    """
    merged: list[str] = []
    for places in lists:
        position = 0
        for place in places:
            if place in merged:
                position = max(position, merged.index(place) + 1)
            else:
                merged.insert(position, place)
                position += 1
    return merged


def _pattern(index: int) -> dict[str, str]:
    """Returns the pattern that tells a series apart without its colour."""
    return {"shape": PATTERNS[index % len(PATTERNS)], "fillmode": "overlay", "fgcolor": "white"}


def _list_terms(designs: Mapping[str, Sequence[tuple[str, int]]]) -> list[str]:
    found = dict.fromkeys(term for terms in designs.values() for term, _ in terms)
    return [*TERM_ORDER, *(term for term in found if term not in TERM_ORDER)] if found else []
