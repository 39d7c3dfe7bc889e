"""What a search found: the winner beside the last layer alone and the widest fitting design, on the test images."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from repnet_search.errors import StudyError
from repnet_search.results.front import best_of_origin, best_under
from repnet_search.results.record import Origin, TrialRecord
from repnet_search.results.study import StudyView, view_study
from repnet_search.search.trained import measure_test_accuracies
from repnet_search.training.task import Task


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A study with its winner and what it is compared with; test accuracies are in `view.tested`."""

    view: StudyView
    winner: TrialRecord
    last_layer: TrialRecord | None
    widest: TrialRecord | None

    @property
    def compared(self) -> list[tuple[str, TrialRecord]]:
        """The designs of the comparison with their names."""
        named = [("winner", self.winner), ("last layer alone", self.last_layer), ("widest fitting", self.widest)]
        return [(name, record) for name, record in named if record is not None]


def finish_search(study: optuna.Study, task: Task) -> SearchResult:
    """Returns the result of a study; reads the test set for the compared designs.

    Raises:
        StudyError: nothing was trained.
    """
    view = view_study(study)
    limit = view.settings.available_bytes
    winner = best_under(view.records, budget_bytes=limit)
    if winner is None:
        raise StudyError(f"The study {view.name!r} has no trained design yet; run it for longer.")
    last_layer = best_of_origin(view.records, Origin.LAST_LAYER, budget_bytes=limit)
    widest = best_of_origin(view.records, Origin.WIDEST, budget_bytes=limit)
    compared = [record for record in (winner, last_layer, widest) if record is not None]
    measure_test_accuracies(study, compared, task)
    return SearchResult(view_study(study), winner, last_layer, widest)
