"""How an explained training memory looks as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from repnet_search.memory.accounts import Account, AccountFigure
from repnet_search.memory.explain import MemoryExplanation, Peak, PlaceMemory
from repnet_search.memory.nearest import NearestDesign
from repnet_search.memory.ways_out import WaysOut
from repnet_search.units import KIB, format_number, format_size

SHOWN_BUFFERS = 6
_PREFIXES = ("the nearest design that fits", "or", "or")
PAPER_MB = 1_000_000
"""The published tables count in MB of 10^6 bytes."""


def peak_lines(peak: Peak, *, op_count: int) -> Iterator[str]:
    """Yields what runs at the peak and the largest buffers alive there."""
    yield f"  At the peak, operator {peak.op} of 0..{op_count - 1}, {format_size(peak.live_bytes)} are alive:"
    for buffer in peak.alive[:SHOWN_BUFFERS]:
        shape = "×".join(map(str, buffer.shape))
        if buffer.first_place == buffer.last_place:
            where = f"within {buffer.first_place}"
        else:
            where = f"from {buffer.first_place} to {buffer.last_place}"
        yield f"    {format_size(buffer.size_bytes):>12}  {buffer.name}, {buffer.role.value} {shape}, {where}"
    rest = peak.alive[SHOWN_BUFFERS:]
    if rest:
        yield f"    {format_size(sum(buffer.size_bytes for buffer in rest)):>12}  in {len(rest)} smaller ones"


def places_table(places: Sequence[PlaceMemory], explained: MemoryExplanation) -> Table:
    """Returns a row per block and module, and the step's own figures below."""
    memory = explained.estimate
    table = Table(
        title=f"By block, sizes in KiB (account arena, schedule {memory.schedule.value}, micro-batch {memory.batch})",
        title_justify="left",
        box=None,
        show_footer=True,
    )
    table.add_column("place", footer="step")
    table.add_column("output shape")
    for heading, footer in (
        ("output", ""),
        ("kept", _kib(memory.kept_bytes)),
        ("of it masks", _kib(sum(place.mask_bytes for place in places))),
        ("peak forward", _kib(memory.forward_peak_bytes)),
        ("peak backward", _kib(memory.backward_peak_bytes)),
        ("MACs forward", format_number(memory.forward_macs)),
        ("MACs step", format_number(memory.macs)),
        ("parameters", format_number(memory.trainable_parameters)),
    ):
        table.add_column(heading, footer=footer, justify="right")
    for place in places:
        table.add_row(
            place.place,
            "×".join(map(str, place.shape)),
            _kib(place.output_bytes),
            _kib(place.kept_bytes),
            _kib(place.mask_bytes),
            _kib(place.forward_peak_bytes),
            _kib(place.backward_peak_bytes),
            format_number(place.forward_macs),
            format_number(place.macs),
            format_number(place.trainable_parameters),
        )
    return table


def accounts_table(figures: Sequence[AccountFigure]) -> Table:
    """Returns a row per account and schedule."""
    table = Table(title="All accounts; they count different things", title_justify="left", box=None)
    for heading in ("account", "schedule", "micro-batch", "recipe"):
        table.add_column(heading)
    table.add_column("total", justify="right")
    table.add_column("is the sum of", overflow="fold")
    for figure in figures:
        recipe = figure.recipe
        table.add_row(
            figure.account.value,
            figure.schedule.value if figure.schedule is not None else "–",
            str(figure.batch),
            f"{recipe.optimizer.value} ×{recipe.accumulate}" if recipe is not None else "not counted",
            "–" if figure.total_bytes is None else _account_size(figure.account, figure.total_bytes),
            figure.missing or ", ".join(f"{name} {_account_size(figure.account, size)}" for name, size in figure.terms),
        )
    return table


def account_meanings() -> Iterator[str]:
    """Yields what each account counts."""
    for account in Account:
        yield f"  {account.value:<8}{account.meaning}"


def ways_out_lines(ways_out: WaysOut) -> Iterator[str]:
    """Yields by how much a design is over its budget, or what else it has no room in, and what would fit."""
    over_ram = ways_out.fit.ram_excess_bytes > 0
    excess = format_size(ways_out.fit.excess_bytes)
    yield f"  {excess} over the budget" if over_ram else f"  it {ways_out.fit.problem}"
    if not ways_out.nearest:
        least = f": the last layer alone with small images needs {format_size(ways_out.least_bytes)}"
        yield f"  no design on this backbone fits{least if over_ram else ''}"
    for prefix, nearest in zip(_PREFIXES, ways_out.nearest, strict=False):
        yield f"  {prefix}: {describe_nearest(nearest)}"
    for schedule, size in ways_out.schedules:
        yield f"  with --schedule {schedule.value} it needs {format_size(size)}, which fits"


def describe_nearest(nearest: NearestDesign) -> str:
    """Returns what to change, and the memory then."""
    return f"{nearest.description} ({format_size(nearest.memory.ram_bytes)})"


def explanation_to_json(
    explained: MemoryExplanation,
    figures: Sequence[AccountFigure],
    ways_out: WaysOut | None,
    *,
    budget_bytes: int | None,
) -> dict[str, Any]:
    """Returns all that is known of a design's training memory; `nearest` is null where nothing had to be looked for."""
    memory, design = explained.estimate, explained.resolved.design
    account = dataclasses.asdict(memory) | {
        "ram_bytes": memory.ram_bytes,
        "terms": dict(memory.terms),
        "flash_bytes": memory.flash_bytes,
        "flash_terms": dict(memory.flash.terms),
        "float_macs": memory.float_macs,
    }
    return {
        "design_id": explained.resolved.id,
        "account": "arena",
        "schedule": memory.schedule.value,
        "batch": memory.batch,
        "recipe": design.recipe.model_dump(mode="json"),
        "memory": account,
        "peak": dataclasses.asdict(explained.peak),
        "accounts": [_figure_to_json(figure) for figure in figures],
        "blocks": [dataclasses.asdict(place) for place in explained.places],
        "budget_bytes": budget_bytes,
        "over_budget_bytes": 0 if ways_out is None else max(0, ways_out.fit.ram_excess_bytes),
        "over_flash_bytes": 0 if ways_out is None else max(0, ways_out.fit.flash_excess_bytes or 0),
        "nearest": None if ways_out is None else [_nearest_to_json(item) for item in ways_out.nearest],
        "fitting_schedules": {} if ways_out is None else dict(ways_out.schedules),
        "design": design.model_dump(mode="json", exclude_none=True),
    }


def _figure_to_json(figure: AccountFigure) -> dict[str, Any]:
    return {
        "account": figure.account.value,
        "counts": figure.account.meaning,
        "schedule": figure.schedule,
        "batch": figure.batch,
        "recipe": None if figure.recipe is None else figure.recipe.model_dump(mode="json"),
        "total_bytes": figure.total_bytes,
        "terms": dict(figure.terms),
        "missing": figure.missing or None,
    }


def _nearest_to_json(nearest: NearestDesign) -> dict[str, Any]:
    return {
        "changes": [change._asdict() for change in nearest.changes],
        "ram_bytes": nearest.memory.ram_bytes,
        "terms": dict(nearest.memory.terms),
        "trainable_parameters": nearest.memory.trainable_parameters,
        "design": nearest.design.model_dump(mode="json", exclude_none=True),
    }


def _account_size(account: Account, size_bytes: int) -> str:
    return f"{size_bytes / PAPER_MB:.2f} MB" if account is Account.PAPER else format_size(size_bytes)


def _kib(size_bytes: int | None) -> str:
    return "–" if size_bytes is None else f"{size_bytes / KIB:.1f}"
