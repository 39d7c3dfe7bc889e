"""The words for designs and accuracies that tables and reports share."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from repnet_search.backbones import has_last_conv, has_widths
from repnet_search.results.record import TrialRecord
from repnet_search.results.statistics import INTERVAL_SEEDS, mean_and_interval
from repnet_search.spec.design import BackboneSpec, Design
from repnet_search.spec.training import Metric
from repnet_search.units import format_count

if TYPE_CHECKING:
    from repnet_search.results.confirmation import Confirmation  # optuna, which an estimate needs not

_EXCHANGE_SIGNS = {"both": "⇄", "to_backbone": "→", "to_repnet": "←"}


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


def describe_widest_behind(tested: float) -> str:
    """Returns that the widest fitting design is as good on validation, and by how much worse, in 0..1, on the tests."""
    return (
        "On validation the widest design that fits comes within a point of the winner; on the test images it is "
        f"{100 * tested:.1f} points behind."
    )


def describe_gap(points: float) -> str:
    """Returns by how many points the winner is better on the images that chose it, in a sentence.

    >>> describe_gap(1.5), describe_gap(-0.01)
    ('The winner is 1.5 points better on validation than on test.', 'The winner is as good on validation as on test.')
    """
    if abs(points) < 0.05:
        return "The winner is as good on validation as on test."
    return f"The winner is {abs(points):.1f} points {'better' if points > 0 else 'worse'} on validation than on test."


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


def describe_backbone(spec: BackboneSpec) -> str:
    """Returns a backbone with what it is chosen by: its width, and whether it ends before its last convolution."""
    width = f" ×{spec.width_mult:g}" if has_widths(spec.name) else ""
    return f"{spec.name}{width}{' without last conv' if has_last_conv(spec.name) and not spec.last_conv else ''}"
