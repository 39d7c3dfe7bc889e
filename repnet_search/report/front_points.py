"""The trials of a study as the front's figure and its table show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from repnet_search.results.confirmation import near_best
from repnet_search.results.front import pareto_front
from repnet_search.results.record import Origin, Outcome
from repnet_search.results.study import StudyView

SEARCHED: Final = "searched"
ROLES: Final = {
    Origin.LAST_LAYER: "last layer alone",
    Origin.WIDEST: "widest fitting",
    Origin.PAPER: "paper preset",
}
WITHOUT_ACCURACY: Final = (Outcome.OVER_BUDGET, Outcome.STOPPED, Outcome.FAILED)
"""Outcomes that leave a memory and no accuracy to compare."""


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A trial as the front's figure shows it; accuracies and intervals (half their width) in 0..1.

    Args:
        trial: its number.
        design: the short id of its design.
        role: why it was proposed, in the words of the legend.
        outcome: how it ended.
        ram_bytes: its training memory, estimated.
        proxy: the accuracy that the search measured, of one seed.
        confirmed: the mean accuracy of the confirmation, where there was one.
        interval: half of its 95 % interval.
        seeds: of the confirmation.
        epochs: of each of its trainings.
        on_front: no other trained design beats the proxy with as little memory.
        is_near_best: confirmed, and within a point of the best confirmed mean within the budget.
        is_recommended: the cheapest of these.
        is_winner: what the study names its best design.
        reason: why there is no accuracy.
    """

    trial: int
    design: str
    role: str
    outcome: Outcome
    ram_bytes: int
    proxy: float | None
    confirmed: float | None = None
    interval: float | None = None
    seeds: int = 0
    epochs: int = 0
    on_front: bool = False
    is_near_best: bool = False
    is_recommended: bool = False
    is_winner: bool = False
    reason: str = ""

    @property
    def is_marked(self) -> bool:
        """Whether it is shown whatever else is hidden: the front, what was confirmed, what studies are compared to."""
        return self.on_front or self.confirmed is not None or self.role != SEARCHED


def list_front_points(view: StudyView) -> tuple[FrontPoint, ...]:
    """Returns a point per trial that was trained, stopped, failed or over the budget."""
    front = {record.number for record in pareto_front(view.records)}
    near = near_best(view.records, view.confirmed, budget_bytes=view.settings.available_bytes)
    near_ids = {record.design_id for record in near}
    cheapest = near[0].design_id if near else None
    winner = view.choose_winner()
    drawn = (Outcome.TRAINED, *WITHOUT_ACCURACY)
    points = []
    for record in view.records:
        if record.outcome not in drawn:
            continue
        trained = record.outcome is Outcome.TRAINED
        confirmation = view.confirmed.get(record.design_id) if trained else None
        mean, interval = confirmation.validation if confirmation is not None else (None, None)
        points.append(
            FrontPoint(
                trial=record.number,
                design=record.short_id,
                role=ROLES.get(record.origin, SEARCHED),
                outcome=record.outcome,
                ram_bytes=record.ram_bytes,
                proxy=record.validation_accuracy if trained else None,
                confirmed=mean,
                interval=interval,
                seeds=len(confirmation.runs) if confirmation is not None else 0,
                epochs=confirmation.epochs if confirmation is not None else 0,
                on_front=record.number in front,
                is_near_best=trained and record.design_id in near_ids,
                is_recommended=trained and record.design_id == cheapest,
                is_winner=winner is not None and record.number == winner.number,
                reason=record.reason,
            )
        )
    return tuple(points)
