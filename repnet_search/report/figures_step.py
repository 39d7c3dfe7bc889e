"""The memory of a training step as a picture: what is alive at every operator, and where it lies in the arena."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from repnet_search.export.plan import MemoryPlan
from repnet_search.graph import Role
from repnet_search.report.figures_marks import add_marks, top_bytes
from repnet_search.report.figures_style import GREY, finish
from repnet_search.report.memory_plot import (
    ROLE_COLOURS,
    STATE_COLOUR,
    STATE_NAME,
    Block,
    MemoryPicture,
)
from repnet_search.units import format_size

HEIGHT_PIXELS: Final = 760
_COLOURS: Final = ROLE_COLOURS | {Role.STATISTICS: "#9A86E0"}  # black would not be seen on a dark page
_GAPS: Final = 10
"""The part of what is used that stands between two regions, for their names."""


def create_memory_figure(
    picture: MemoryPicture, *, plan: MemoryPlan | None = None, marked: str | None = None, legend_rows: int = 1
) -> go.Figure:
    """Returns the bytes alive over the operators of a step, and below them every buffer over time and address.

    Args:
        picture: of the step.
        plan: its placement into the regions of a board, which are then stacked in place of the one arena.
        marked: the place whose operators are marked, such as "block 6".
        legend_rows: how many rows of names the legend has, where there is less room than usual.
    """
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        row_heights=[0.55, 0.45],
        vertical_spacing=0.1,
        subplot_titles=("Alive", _placed_in(picture, plan)),
    )
    figure.update_annotations(x=0, xanchor="left", font={"size": 14})  # the titles of the two parts
    _add_alive(figure, picture)
    placed = picture if plan is None or not plan.regions else _stack_regions(picture, plan)
    _add_arena(figure, picture, placed, plan)
    if placed is not picture and plan is not None:
        _add_regions(figure, picture, plan)
    add_marks(figure, picture, marked)
    _lay_out(figure, picture, placed.arena_bytes, legend_rows=legend_rows)
    return figure


def alive_rows(picture: MemoryPicture) -> list[dict[str, Any]]:
    """Returns the data behind the upper part: a row per operator, the bytes alive by role."""
    return [
        {"operator": index, "place and kind": name, "pass": _pass(picture, index)}
        | {f"{role.value} (bytes)": sizes[index] for role, sizes in picture.alive.items()}
        | {f"{STATE_NAME} (bytes)": picture.state_bytes, "alive in all (bytes)": _total(picture, index)}
        for index, name in enumerate(picture.operators)
    ]


def buffer_rows(picture: MemoryPicture, *, plan: MemoryPlan | None = None) -> list[dict[str, Any]]:
    """Returns the data behind the lower part: a row per buffer, where it lies and when it is alive."""
    planned = plan.buffers if plan is not None and plan.regions else None
    rows = []
    for index, block in enumerate(picture.blocks):
        spot = None if planned is None else planned[index]
        region = "" if spot is None or plan is None else plan.regions[spot.region or 0].name
        rows.append(
            {
                "buffer": block.name,
                "role": block.role.value,
                "region": region,
                "offset (bytes)": block.offset_bytes if spot is None else spot.offset_bytes,
                "size (bytes)": block.size_bytes,
                "first operator": picture.operators[block.first],
                "last operator": picture.operators[block.last],
            }
        )
    return rows


def _placed_in(picture: MemoryPicture, plan: MemoryPlan | None) -> str:
    if plan is None or not plan.regions:
        return f"Placed in an arena of {format_size(picture.arena_bytes)}"
    return f"Placed in {len(plan.regions)} regions of RAM, one on the other"


def _bases(plan: MemoryPlan) -> list[int]:
    """Returns where each region begins when what is used of each is stacked, with a gap; free ones are thin."""
    gap = max(1, sum(region.used_bytes for region in plan.regions) // _GAPS)
    bases = [0]
    for region in plan.regions:
        bases.append(bases[-1] + region.used_bytes + gap)
    return bases


def _stack_regions(picture: MemoryPicture, plan: MemoryPlan) -> MemoryPicture:
    """Returns the picture with its buffers where the plan has them."""
    bases = _bases(plan)
    blocks = tuple(
        block._replace(offset_bytes=bases[spot.region or 0] + spot.offset_bytes)
        for block, spot in zip(picture.blocks, plan.buffers, strict=True)
    )
    return replace(picture, blocks=blocks, arena_bytes=bases[-1])


def _add_alive(figure: go.Figure, picture: MemoryPicture) -> None:
    """Stacks the bytes alive by role; a transparent column per operator carries what a pointer shows."""
    count, unit = len(picture.operators), picture.unit_bytes
    layers = {STATE_NAME: ((picture.state_bytes,) * count, STATE_COLOUR)}
    layers |= {role.value: (sizes, _COLOURS[role]) for role, sizes in picture.alive.items()}
    for name, (sizes, colour) in layers.items():
        figure.add_scatter(
            # One operator more at both ends, out of sight: steps change halfway between operators.
            x=list(range(-1, count + 1)),
            y=[size / unit for size in (sizes[0], *sizes, sizes[-1])],
            name=name,
            legendgroup=name,
            mode="lines",
            line={"width": 0, "shape": "hvh"},
            fillcolor=colour,
            stackgroup="alive",
            hoverinfo="skip",
            row=1,
            col=1,
        )
    figure.add_bar(
        x=list(range(count)),
        y=[_total(picture, op) / unit for op in range(count)],
        width=1,
        marker={"color": "rgba(0,0,0,0)", "line": {"width": 0}},
        name="operators",
        hovertext=[_describe_operator(picture, op) for op in range(count)],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
        row=1,
        col=1,
    )


def _add_arena(figure: go.Figure, picture: MemoryPicture, placed: MemoryPicture, plan: MemoryPlan | None) -> None:
    """Draws every buffer as a rectangle where `placed` has it, in one trace per role."""
    unit, addresses = picture.unit_bytes, _list_addresses(picture, plan)
    for role in picture.alive:
        indices = [index for index, block in enumerate(picture.blocks) if block.role is role]
        blocks = [placed.blocks[index] for index in indices]
        figure.add_bar(
            x=[(block.first + block.last) / 2 for block in blocks],
            width=[block.last - block.first + 1 for block in blocks],
            base=[block.offset_bytes / unit for block in blocks],
            y=[block.size_bytes / unit for block in blocks],
            marker={
                "color": _COLOURS[role],
                "line": {"color": "white", "width": [0.5 * placed.has_edge(block) for block in blocks]},
            },
            hovertext=[_describe_block(picture, picture.blocks[index], addresses[index]) for index in indices],
            hovertemplate="%{hovertext}<extra></extra>",
            name=role.value,
            legendgroup=role.value,
            showlegend=False,
            row=2,
            col=1,
        )


def _add_regions(figure: go.Figure, picture: MemoryPicture, plan: MemoryPlan) -> None:
    """Draws the regions one on the other: what lies behind the buffers for good, and how much of each is used."""
    unit, ends = picture.unit_bytes, {"x0": -0.5, "x1": len(picture.operators) - 0.5, "row": 2, "col": 1}
    ticks: list[tuple[float, str]] = []
    for base, above, region in zip(_bases(plan), _bases(plan)[1:], plan.regions, strict=False):
        low, high = base + region.buffer_bytes, base + region.used_bytes
        if region.state_bytes:
            figure.add_shape(
                type="rect", y0=low / unit, y1=high / unit, fillcolor=STATE_COLOUR, line_width=0, layer="below", **ends
            )
        figure.add_hline(y=above / unit, line={"color": GREY, "width": 1}, row=2, col=1)
        figure.add_annotation(
            x=-0.5,
            y=above / unit,
            text=f"{region.name}: {format_size(region.used_bytes)} of {format_size(region.size_bytes)}",
            xanchor="left",
            yanchor="top",
            showarrow=False,
            font={"size": 11},
            row=2,
            col=1,
        )
        ticks += [(base / unit, "0"), (high / unit, f"{region.used_bytes / unit:.0f}")] if region.used_bytes else []
    figure.update_yaxes(tickvals=[at for at, _ in ticks], ticktext=[text for _, text in picture.ticks], row=2)


def _lay_out(figure: go.Figure, picture: MemoryPicture, address_bytes: int, *, legend_rows: int) -> None:
    unit, name = picture.unit_bytes, picture.unit
    finish(figure, height=HEIGHT_PIXELS, bottom=78, legend_rows=legend_rows)
    figure.update_layout(barmode="overlay", bargap=0)
    figure.update_xaxes(
        range=[-0.5, len(picture.operators) - 0.5],
        showgrid=False,
        zeroline=False,
        tickangle=-90,
        tickvals=[op for op, _ in picture.ticks],
        ticktext=[text for _, text in picture.ticks],
        tickfont={"size": 10},
    )
    figure.update_xaxes(title="operator of the training step; b: block, m: module", row=2)
    figure.update_yaxes(title=f"bytes alive ({name})", range=[0, top_bytes(picture) / unit], row=1)
    figure.update_yaxes(title=f"address ({name})", range=[0, address_bytes / unit], row=2)


def _total(picture: MemoryPicture, op: int) -> int:
    return picture.state_bytes + sum(sizes[op] for sizes in picture.alive.values())


def _pass(picture: MemoryPicture, op: int) -> str:
    return "forward" if op < picture.forward_ops else "backward"


def _describe_operator(picture: MemoryPicture, op: int) -> str:
    """Returns what runs, how much is alive, and which roles that is, largest first."""
    sizes = sorted(((sizes[op], role) for role, sizes in picture.alive.items() if sizes[op]), reverse=True)
    lines = (
        f"<b>{op}: {picture.operators[op]}, {_pass(picture, op)}</b>",
        f"{format_size(_total(picture, op))} alive",
        *(f"{format_size(size)} {role.value}" for size, role in sizes),
        f"{format_size(picture.state_bytes)} {STATE_NAME}",
    )
    return "<br>".join(lines)


def _list_addresses(picture: MemoryPicture, plan: MemoryPlan | None) -> list[str]:
    """Returns where each buffer lies: its offset in the arena, or in its region."""
    if plan is None or not plan.regions:
        return [str(block.offset_bytes) for block in picture.blocks]
    return [f"{spot.offset_bytes} of {plan.regions[spot.region or 0].name}" for spot in plan.buffers]


def _describe_block(picture: MemoryPicture, block: Block, address: str) -> str:
    lines = (
        f"<b>{block.name}</b>, {block.role.value}",
        f"{format_size(block.size_bytes)} ({block.size_bytes} bytes) at {address}",
        f"from {block.first}: {picture.operators[block.first]}",
        f"to {block.last}: {picture.operators[block.last]}",
    )
    return "<br>".join(lines)
