"""How designs, memory and studies look as text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from repnet_search.report.wording import describe_connectors, describe_recipe, format_percent
from repnet_search.results.record import TrialRecord
from repnet_search.spec.design import Design
from repnet_search.spec.training import Metric
from repnet_search.units import format_number, format_size

if TYPE_CHECKING:
    from repnet_search.data.summary import Imbalance  # torch, which an estimate needs not

_BAR_WIDTH = 32
_TIMES_FROM = 10


def create_console(*, stderr: bool = False) -> Console:
    """Returns a console; where nobody watches, lines are as wide as the content needs.

    Without markup: names of folders and studies are the user's, and brackets in them are no tags.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 140
    return Console(stderr=stderr, highlight=False, markup=False, width=width, soft_wrap=False)


def describe_imbalance(found: Imbalance) -> str:
    """Returns how many training images the classes have."""
    if found.least == found.most:
        return f"none: each class has {found.most} training images"
    return (
        f"{found.least} ({found.smallest}) to {found.most} ({found.largest}) training images per class, "
        f"{found.ratio:.3g} : 1"
    )


def _describe_width(design: Design) -> str:
    return f"×{design.backbone.width_mult:g}"


def front_table(
    records: Iterable[TrialRecord],
    *,
    winner: TrialRecord | None,
    metric: Metric = Metric.ACCURACY,
    widths: bool = False,
) -> Table:
    """Returns the Pareto front as a table, least memory first; the winner is marked, and with `widths` the backbone."""
    title = f"Pareto front: validation {metric.label} against training memory"
    table = Table(title=title, title_justify="left", box=None)
    for heading, justify in (
        ("", "left"),
        ("design", "left"),
        ("memory", "right"),
        (metric.label, "right"),
        *([("width", "right")] if widths else []),
        ("px", "right"),
        ("parameters", "right"),
        ("recipe", "left"),
        ("connectors after block", "left"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for record in records:
        mark = "★" if winner is not None and record.design_id == winner.design_id else ""
        table.add_row(
            mark,
            record.short_id,
            format_size(record.ram_bytes),
            format_percent(record.validation_accuracy),
            *([_describe_width(record.design)] if widths else []),
            str(record.design.resolution),
            format_number(record.trainable_parameters),
            describe_recipe(record.design),
            describe_connectors(record.design),
            style="bold" if mark else None,
        )
    return table


def memory_bars(terms: Sequence[tuple[str, int]], *, budget_bytes: int | None) -> list[Text]:
    """Returns a bar per memory term against the budget (against their sum where there is none)."""
    total = sum(size for _, size in terms)
    whole = budget_bytes or total
    lines = [bar_line(name, size_bytes=size, whole_bytes=whole) for name, size in terms]
    share = f" of {format_size(budget_bytes)}" if budget_bytes is not None else ""
    lines.append(Text(f"  {'training memory':<22}{format_size(total):>12}{share}", style="bold"))
    return lines


def bar_line(name: str, *, size_bytes: int, whole_bytes: int) -> Text:
    """Returns a size with its bar and its share of a whole."""
    filled = min(_BAR_WIDTH, round(_BAR_WIDTH * size_bytes / whole_bytes))
    line = Text(f"  {name:<22}{format_size(size_bytes):>12}  ")
    line.append("█" * filled, style="cyan")
    line.append("·" * (_BAR_WIDTH - filled), style="dim")
    share = size_bytes / whole_bytes
    line.append(f" {100 * share:5.1f} %" if share < _TIMES_FROM else f" {share:.0f} times")
    return line


def flash_line(size_bytes: int | None, *, limit_bytes: int | None) -> list[Text]:
    """Returns a line for a design's flash against its limit; none where there is no limit."""
    if size_bytes is None or limit_bytes is None:
        return []
    return [Text(f"  {'flash':<22}{format_size(size_bytes):>12} of {format_size(limit_bytes)}", style="bold")]


def comparison_table(
    compared: Sequence[tuple[str, TrialRecord]],
    tested: dict[str, float],
    *,
    metric: Metric = Metric.ACCURACY,
    widths: bool = False,
) -> Table:
    """Returns the compared designs with their accuracy on validation and test images, with `widths` their backbone."""
    title = "On the test images" + (f" ({metric.label})" if metric is not Metric.ACCURACY else "")
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    for heading in ("memory", "validation", "test"):
        table.add_column(heading, justify="right")
    table.add_column("connectors after block")
    names: dict[str, list[str]] = {}  # the winner may be the last layer alone
    for name, record in compared:
        names.setdefault(record.design_id, []).append(name)
    for record in {record.design_id: record for _, record in compared}.values():
        width = f"{_describe_width(record.design)}, " if widths else ""
        size = f"{width}{record.design.resolution} px"
        table.add_row(
            ", ".join(names[record.design_id]),
            format_size(record.ram_bytes),
            format_percent(record.validation_accuracy),
            format_percent(tested.get(record.design_id)),
            f"{describe_connectors(record.design)}  ({size}, {describe_recipe(record.design)})",
        )
    return table
