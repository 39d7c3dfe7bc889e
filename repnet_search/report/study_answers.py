"""What a study answers: the best design under every budget up to its own, and what its best is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from repnet_search.results.front import best_of_origin, pareto_front, trained
from repnet_search.results.record import Origin, TrialRecord
from repnet_search.results.study import StudyView


@dataclass(frozen=True, slots=True)
class Answer:
    """The best design from a budget on, up to that of the next better answer."""

    from_bytes: int
    record: TrialRecord


def list_answers(view: StudyView) -> tuple[Answer, ...]:
    """Returns all different answers, that of the whole budget first."""
    limit = view.settings.available_bytes
    # The answer can change at these alone: at others, neither the search's best nor the best confirmed mean does.
    deciding = [record for record in trained(view.records) if record.design_id in view.confirmed]
    sizes = sorted({record.ram_bytes for record in (*pareto_front(view.records), *deciding)})
    answers: list[Answer] = []
    for size in (size for size in sizes if size <= limit):
        record = view.choose_winner(budget_bytes=size)
        if record is not None and (not answers or answers[-1].record.design_id != record.design_id):
            answers.append(Answer(size, record))
    return tuple(reversed(answers))


def find_compared(view: StudyView, origin: Origin) -> TrialRecord | None:
    """Returns the best design of an origin within the budget, one that was confirmed where there is one."""
    limit = view.settings.available_bytes
    confirmed = [record for record in view.records if record.design_id in view.confirmed]
    best = best_of_origin(confirmed, origin, budget_bytes=limit)
    return best if best is not None else best_of_origin(view.records, origin, budget_bytes=limit)
