"""The picture of a design's training memory as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from repnet_search.report.memory_plot import (
    BUDGET_COLOUR,
    ROLE_COLOURS,
    STATE_COLOUR,
    STATE_NAME,
    MemoryPicture,
)
from repnet_search.units import format_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES = 13.0
HEIGHT_INCHES = 9.5
DOTS_PER_INCH = 130


def draw_png(picture: MemoryPicture) -> bytes:
    """Returns the picture as the bytes of a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    alive, arena = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    figure.suptitle(picture.title, fontsize=11)
    _draw_alive(alive, picture)
    _draw_arena(arena, picture)
    for axes in (alive, arena):
        _draw_frame(axes, picture)
    figure.legend(*alive.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return render_png(figure)


def render_png(figure: Figure) -> bytes:
    """Returns a figure as the bytes of a PNG, the same for the same figure."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return stream.getvalue()


def _draw_alive(axes: Axes, picture: MemoryPicture) -> None:
    """Stacks the bytes alive by role, and marks peak and budget."""
    unit = picture.unit_bytes
    edges = [index - 0.5 for index in range(len(picture.operators) + 1)]
    below = [picture.state_bytes / unit] * len(picture.operators)
    axes.stairs(below, edges, fill=True, color=STATE_COLOUR, label=STATE_NAME, linewidth=0)
    for role, sizes in picture.alive.items():
        top = [base + size / unit for base, size in zip(below, sizes, strict=True)]
        axes.stairs(top, edges, baseline=below, fill=True, color=ROLE_COLOURS[role], label=role.value, linewidth=0)
        below = top
    axes.stairs(below, edges, color="black", linewidth=0.6)
    peak = picture.peak_bytes / unit
    axes.plot([picture.peak_op], [peak], marker="v", color="black", markersize=7, clip_on=False)
    right = picture.peak_op < len(picture.operators) * 0.6
    axes.annotate(
        picture.peak_label,
        (picture.peak_op, peak),
        xytext=(10 if right else -10, 2),
        textcoords="offset points",
        ha="left" if right else "right",
        fontsize=10,
        weight="bold",
    )
    highest = peak
    if picture.budget_bytes is not None:
        highest = max(peak, picture.budget_bytes / unit)
        _draw_line(axes, picture.budget_bytes / unit, picture.budget_label, picture)
    axes.set_ylim(0, highest * 1.12)
    axes.set_ylabel(f"bytes alive ({picture.unit})")
    axes.set_title("Alive during one training step", loc="left", fontsize=10)


def _draw_arena(axes: Axes, picture: MemoryPicture) -> None:
    """Draws every buffer as a rectangle, named where there is room."""
    unit = picture.unit_bytes
    for block in picture.blocks:
        width = block.last - block.first + 1
        axes.bar(
            block.first - 0.5,
            block.size_bytes / unit,
            width=width,
            bottom=block.offset_bytes / unit,
            align="edge",
            color=ROLE_COLOURS[block.role],
            edgecolor="white",
            linewidth=0.4 * picture.has_edge(block),
        )
        if width >= len(block.name) * len(picture.operators) / 170 and block.size_bytes >= picture.arena_bytes / 24:
            axes.text(
                block.first + width / 2 - 0.5,
                (block.offset_bytes + block.size_bytes / 2) / unit,
                block.name,
                ha="center",
                va="center",
                fontsize=7,
            )
    axes.set_ylim(0, picture.arena_bytes / unit * 1.05)
    axes.set_ylabel(f"address ({picture.unit})")
    axes.set_xlabel("operator of the training step; b: block, m: module")
    axes.set_title(f"Placed in an arena of {format_size(picture.arena_bytes)}", loc="left", fontsize=10)


def _draw_line(axes: Axes, height: float, label: str, picture: MemoryPicture) -> None:
    axes.axhline(height, color=BUDGET_COLOUR, linestyle="--", linewidth=1.4)
    axes.annotate(
        label,
        (picture.quiet_op, height),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        color=BUDGET_COLOUR,
        fontsize=10,
        weight="bold",
    )


def _draw_frame(axes: Axes, picture: MemoryPicture) -> None:
    """Names blocks and modules below, and parts the forward from the backward pass."""
    axes.set_xlim(-0.5, len(picture.operators) - 0.5)
    axes.set_xticks([op for op, _ in picture.ticks], [name for _, name in picture.ticks], rotation=90, fontsize=7)
    turn = picture.forward_ops - 0.5
    axes.axvline(turn, color="black", linewidth=0.8, linestyle=":")
    for label, side, shift in (("forward", "right", -4), ("backward", "left", 4)):
        axes.annotate(
            label,
            (turn, 1),
            xycoords=("data", "axes fraction"),
            xytext=(shift, -11),
            textcoords="offset points",
            ha=side,
            fontsize=8,
            style="italic",
        )
    axes.spines[["top", "right"]].set_visible(False)
