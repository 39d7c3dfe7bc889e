"""What can be done about a design that is over its budget: another schedule of the target, or a design near to it."""

from __future__ import annotations

from dataclasses import dataclass

from repnet_search.graph import Schedule, Slopes
from repnet_search.memory.explain import explain_memory
from repnet_search.memory.fit import Fit, check_fit
from repnet_search.memory.nearest import NearestDesign, estimate_least, find_nearest
from repnet_search.spec.design import Design
from repnet_search.spec.resolve import resolve
from repnet_search.spec.target import DeviceLimits


@dataclass(frozen=True, slots=True)
class WaysOut:
    """How to come within what a device has.

    Args:
        fit: what is too much.
        nearest: designs that fit, nearest first; () where none does.
        least_bytes: what the least design on the backbone needs.
        schedules: other schedules at which the design itself fits, and what it needs then.
    """

    fit: Fit
    nearest: tuple[NearestDesign, ...]
    least_bytes: int
    schedules: tuple[tuple[Schedule, int], ...]


def find_ways_out(
    design: Design,
    *,
    limits: DeviceLimits,
    classes: int,
    batch: int = 1,
    schedule: Schedule = Schedule.LAYER,
    slopes: Slopes = Slopes.EXACT,
) -> WaysOut | None:
    """Returns how a design comes within what a device has, None where it is within it.

    Args:
        design: as written.
        limits: of the device.
        classes: outputs of the head.
        batch: images of a micro-batch.
        schedule: how the target runs the frozen backbone.
        slopes: how it keeps the slopes of smooth activations.

    Raises:
        SpecError: as `resolve` and `build_graph`.
    """
    resolved = resolve(design)
    explained = explain_memory(resolved, classes=classes, batch=batch, schedule=schedule, slopes=slopes)
    fit = check_fit(explained, limits)
    if fit.fits:
        return None
    others = (
        explain_memory(resolved, classes=classes, batch=batch, schedule=item, slopes=slopes)
        for item in Schedule
        if item != schedule
    )
    return WaysOut(
        fit=fit,
        nearest=find_nearest(design, limits=limits, classes=classes, batch=batch, schedule=schedule, slopes=slopes),
        least_bytes=estimate_least(design, classes=classes, batch=batch, schedule=schedule).ram_bytes,
        schedules=tuple(
            (other.estimate.schedule, other.estimate.ram_bytes) for other in others if check_fit(other, limits).fits
        ),
    )
