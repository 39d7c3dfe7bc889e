"""The parts of a report that compare designs: the confirmation with its intervals, and the baselines."""

from __future__ import annotations

from collections.abc import Iterator

from repnet_search.report.study_answers import find_compared
from repnet_search.report.study_parts import Items, Paragraph, Part, Section, Table
from repnet_search.report.wording import (
    describe_connectors,
    describe_gap,
    describe_recipe,
    format_percent,
    format_runs,
)
from repnet_search.results.confirmation import near_best
from repnet_search.results.record import Origin, TrialRecord
from repnet_search.results.statistics import INTERVAL_SEEDS
from repnet_search.results.study import StudyView
from repnet_search.units import format_count, format_size

BASELINE_ORIGINS = (Origin.LAST_LAYER, Origin.WIDEST, Origin.PAPER)


def confirmation_section(view: StudyView, winner: TrialRecord) -> Section:
    """Returns what training again, from fresh seeds, says of the best designs."""
    if not view.confirmed:
        text = (
            "Nothing was confirmed: the best of many trainings of one seed each looks better than it is. The same "
            "command with --confirm trains the best designs again from fresh seeds."
        )
        return Section("Confirmation", (Paragraph(text),))
    parts: list[Part] = [_confirmation_table(view, winner), Items(tuple(_conclusions(view, winner)))]
    return Section("Confirmation", tuple(parts))


def baselines_section(view: StudyView, winner: TrialRecord) -> Section:
    """Returns the winner beside the last layer alone, the widest design and the paper's preset."""
    compared = [("winner", winner)]
    compared += [(origin.value, found) for origin in BASELINE_ORIGINS if (found := find_compared(view, origin))]
    rows = []
    for name, record in compared:
        confirmation = view.confirmed.get(record.design_id)
        tests = confirmation.test_accuracies if confirmation is not None else []
        runs = confirmation.validation_accuracies if confirmation is not None else None
        rows.append(
            (
                name,
                record.short_id,
                format_size(record.ram_bytes),
                format_runs(runs) if runs else f"{format_percent(record.validation_accuracy)}, once",
                format_runs(tests) if tests else format_percent(view.tested.get(record.design_id)),
                f"{describe_connectors(record.design)}  ({record.design.resolution} px, "
                f"{describe_recipe(record.design)})",
            )
        )
    metric = view.settings.training.metric
    headings = ("compared", "design", "memory", metric.of("validation"), metric.of("test"), "connectors after block")
    notes = Paragraph(
        "The last layer alone trains the linear classifier and nothing else; the widest design is what fits when each "
        "field is as large as it goes; the paper's preset is its released placement, narrowed until it fits. "
        "“once” is the search's short training; a dash was not measured."
    )
    return Section("Baselines", (Table(headings, tuple(rows), headings[2:5], strong=0), notes))


def _confirmation_table(view: StudyView, winner: TrialRecord) -> Table:
    near = {record.design_id for record in near_best(view.records, view.confirmed, budget_bytes=_limit(view))}
    roles = {record.design_id: origin.value for origin in BASELINE_ORIGINS if (record := find_compared(view, origin))}
    records = list_confirmed(view)
    rows = []
    for record in records:
        confirmation = view.confirmed[record.design_id]
        mark = "★ " if record.design_id == winner.design_id else "≈ " if record.design_id in near else ""
        role = roles.get(record.design_id, "")
        rows.append(
            (
                f"{mark}{record.short_id}{f', {role}' if role else ''}",
                format_size(record.ram_bytes),
                format_percent(record.validation_accuracy),
                format_runs(confirmation.validation_accuracies),
                format_runs(confirmation.test_accuracies) if confirmation.test_accuracies else "–",
                ", ".join(str(run.seed) for run in confirmation.runs),
                str(confirmation.epochs),
            )
        )
    metric = view.settings.training.metric
    headings = ("design", "memory", "search", metric.of("validation"), metric.of("test"), "seeds", "epochs")
    strong = next((index for index, record in enumerate(records) if record.design_id == winner.design_id), None)
    numbers = (*headings[1:5], "epochs")
    title = "Trained again from fresh seeds, the best mean first (★ the winner, ≈ within a point of the best)"
    return Table(headings, tuple(rows), numbers, title=title, strong=strong)


def _conclusions(view: StudyView, winner: TrialRecord) -> Iterator[str]:
    """Yields how the intervals are meant, the gap to the test images, and the cheapest of the best."""
    seeds = max(len(item.runs) for item in view.confirmed.values())
    if 1 < seeds < INTERVAL_SEEDS:
        yield (
            f"In brackets is the range of the {seeds} seeds, too few for an interval of their mean; "
            f"--confirm-seeds {INTERVAL_SEEDS} gives one."
        )
    elif seeds > 1:
        yield "± is half the 95 % interval of the mean over seeds (Student's t)."
    confirmation = view.confirmed.get(winner.design_id)
    if confirmation is None:
        yield f"The winner by the search's own accuracy, {winner.short_id}, is not among what was confirmed."
    else:
        yield "The winner is the best of this table on validation, so that its mean there is a little too good."
    if confirmation is not None and confirmation.test is not None:
        gap = 100 * (confirmation.validation[0] - confirmation.test[0])
        yield describe_gap(gap)
    yield from _describe_near(view, winner)


def _describe_near(view: StudyView, winner: TrialRecord) -> Iterator[str]:
    near = near_best(view.records, view.confirmed, budget_bytes=_limit(view))
    others = [record for record in near if record.design_id != winner.design_id]
    if others:
        cheapest = near[0]
        which = "the winner itself" if cheapest.design_id == winner.design_id else cheapest.short_id
        yield (
            f"{format_count(len(others), 'more design')} within a point of the best on validation; the cheapest of "
            f"them all is {which} with {format_size(cheapest.ram_bytes)}."
        )


def list_confirmed(view: StudyView) -> list[TrialRecord]:
    """Returns one record of each confirmed design that fits, the best mean first."""
    limit = _limit(view)
    found = {r.design_id: r for r in view.records if r.design_id in view.confirmed and r.ram_bytes <= limit}
    return sorted(found.values(), key=lambda record: -view.confirmed[record.design_id].validation[0])


def _limit(view: StudyView) -> int:
    return view.settings.available_bytes
