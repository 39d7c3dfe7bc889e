"""How designs, memory and studies look as text."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from repnet_search.results.record import TrialRecord
from repnet_search.results.statistics import mean_and_interval
from repnet_search.spec.design import Design
from repnet_search.spec.training import Metric
from repnet_search.units import format_size

if TYPE_CHECKING:
    from repnet_search.data.summary import Imbalance  # torch, which an estimate needs not
    from repnet_search.results.confirmation import Confirmation

INTERVAL_SEEDS = 3
"""Of fewer seeds their range is shown."""

_BAR_WIDTH = 32
_EXCHANGE_SIGNS = {"both": "⇄", "to_backbone": "→", "to_repnet": "←"}


def create_console(*, stderr: bool = False) -> Console:
    """Returns a console; where nobody watches, lines are as wide as the content needs.

    Without markup: names of folders and studies are the user's, and brackets in them are no tags.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 140
    return Console(stderr=stderr, highlight=False, markup=False, width=width, soft_wrap=False)


def format_percent(share: float | None, *, digits: int = 1) -> str:
    """Returns a share in 0..1 as a percentage."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def format_runs(accuracies: Sequence[float]) -> str:
    """Returns the mean accuracy of several seeds, all in 0..1, in percent.

    With its 95 % interval, or of fewer than INTERVAL_SEEDS with their range: t of one degree of freedom is 12.7, an
    interval that says nothing.
    """
    if len(accuracies) == 1:
        return format_percent(accuracies[0])
    if len(accuracies) < INTERVAL_SEEDS:
        low, high = 100 * min(accuracies), 100 * max(accuracies)
        return f"{100 * statistics.mean(accuracies):.1f} ({low:.1f}–{high:.1f}) %"
    mean, half = mean_and_interval(accuracies)
    return f"{100 * mean:.1f} ± {100 * (half or 0.0):.1f} %"


def format_count(count: int, noun: str) -> str:
    """Returns a number of things: 1 epoch, 2 epochs."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def describe_accuracy(record: TrialRecord, confirmation: Confirmation | None, *, metric: Metric) -> str:
    """Returns a design's accuracy on validation: what its confirmation found, else what the search saw."""
    validation = metric.of("on validation")
    if confirmation is None:
        return f"{format_percent(record.validation_accuracy)} {validation}"
    by = f"{format_count(len(confirmation.runs), 'seed')} of {format_count(confirmation.epochs, 'epoch')}"
    return f"{format_runs(confirmation.validation_accuracies)} {validation}, confirmed by {by}"


def front_notes(front: Sequence[TrialRecord], *, winner: TrialRecord) -> list[str]:
    """Returns a line for a winner that has no row on a front; none where it has."""
    if any(record.design_id == winner.design_id for record in front):
        return []
    return [
        f"★ {winner.short_id} is not on this front, which is made of the accuracies that the search saw "
        f"({format_percent(winner.validation_accuracy)} here): it won by its confirmed mean."
    ]


def describe_connectors(design: Design) -> str:
    """Returns where the connectors sit and what they do: 6⇄ writes and reads, 3← reads, 13→ writes."""
    if not design.connectors:
        return "all biases" if design.train_bias else "none"
    text = " ".join(f"{item.after_block}{_EXCHANGE_SIGNS[item.exchange.value]}" for item in design.connectors)
    return text + (" + biases" if design.train_bias else "")


def describe_recipe(design: Design) -> str:
    """Returns the recipe in a few words."""
    recipe = design.recipe
    head = "" if recipe.head_lr_ratio == 1 else f", head {recipe.head_lr_ratio:g}×"
    return f"{recipe.optimizer.value} ×{recipe.accumulate}, lr {recipe.lr:g}{head}"


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
            f"{record.trainable_parameters:,}".replace(",", " "),
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
    line.append(f" {100 * size_bytes / whole_bytes:5.1f} %")
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
    for name, record in compared:
        width = f"{_describe_width(record.design)}, " if widths else ""
        size = f"{width}{record.design.resolution} px"
        table.add_row(
            name,
            format_size(record.ram_bytes),
            format_percent(record.validation_accuracy),
            format_percent(tested.get(record.design_id)),
            f"{describe_connectors(record.design)}  ({size}, {describe_recipe(record.design)})",
        )
    return table
