"""What the best design under any budget is, and what a little more memory would buy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import repnet_search
from repnet_search import StudyView, TrialRecord

MORE_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True)
class BudgetAnswer:
    """The best design within a budget and within `MORE_BYTES` more; None where nothing fits.

    `is_searched` tells whether the search went so far. `gain` is the difference of their accuracies (0..1), both of the
    confirmation or both of the search, which `is_confirmed` tells: a proxy is not compared with a confirmed mean.
    """

    record: TrialRecord | None
    more: TrialRecord | None
    gain: float | None
    is_confirmed: bool
    is_searched: bool

    @property
    def sentence(self) -> str:
        """What the next `MORE_BYTES` buy."""
        size = repnet_search.format_size(MORE_BYTES).removesuffix(".0 KiB") + " KiB"
        if self.more is None or (self.record is not None and self.more.design_id == self.record.design_id):
            if not self.is_searched:
                return f"What the next {size} buy is not known: the search's own budget ends before."
            return f"The next {size} buy nothing: no trained design between here and there is better."
        what = f"design {self.more.short_id}, {repnet_search.format_size(self.more.ram_bytes)}"
        if self.gain is None:
            return f"The next {size} buy the first design that fits: {what}."
        basis = "confirmed means" if self.is_confirmed else "as the search measured, one seed each"
        if self.gain <= 0:
            return f"The next {size} buy no accuracy ({100 * self.gain:+.1f} points with {what}; {basis})."
        return f"The next {size} buy {100 * self.gain:+.1f} points: {what} ({basis})."


def answer_budget(view: StudyView, budget_bytes: int) -> BudgetAnswer:
    """Returns the answer of a study for a budget of training memory."""
    record = view.choose_winner(budget_bytes=budget_bytes)
    more = view.choose_winner(budget_bytes=budget_bytes + MORE_BYTES)
    is_searched = budget_bytes + MORE_BYTES <= view.settings.available_bytes
    if record is None or more is None:
        return BudgetAnswer(record, more, None, is_confirmed=False, is_searched=is_searched)
    both = [view.confirmed.get(item.design_id) for item in (record, more)]
    before, after = (item.validation[0] if item is not None else None for item in both)
    if before is not None and after is not None:
        return BudgetAnswer(record, more, after - before, is_confirmed=True, is_searched=is_searched)
    return _answer_by_search(view, record, budget_bytes, is_searched=is_searched)


def _answer_by_search(view: StudyView, record: TrialRecord, budget_bytes: int, *, is_searched: bool) -> BudgetAnswer:
    """Returns the answer where one of the two was not confirmed: what more memory buys is then the search's to say."""
    seen = repnet_search.best_under(view.records, budget_bytes=budget_bytes)
    more = repnet_search.best_under(view.records, budget_bytes=budget_bytes + MORE_BYTES)
    if seen is None or more is None:
        return BudgetAnswer(record, None, None, is_confirmed=False, is_searched=is_searched)
    gain = (more.validation_accuracy or 0.0) - (seen.validation_accuracy or 0.0)
    better = more if gain > 0 else record
    return BudgetAnswer(record, better, gain, is_confirmed=False, is_searched=is_searched)
