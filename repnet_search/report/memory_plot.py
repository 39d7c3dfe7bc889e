"""The training memory of a design as a picture: bytes alive over the schedule, and where they lie in the arena.

`save_memory_plot` writes an HTML page that needs no network (plotly) or a PNG (matplotlib); both draw
the same `MemoryPicture`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from repnet_search.errors import UsageError
from repnet_search.graph import Role, TrainingGraph
from repnet_search.memory.explain import MemoryExplanation
from repnet_search.memory.liveness import Liveness
from repnet_search.spec.files import save_bytes
from repnet_search.units import KIB, MIB, format_size

PLOT_SUFFIXES = (".html", ".png")

# Okabe and Ito's colours, which the colour-blind can tell apart; what is always there is grey.
STATE_COLOUR = "#D9D9D9"
ROLE_COLOURS = {
    Role.BACKBONE: "#56B4E9",
    Role.REPNET: "#009E73",
    Role.GRADIENT: "#D55E00",
    Role.WEIGHT_GRADIENT: "#E69F00",
    Role.MASK: "#CC79A7",
    Role.IMAGE: "#F0E442",
    Role.WORKSPACE: "#0072B2",
    Role.STATISTICS: "#000000",
    Role.LOSS: "#7F7F7F",
    Role.WEIGHT: "#8C564B",
}
"""In the order in which they are stacked, from below."""
BUDGET_COLOUR = "#E3173E"
MOST_TICKS = 28
"""Their names take a web browser longer to draw than all the rest."""
STATE_NAME = "parameters and their state"


class Block(NamedTuple):
    """A buffer in the arena: alive from operator `first` to `last`, at its offset."""

    name: str
    role: Role
    first: int
    last: int
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryPicture:
    """What both pictures draw.

    Args:
        title: design, account, schedule, batch and recipe.
        operators: of each operator, its place and kind.
        forward_ops: how many of them are the forward pass.
        ticks: operators that the axis names, with their place in short.
        state_bytes: parameters, optimizer state and accumulated gradients, there all the time.
        alive: of each role that occurs, the bytes alive at every operator.
        peak_op: where most is alive.
        peak_bytes: how much, with the state.
        peak_place: what runs there.
        blocks: the buffers in the arena.
        arena_bytes: the size of the arena.
        budget_bytes: what may be used in all; None where there is no budget.
    """

    title: str
    operators: tuple[str, ...]
    forward_ops: int
    ticks: tuple[tuple[int, str], ...]
    state_bytes: int
    alive: dict[Role, tuple[int, ...]]
    peak_op: int
    peak_bytes: int
    peak_place: str
    blocks: tuple[Block, ...]
    arena_bytes: int
    budget_bytes: int | None

    @property
    def unit_bytes(self) -> int:
        """What the axes count in."""
        return MIB if self.peak_bytes >= 4 * MIB else KIB

    @property
    def unit(self) -> str:
        """The name of the axes' unit."""
        return "MiB" if self.unit_bytes == MIB else "KiB"

    @property
    def budget_label(self) -> str:
        """What stands at the budget's line."""
        return "" if self.budget_bytes is None else f"budget {format_size(self.budget_bytes)}"

    @property
    def peak_label(self) -> str:
        """What stands at the peak."""
        return f"peak {format_size(self.peak_bytes)}: {self.peak_place}"

    @property
    def quiet_op(self) -> int:
        """Where the line of the budget has room for its label: amid the operators at which least is alive."""
        width = max(1, len(self.operators) // 6)
        live = [sum(sizes) for sizes in zip(*self.alive.values(), strict=True)]
        highest = [max(live[start : start + width]) for start in range(len(live) - width + 1)]
        return highest.index(min(highest)) + width // 2

    def has_edge(self, block: Block) -> bool:
        """Whether a buffer gets an edge; a thin one would be nothing else."""
        return block.size_bytes >= self.arena_bytes / 100


def save_memory_plot(path: str | Path, explained: MemoryExplanation, *, budget_bytes: int | None = None) -> None:
    """Writes the picture of a design's training memory, as HTML or PNG by the file's suffix.

    Raises:
        UsageError: another suffix.
    """
    suffix = check_plot_path(path)
    picture = create_picture(explained, budget_bytes=budget_bytes)
    if suffix == ".png":
        from repnet_search.report.memory_png import draw_png

        save_bytes(path, draw_png(picture))
    else:
        from repnet_search.report.memory_html import draw_html

        save_bytes(path, draw_html(picture).encode())


def check_plot_path(path: str | Path) -> str:
    """Returns the suffix of a picture's file.

    Raises:
        UsageError: it is no suffix of a picture that can be drawn.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in PLOT_SUFFIXES:
        raise UsageError(f"A plot is written as {' or '.join(PLOT_SUFFIXES)}, but got {str(path)!r}.")
    return suffix


def create_picture(explained: MemoryExplanation, *, budget_bytes: int | None = None) -> MemoryPicture:
    """Returns what the pictures of a design's training memory draw."""
    graph, liveness, memory = explained.graph, explained.liveness, explained.estimate
    state = memory.ram_bytes - memory.arena_bytes
    placed = zip(liveness.buffers, explained.arena.offsets, strict=True)
    return MemoryPicture(
        title=_title(explained),
        operators=tuple(f"{op.place}, {op.kind.value}" for op in graph.ops),
        forward_ops=graph.forward_ops,
        ticks=_ticks(graph),
        state_bytes=state,
        alive=_alive_by_role(liveness),
        peak_op=liveness.peak_op,
        peak_bytes=liveness.peak_bytes + state,
        peak_place=memory.peak_place,
        blocks=tuple(
            Block(buffer.name, buffer.role, buffer.first, buffer.last, offset, buffer.size_bytes)
            for buffer, offset in placed
        ),
        arena_bytes=memory.arena_bytes,
        budget_bytes=budget_bytes,
    )


def _title(explained: MemoryExplanation) -> str:
    resolved, memory = explained.resolved, explained.estimate
    design = resolved.design
    return (
        f"Design {resolved.short_id} on {resolved.table.name}, {design.resolution} px, "
        f"{'int8' if design.activation_bits == 8 else 'fp32'}: {format_size(memory.ram_bytes)} of training memory "
        f"(account arena, schedule {memory.schedule.value}, micro-batch {memory.batch}, "
        f"{design.recipe.optimizer.value} ×{design.recipe.accumulate})"
    )


def _alive_by_role(liveness: Liveness) -> dict[Role, tuple[int, ...]]:
    """Returns the bytes alive at every operator, of each role that occurs."""
    sums: dict[Role, list[int]] = {}
    for buffer in liveness.buffers:
        alive = sums.setdefault(buffer.role, [0] * len(liveness.live_bytes))
        for op in range(buffer.first, buffer.last + 1):
            alive[op] += buffer.size_bytes
    return {role: tuple(sums[role]) for role in ROLE_COLOURS if role in sums}


def _ticks(graph: TrainingGraph) -> tuple[tuple[int, str], ...]:
    """Returns the middle operator of every block and module, as far as their names have room."""
    starts = [index for index, op in enumerate(graph.ops) if index == 0 or graph.ops[index - 1].place != op.place]
    ticks: list[tuple[int, str]] = []
    for start, end in pairwise([*starts, len(graph.ops)]):
        middle = (start + end - 1) // 2
        if not ticks or middle - ticks[-1][0] >= len(graph.ops) / MOST_TICKS:
            ticks.append((middle, _short(graph.ops[start].place)))
    return tuple(ticks)


def _short(place: str) -> str:
    """Returns a place as buffers' names have it.

    >>> _short("block 12"), _short("module 1"), _short("head")
    ('b12', 'm1', 'head')
    """
    return place.replace("block ", "b").replace("module ", "m")
