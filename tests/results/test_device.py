from __future__ import annotations

from dataclasses import replace

import pytest

from repnet_search.boards import Region
from repnet_search.memory import estimate_memory
from repnet_search.results.confirmation import Confirmation, ConfirmedRun
from repnet_search.results.device import front_on_device, winner_on_device
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.spec import BackboneSpec, Connector, Design, Norm, resolve
from repnet_search.spec.space import ModuleChoices, SpaceSpec
from repnet_search.spec.study import DataSpec, StudySpec, WeightsSpec
from repnet_search.spec.target import DeviceLimits, Schedule
from repnet_search.spec.training import TrainingSpec

KIB = 1024
DESIGNS = (
    Design(connectors=(), resolution=32),
    Design(connectors=(), resolution=48),
    Design(connectors=(Connector(after_block=16),), resolution=48),
)
SETTINGS = StudySpec(
    budget_bytes=1024 * KIB,
    backbone=BackboneSpec(),
    weights=WeightsSpec(name="letters", sha256="0" * 64, input_range="-1,1"),
    data=DataSpec(name="digits", sha256="0" * 64, classes=10),
    space=SpaceSpec(module=ModuleChoices(norm=(Norm.GROUP,))),
    training=TrainingSpec(epochs=2),
)


def make_view(*accuracies: float, schedule: Schedule = Schedule.LAYER) -> StudyView:
    """Returns a study of an earlier version: its records hold no flash."""
    records = []
    for number, (design, accuracy) in enumerate(zip(DESIGNS, accuracies, strict=False)):
        resolved = resolve(design)
        memory = estimate_memory(resolved, classes=10, schedule=schedule)
        trained = (Outcome.TRAINED, Origin.SAMPLER, resolved.design, resolved.id, memory.ram_bytes, memory.terms)
        records.append(TrialRecord(number, *trained, memory.trainable_parameters, accuracy))
    settings = SETTINGS.model_copy(update={"schedule": schedule})
    return StudyView("mine", settings, tuple(records), {})


def numbers(view: StudyView, limits: DeviceLimits) -> list[int]:
    return [placed.record.number for placed in front_on_device(view, limits)]


def test_what_the_sum_holds_and_no_region_does_is_left_out() -> None:
    view = make_view(0.5, 0.7, 0.8)
    largest = max(record.ram_bytes for record in view.records)
    whole = DeviceLimits(largest, None, (Region("all", largest),))
    assert numbers(view, whole) == [0, 1, 2]
    halves = DeviceLimits(largest, None, (Region("a", largest // 2), Region("b", largest - largest // 2)))
    assert numbers(view, halves) == [0]


def test_what_a_misfit_has_dominated_comes_onto_the_front() -> None:
    view = make_view(0.5, 0.7, 0.6)
    view = replace(view, records=(view.records[0], replace(view.records[1], ram_bytes=1), view.records[2]))
    # The record of 48 px claims a single byte, and what is counted anew decides.
    limits = DeviceLimits(view.records[2].ram_bytes, None, (Region("a", view.records[0].ram_bytes),))
    assert numbers(view, limits) == [0]


def test_flash_is_counted_where_a_record_has_none() -> None:
    view = make_view(0.5, 0.7, 0.8)
    flash = [estimate_memory(resolve(design), classes=10).flash_bytes for design in DESIGNS]
    assert numbers(view, DeviceLimits(1024 * KIB, flash[0])) == [0, 1]
    assert numbers(view, DeviceLimits(1024 * KIB, flash[0] - 1)) == []


def test_the_schedule_of_the_study_counts() -> None:
    streamed = make_view(0.5, 0.7, 0.8, schedule=Schedule.STREAMED)
    largest = streamed.records[2].ram_bytes
    assert largest < make_view(0.5, 0.7, 0.8).records[2].ram_bytes
    (placed,) = front_on_device(streamed, DeviceLimits(largest, None, (Region("all", largest),)))[-1:]
    assert (placed.record.number, placed.memory.ram_bytes) == (2, largest)
    assert placed.fit.plan is not None


def test_the_confirmed_best_wins_among_what_a_device_holds() -> None:
    view = make_view(0.5, 0.7, 0.8)
    largest = max(record.ram_bytes for record in view.records)
    means = zip(view.records, (0.5, 0.75, 0.72), strict=True)
    confirmed = {r.design_id: Confirmation((ConfirmedRun(r.design_id, 4, 0, mean),)) for r, mean in means}
    for ram_bytes, confirmations, number in ((largest, confirmed, 1), (largest, {}, 2), (largest - 1, confirmed, 1)):
        limits = DeviceLimits(ram_bytes, None, (Region("all", ram_bytes),))
        asked = replace(view, confirmed=confirmations)
        winner = winner_on_device(asked, limits, front=front_on_device(asked, limits))
        assert winner.record.number == number
        assert winner.fit.fits
    assert view.choose_winner() == view.records[2]
    assert replace(view, confirmed=confirmed).choose_winner() == view.records[1]
    assert replace(view, confirmed=confirmed).accuracy_of(view.records[1]) == 0.75


@pytest.mark.parametrize(("seen", "number"), [(0.74, 1), (0.76, 2)])
def test_what_was_not_confirmed_wins_on_a_device_where_it_beats_the_confirmed_mean(seen: float, number: int) -> None:
    view = make_view(0.5, 0.7, seen)
    largest = max(record.ram_bytes for record in view.records)
    confirmation = Confirmation((ConfirmedRun(view.records[1].design_id, 4, 0, 0.75),))
    asked = replace(view, confirmed={view.records[1].design_id: confirmation})
    limits = DeviceLimits(largest, None, (Region("all", largest),))
    assert winner_on_device(asked, limits, front=front_on_device(asked, limits)).record.number == number
