"""The picture of a design's training memory as an HTML page with everything inside: it opens without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from repnet_search.report.memory_plot import (
    BUDGET_COLOUR,
    ROLE_COLOURS,
    STATE_COLOUR,
    STATE_NAME,
    Block,
    MemoryPicture,
)
from repnet_search.units import format_size

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
    """Returns the picture as a plotly figure: above the bytes alive, below the arena."""
    from plotly.subplots import make_subplots

    arena = f"Placed in an arena of {format_size(picture.arena_bytes)}"
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        row_heights=[0.6, 0.4],
        vertical_spacing=0.09,
        subplot_titles=("Alive during one training step", arena),
    )
    figure.update_annotations(x=0, xanchor="left", font={"size": 14})  # the titles of the two parts
    _add_alive(figure, picture)
    _add_arena(figure, picture)
    _add_marks(figure, picture)
    figure.update_layout(
        title={"text": picture.title, "font": {"size": 15}},
        height=HEIGHT_PIXELS,
        template="plotly_white",
        barmode="overlay",
        bargap=0,
        legend={"orientation": "h", "y": -0.12},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(
        range=[-0.5, len(picture.operators) - 0.5],
        showgrid=False,
        zeroline=False,
        tickangle=-90,
        tickvals=[op for op, _ in picture.ticks],
        ticktext=[name for _, name in picture.ticks],
    )
    figure.update_xaxes(title="operator of the training step; b: block, m: module", row=2)
    figure.update_yaxes(title=f"bytes alive ({picture.unit})", rangemode="tozero", row=1)
    figure.update_yaxes(title=f"address ({picture.unit})", range=[0, picture.arena_bytes / picture.unit_bytes], row=2)
    return figure


def _add_alive(figure: go.Figure, picture: MemoryPicture) -> None:
    """Stacks the bytes alive by role; a transparent column per operator carries what a pointer shows."""
    count, unit = len(picture.operators), picture.unit_bytes
    layers = {STATE_NAME: ((picture.state_bytes,) * count, STATE_COLOUR)}
    layers |= {role.value: (sizes, ROLE_COLOURS[role]) for role, sizes in picture.alive.items()}
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
        hovertext=[_describe_operator(picture, op) for op in range(count)],
        hovertemplate="%{hovertext}<extra></extra>",
        hoverlabel={"bgcolor": "white"},
        showlegend=False,
        row=1,
        col=1,
    )


def _add_arena(figure: go.Figure, picture: MemoryPicture) -> None:
    """Draws every buffer as a rectangle, in one trace per role."""
    unit = picture.unit_bytes
    for role in picture.alive:
        blocks = [block for block in picture.blocks if block.role is role]
        figure.add_bar(
            x=[(block.first + block.last) / 2 for block in blocks],
            width=[block.last - block.first + 1 for block in blocks],
            base=[block.offset_bytes / unit for block in blocks],
            y=[block.size_bytes / unit for block in blocks],
            marker={
                "color": ROLE_COLOURS[role],
                "line": {"color": "white", "width": [0.5 * picture.has_edge(block) for block in blocks]},
            },
            hovertext=[_describe_block(picture, block) for block in blocks],
            hovertemplate="%{hovertext}<extra></extra>",
            name=role.value,
            legendgroup=role.value,
            showlegend=False,
            row=2,
            col=1,
        )


def _add_marks(figure: go.Figure, picture: MemoryPicture) -> None:
    """Marks the peak, the budget, and where the backward pass begins."""
    unit = picture.unit_bytes
    figure.add_annotation(
        x=picture.peak_op,
        y=picture.peak_bytes / unit,
        text=f"<b>{picture.peak_label}</b>",
        xanchor="left" if picture.peak_op < 0.6 * len(picture.operators) else "right",
        ax=20 if picture.peak_op < 0.6 * len(picture.operators) else -20,
        ay=-12,
        arrowhead=2,
        row=1,
        col=1,
    )
    if picture.budget_bytes is not None:
        height = picture.budget_bytes / unit
        figure.add_hline(y=height, line={"color": BUDGET_COLOUR, "dash": "dash"}, row=1, col=1)
        figure.add_annotation(
            x=picture.quiet_op,
            y=height,
            text=f"<b>{picture.budget_label}</b>",
            font={"color": BUDGET_COLOUR},
            yanchor="bottom",
            showarrow=False,
            row=1,
            col=1,
        )
    for row in (1, 2):
        figure.add_vline(x=picture.forward_ops - 0.5, line={"width": 1, "dash": "dot"}, row=row, col=1)
    for text, anchor in (("forward ", "right"), (" backward", "left")):
        figure.add_annotation(
            x=picture.forward_ops - 0.5, y=1, yref="y domain", text=f"<i>{text}</i>", xanchor=anchor, showarrow=False
        )


def _total(picture: MemoryPicture, op: int) -> int:
    return picture.state_bytes + sum(sizes[op] for sizes in picture.alive.values())


def _describe_operator(picture: MemoryPicture, op: int) -> str:
    """Returns what runs, how much is alive, and which roles that is, largest first."""
    direction = "forward" if op < picture.forward_ops else "backward"
    sizes = sorted(((sizes[op], role) for role, sizes in picture.alive.items() if sizes[op]), reverse=True)
    lines = (
        f"<b>{op}: {picture.operators[op]}, {direction}</b>",
        f"{format_size(_total(picture, op))} alive",
        *(f"{format_size(size)} {role.value}" for size, role in sizes),
        f"{format_size(picture.state_bytes)} {STATE_NAME}",
    )
    return "<br>".join(lines)


def _describe_block(picture: MemoryPicture, block: Block) -> str:
    lines = (
        f"<b>{block.name}</b>, {block.role.value}",
        f"{format_size(block.size_bytes)} ({block.size_bytes} bytes) at {block.offset_bytes}",
        f"from {block.first}: {picture.operators[block.first]}",
        f"to {block.last}: {picture.operators[block.last]}",
    )
    return "<br>".join(lines)
