"""The confirmation of a search as text: means with their intervals, and what may be concluded from them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from repnet_search.report.wording import (
    describe_connectors,
    describe_gap,
    describe_recipe,
    describe_widest_behind,
    format_percent,
    format_runs,
)
from repnet_search.results.confirmation import NEAR_BEST
from repnet_search.results.record import TrialRecord
from repnet_search.results.statistics import INTERVAL_SEEDS
from repnet_search.search.finish import SearchResult
from repnet_search.units import format_count, format_size


def confirmation_table(result: SearchResult) -> Table:
    """Returns all confirmed designs, the best mean first."""
    view = result.view
    some = next(iter(view.confirmed.values()))
    metric = view.settings.training.metric
    title = f"Confirmed by {format_count(len(some.runs), 'seed')} of {format_count(some.epochs, 'epoch')}"
    named = f" ({metric.label})" if metric.of("test") != "test" else ""
    table = Table(title=title + named, title_justify="left", box=None)
    table.add_column("")
    table.add_column("design")
    for heading in ("memory", "search", "validation", "test"):
        table.add_column(heading, justify="right")
    table.add_column("connectors after block")
    roles = {record.design_id: name for name, record in reversed(result.compared)}
    near = {record.design_id for record in result.near}
    for record in _confirmed(result):
        confirmation = view.confirmed[record.design_id]
        mark = "★" if record.design_id == result.winner.design_id else "≈" if record.design_id in near else ""
        size = f"{record.design.resolution} px, {describe_recipe(record.design)}"
        role = roles.get(record.design_id, "")
        table.add_row(
            mark,
            f"{record.short_id}{f', {role}' if role else ''}",
            format_size(record.ram_bytes),
            format_percent(record.validation_accuracy),
            format_runs(confirmation.validation_accuracies),
            format_runs(confirmation.test_accuracies) if confirmation.test_accuracies else "–",
            f"{describe_connectors(record.design)}  ({size})",
        )
    return table


def conclusions(result: SearchResult) -> Iterator[str]:
    """Yields sentences: how the intervals are meant, the gap to the test images, and the cheapest of the best."""
    confirmation = result.view.confirmed[result.winner.design_id]
    if 1 < len(confirmation.runs) < INTERVAL_SEEDS:
        yield (
            f"In brackets is the range of the {len(confirmation.runs)} seeds, too few for an interval of their mean; "
            f"--confirm-seeds {INTERVAL_SEEDS} gives one."
        )
    elif len(confirmation.runs) > 1:
        yield "± is half the 95 % interval of the mean over seeds."
    if confirmation.test is not None:
        gap = 100 * (confirmation.validation[0] - confirmation.test[0])
        yield describe_gap(gap)
    others = [record for record in result.near if record.design_id != result.winner.design_id]
    if others:
        cheapest = result.near[0]
        which = "the winner itself" if cheapest.design_id == result.winner.design_id else cheapest.short_id
        yield (
            f"≈ {len(others)} more within a point of the best on validation; the cheapest of them all is {which} with "
            f"{format_size(cheapest.ram_bytes)}."
        )
    if result.last_layer is not None and result.winner.design_id == result.last_layer.design_id:
        yield "No Rep-Net beats the last layer alone here: train that."
    elif result.widest is not None and result.widest in result.near:
        tested = result.view.test_gain(result.winner, result.widest)
        if tested is not None and tested > NEAR_BEST:
            yield describe_widest_behind(tested)
        else:
            yield "The widest design that fits is as good: a search was not needed here."


def _confirmed(result: SearchResult) -> list[TrialRecord]:
    """Returns one record of each confirmed design that fits, the best mean first."""
    view = result.view
    limit = view.settings.available_bytes
    found = {r.design_id: r for r in view.records if r.design_id in view.confirmed and r.ram_bytes <= limit}
    return sorted(found.values(), key=lambda record: -view.confirmed[record.design_id].validation[0])
