"""What can be done about a design that is over its budget: another schedule of the target, or a design near to it."""

from __future__ import annotations

from dataclasses import dataclass

from repnet_search.graph import Schedule
from repnet_search.memory.estimate import estimate_memory
from repnet_search.memory.nearest import NearestDesign, estimate_least, find_nearest
from repnet_search.spec.design import Design
from repnet_search.spec.resolve import resolve


@dataclass(frozen=True, slots=True)
class WaysOut:
    """How to come within a budget.

    Args:
        excess_bytes: what is too much.
        nearest: designs that fit, nearest first; () where none does.
        least_bytes: what the least design on the backbone needs.
        schedules: other schedules at which the design itself fits, and what it needs then.
    """

    excess_bytes: int
    nearest: tuple[NearestDesign, ...]
    least_bytes: int
    schedules: tuple[tuple[Schedule, int], ...]


def find_ways_out(
    design: Design, *, budget_bytes: int, classes: int, batch: int = 1, schedule: Schedule = Schedule.LAYER
) -> WaysOut | None:
    """Returns how a design comes within a budget, None where it is within it.

    Args:
        design: as written.
        budget_bytes: training memory that there is.
        classes: outputs of the head.
        batch: images of a micro-batch.
        schedule: how the target runs the frozen backbone.

    Raises:
        SpecError: as `resolve` and `build_graph`.
    """
    resolved = resolve(design)
    needed = {
        item: estimate_memory(resolved, classes=classes, batch=batch, schedule=item).ram_bytes for item in Schedule
    }
    if needed[schedule] <= budget_bytes:
        return None
    return WaysOut(
        excess_bytes=needed[schedule] - budget_bytes,
        nearest=find_nearest(design, budget_bytes=budget_bytes, classes=classes, batch=batch, schedule=schedule),
        least_bytes=estimate_least(design, classes=classes, batch=batch, schedule=schedule).ram_bytes,
        schedules=tuple((item, size) for item, size in needed.items() if size <= budget_bytes),
    )
