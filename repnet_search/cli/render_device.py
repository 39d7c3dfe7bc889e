"""How a design on a device looks: its regions of RAM, its flash, and the time of a step; as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from repnet_search.boards import Board
from repnet_search.cli.limit_options import Device
from repnet_search.cli.render import bar_line
from repnet_search.memory import Fit, MemoryEstimate, estimate_step_seconds
from repnet_search.memory.fit import describe_regions
from repnet_search.units import format_size


def device_lines(device: Device, memory: MemoryEstimate, fit: Fit) -> Iterator[Text]:
    """Yields a bar per region of a board, a bar per term of flash, and the order of magnitude of a step's time."""
    board = device.board
    if board is not None:
        yield Text(f"  {board.title}: RAM {describe_regions(board.ram_regions)}, {describe_reserve(device)}")
        yield from _region_lines(device, fit)
    if device.limits.flash_bytes is not None:
        yield from flash_lines(memory, device.limits.flash_bytes)
    if board is not None:
        yield Text(f"  {'step':<12}{describe_step(memory, board)}")


def flash_lines(memory: MemoryEstimate, flash_bytes: int) -> Iterator[Text]:
    """Yields a bar per term of flash, and their sum."""
    for name, size in memory.flash.terms:
        yield bar_line(name, size_bytes=size, whole_bytes=flash_bytes)
    yield Text(f"  {'flash':<22}{format_size(memory.flash_bytes):>12} of {format_size(flash_bytes)}", style="bold")


def describe_reserve(device: Device) -> str:
    """Returns what is kept free, and where."""
    if not device.reserve_bytes:
        return "no reserve"
    where = " and ".join(region.name for region in device.reserved)
    return f"{format_size(device.reserve_bytes)} of it reserved" + (f", out of {where}" if where else "")


def describe_step(memory: MemoryEstimate, board: Board) -> str:
    """Returns how long a step takes, as an order of magnitude."""
    macs = " and ".join(
        f"{count / 1e6:.1f} M MACs in {kind}"
        for kind, count in (("int8", memory.int8_macs), ("fp32", memory.float_macs))
        if count
    )
    milliseconds = float(f"{1000 * estimate_step_seconds(memory, board):.1g}")
    time = f"{milliseconds / 1000:g} s" if milliseconds >= 1000 else f"{milliseconds:g} ms"
    return (
        f"about {time} per micro-batch of {memory.batch} (order of magnitude: {macs} on a {board.core.name} at "
        f"{board.clock_hz / 1e6:.0f} MHz{'' if board.has_fpu else ' without FPU'})"
    )


def device_to_json(device: Device, memory: MemoryEstimate, fit: Fit) -> dict[str, Any]:
    """Returns what is known of a design on a device."""
    board, plan = device.board, fit.plan
    regions = [
        {
            "name": region.name,
            "size_bytes": region.size_bytes,
            "buffer_bytes": plan.buffer_bytes[index] if plan is not None else None,
            "state_bytes": plan.state_bytes[index] if plan is not None else None,
        }
        for index, region in enumerate(device.limits.regions)
    ]
    return {
        "board": None if board is None else dataclasses.asdict(board),
        "ram_bytes": device.ram_bytes,
        "reserve_bytes": device.reserve_bytes,
        "reserved": [dataclasses.asdict(region) for region in device.reserved],
        "flash_bytes": device.limits.flash_bytes,
        "regions": regions,
        "fits": fit.fits,
        "problem": fit.problem or None,
        "step_seconds": None if board is None else estimate_step_seconds(memory, board),
    }


def _region_lines(device: Device, fit: Fit) -> Iterator[Text]:
    plan = fit.plan
    for index, region in enumerate(device.limits.regions):
        if plan is None:
            yield Text(f"  {region.name:<22}{'not placed':>12} in {format_size(region.size_bytes)}")
            continue
        line = bar_line(region.name, size_bytes=plan.used_bytes[index], whole_bytes=region.size_bytes)
        yield line.append(
            f" of {format_size(region.size_bytes)}: buffers {format_size(plan.buffer_bytes[index])}, "
            f"state {format_size(plan.state_bytes[index])}"
        )
