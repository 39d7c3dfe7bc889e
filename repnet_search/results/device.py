"""Which trained designs of a study a device holds: their RAM in its regions and their flash, counted from the designs.

A record has the sum of the RAM alone, so a design is placed anew, with the schedule and the classes of its study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repnet_search.memory import Fit, MemoryEstimate, check_fit, explain_memory
from repnet_search.results.confirmation import choose_winner
from repnet_search.results.front import pareto_front, trained
from repnet_search.results.record import TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.spec.resolve import resolve
from repnet_search.spec.study import StudySpec
from repnet_search.spec.target import DeviceLimits
from repnet_search.units import format_size


@dataclass(frozen=True, slots=True)
class PlacedRecord:
    """A trained trial, its account as it is counted now, and how it stands to a device."""

    record: TrialRecord
    memory: MemoryEstimate
    fit: Fit


def place_record(record: TrialRecord, settings: StudySpec, *, limits: DeviceLimits) -> PlacedRecord:
    """Returns how a trial's design stands to a device.

    Raises:
        SpecError: the design cannot be read by this version.
    """
    explained = explain_memory(resolve(record.design), classes=settings.data.classes, schedule=settings.schedule)
    return PlacedRecord(record, explained.estimate, check_fit(explained, limits))


def describe_shortage(view: StudyView, limits: DeviceLimits) -> str:
    """Returns which of the limits leaves no trained design of a study, as a clause."""
    every = trained(view.records)
    if not every:
        return "it has trained none yet"
    least = min(record.ram_bytes for record in every)
    if least > limits.ram_bytes:
        return f"its least needs {format_size(least)} of training memory"
    sizes = [record.flash_bytes for record in every if record.ram_bytes <= limits.ram_bytes]
    known = [size for size in sizes if size is not None]
    if not known:
        return "an earlier version recorded no flash of its designs, but --board counts it anew"
    return f"of those within the memory, the least flash is {format_size(min(known))}"


def front_on_device(view: StudyView, limits: DeviceLimits) -> list[PlacedRecord]:
    """Returns the Pareto front of what a device holds, least memory first: the last one is the most accurate.

    Only what would be on the front is placed, which takes some tens of milliseconds each.

    Raises:
        SpecError: a design cannot be read by this version.
    """
    left = [record for record in trained(view.records) if record.ram_bytes <= limits.ram_bytes]
    known: dict[str, PlacedRecord] = {}
    while True:
        front = pareto_front(left)
        for record in front:
            if record.design_id not in known:
                known[record.design_id] = place_record(record, view.settings, limits=limits)
        if all(known[record.design_id].fit.fits for record in front):
            return [known[record.design_id] for record in front]
        left = [record for record in left if record.design_id not in known or known[record.design_id].fit.fits]


def winner_on_device(view: StudyView, limits: DeviceLimits, *, front: Sequence[PlacedRecord]) -> PlacedRecord:
    """Returns the winner among what a device holds, as `choose_winner` does among what a budget holds.

    Args:
        view: the study.
        limits: what the device has.
        front: what `front_on_device` returns for them, not empty.

    Raises:
        SpecError: a design cannot be read by this version.
    """
    best = front[-1]
    within = [record for record in trained(view.records) if record.ram_bytes <= limits.ram_bytes]
    confirmed = [record for record in within if record.design_id in view.confirmed]
    placed = [place_record(record, view.settings, limits=limits) for record in confirmed]
    fitting = {item.record.number: item for item in (*placed, best) if item.fit.fits}
    records = [item.record for item in fitting.values()]
    winner = choose_winner(records, view.confirmed, budget_bytes=limits.ram_bytes)
    return fitting[winner.number] if winner is not None else best
