"""Whether a design fits a device: its RAM in all, its flash, and the regions that the RAM consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from repnet_search.boards import Region
from repnet_search.graph import TrainingGraph
from repnet_search.graph.tape import FLOAT_BYTES
from repnet_search.memory.explain import MemoryExplanation
from repnet_search.memory.parameters import gradient_bytes_per_parameter, optimizer_bytes_per_parameter
from repnet_search.memory.regions import RegionPlan, count_unplaced_bytes, find_obstacle, place_in_regions
from repnet_search.spec.design import Recipe
from repnet_search.spec.target import DeviceLimits
from repnet_search.units import format_size


class StateTensor(NamedTuple):
    """What outlives a step: the parameter that it belongs to, the term of the account, its bytes."""

    name: str
    term: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Fit:
    """How a design stands to a device.

    Args:
        ram_excess_bytes: training memory over the limit; at most 0 where it is within.
        flash_excess_bytes: flash over the limit; None where flash is no limit.
        unplaced_bytes: of buffers that find no room in the regions; 0 where all of them do.
        plan: where everything lies; None where it does not fit, or where the RAM is one piece.
        problem: what is wrong, in a clause that begins with "needs"; "" where the design fits.
    """

    ram_excess_bytes: int
    flash_excess_bytes: int | None
    unplaced_bytes: int
    plan: RegionPlan | None
    problem: str

    @property
    def fits(self) -> bool:
        """Whether the device can train the design."""
        return not self.problem

    @property
    def excess_bytes(self) -> int:
        """What is too much where it is too much: of RAM, else of flash, else what its regions do not hold."""
        return max(0, self.ram_excess_bytes) or max(0, self.flash_excess_bytes or 0) or self.unplaced_bytes


def list_state(graph: TrainingGraph, recipe: Recipe) -> tuple[StateTensor, ...]:
    """Returns what outlives a step, tensor by tensor; in all, the training memory without the arena."""
    trained = [parameter for parameter in graph.parameters if parameter.trains]
    states = optimizer_bytes_per_parameter(recipe) // FLOAT_BYTES
    kinds = ["parameters", *(["optimizer state"] * states)]
    if gradient_bytes_per_parameter(recipe):
        kinds.append("accumulated gradients")
    tensors = [StateTensor(item.name, kind, item.elements * FLOAT_BYTES) for kind in kinds for item in trained]
    if graph.norm_state_elements:
        tensors.append(StateTensor("running statistics", "norm state", graph.norm_state_elements * FLOAT_BYTES))
    return tuple(tensors)


def check_fit(explained: MemoryExplanation, limits: DeviceLimits) -> Fit:
    """Returns how a design stands to a device; it fits a board if and only if a placement into its regions is found."""
    memory = explained.estimate
    ram_excess = memory.ram_bytes - limits.ram_bytes
    flash_excess = None if limits.flash_bytes is None else memory.flash_bytes - limits.flash_bytes
    plan, unplaced, problem = None, 0, ""
    if ram_excess > 0:
        over = f"{format_size(ram_excess)} over the budget of {format_size(limits.ram_bytes)}"
        problem = f"needs {format_size(memory.ram_bytes)}, {over}"
    elif limits.regions:
        state = list_state(explained.graph, explained.resolved.design.recipe)
        sizes = [tensor.size_bytes for tensor in state]
        plan = place_in_regions(explained.liveness, sizes, limits.regions, arena=explained.arena)
        if plan is None:
            unplaced = max(1, count_unplaced_bytes(explained.liveness, sizes, limits.regions))
            problem = _describe_overflow(explained, state, limits)
    if not problem and flash_excess is not None and flash_excess > 0:
        over = f"{format_size(flash_excess)} over the {format_size(limits.flash_bytes or 0)} that there are"
        problem = f"needs {format_size(memory.flash_bytes)} of flash, {over}"
    return Fit(ram_excess, flash_excess, unplaced, plan, problem)


def _describe_overflow(explained: MemoryExplanation, state: tuple[StateTensor, ...], limits: DeviceLimits) -> str:
    """Returns why a design that fits in the sum of the RAM does not fit in its regions."""
    opening = (
        f"needs {format_size(explained.estimate.ram_bytes)}, which fits in the sum of RAM "
        f"({format_size(limits.ram_bytes)}) but not in its regions: "
    )
    largest = max(limits.regions, key=lambda region: region.size_bytes)
    heaviest = max(state, key=lambda tensor: tensor.size_bytes)
    if heaviest.size_bytes > largest.size_bytes:
        return opening + _too_large(f"{heaviest.name} ({heaviest.term})", heaviest.size_bytes, largest)
    obstacle = find_obstacle(explained.liveness, limits.regions)
    if obstacle is None:
        return opening + f"no placement into {describe_regions(limits.regions)} was found"
    if len(obstacle.buffers) == 1:
        return opening + _too_large(f"buffer {obstacle.buffers[0].name}", obstacle.buffers[0].size_bytes, largest)
    op = explained.graph.ops[obstacle.op]
    buffers = " and ".join(f"{buffer.name} of {format_size(buffer.size_bytes)}" for buffer in obstacle.buffers)
    return opening + (
        f"at operator {obstacle.op} ({op.place}, {op.kind.value}) the buffers {buffers} do not go side by side into "
        f"{describe_regions(limits.regions)}"
    )


def _too_large(what: str, size_bytes: int, largest: Region) -> str:
    return (
        f"{what} of {format_size(size_bytes)} is larger than the largest region, {largest.name} of "
        f"{format_size(largest.size_bytes)}"
    )


def describe_regions(regions: tuple[Region, ...]) -> str:
    """Returns regions with their sizes.

    >>> describe_regions((Region("dtcm", 65536), Region("sram1", 245760)))
    'dtcm 64.0 KiB + sram1 240.0 KiB'
    """
    return " + ".join(f"{region.name} {format_size(region.size_bytes)}" for region in regions)
