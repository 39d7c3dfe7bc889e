"""The designs of a study that are next to one: cheaper ones, and better ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

import repnet_search
from repnet_search import Outcome, StudyView, TrialRecord

from .navigation import go_to
from .parts import show_note
from .tables import format_accuracy

_MOST = 3


def show_neighbours(view: StudyView, record: TrialRecord) -> None:
    """Shows the nearest cheaper designs and the nearest better ones, each with a button that leads to it."""
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Nearest cheaper designs")
        _show_list(
            view, record, find_cheaper(view, record), key="cheaper", nothing="No trained design takes less memory."
        )
    with right:
        st.subheader("Nearest better designs")
        _show_list(
            view,
            record,
            find_better(view, record),
            key="better",
            nothing="None is known to be more accurate.",
        )


def find_cheaper(view: StudyView, record: TrialRecord) -> list[TrialRecord]:
    """Returns the best trained designs that take less memory: of each, no other takes as little and does better."""
    cheaper = [other for other in _trained(view) if other.ram_bytes < record.ram_bytes]
    return _front(cheaper, _proxy)[-_MOST:][::-1]


def find_better(view: StudyView, record: TrialRecord) -> list[TrialRecord]:
    """Returns the cheapest trained designs that are more accurate; every one, where this one was not trained.

    Of a confirmed design they are confirmed too; of another one the search says which are better: a single short
    training is not compared with a confirmed mean.
    """
    others = [other for other in _trained(view) if other.design_id != record.design_id]
    is_confirmed = record.design_id in view.confirmed
    if is_confirmed:
        others = [other for other in others if other.design_id in view.confirmed]

    def measure(item: TrialRecord) -> float:
        return (view.accuracy_of(item) or 0.0) if is_confirmed else _proxy(item)

    if record.outcome is Outcome.TRAINED:
        others = [other for other in others if measure(other) > measure(record)]
    return _front(others, measure)[:_MOST]


def _proxy(record: TrialRecord) -> float:
    return record.validation_accuracy or 0.0


def _trained(view: StudyView) -> list[TrialRecord]:
    return [record for record in view.records if record.outcome is Outcome.TRAINED]


def _front(records: Sequence[TrialRecord], measure: Callable[[TrialRecord], float]) -> list[TrialRecord]:
    """Returns the records than which none is both cheaper and as accurate, the cheapest first."""
    front: list[TrialRecord] = []
    best = -1.0
    for record in sorted(records, key=lambda item: (item.ram_bytes, -measure(item))):
        if measure(record) > best:
            front.append(record)
            best = measure(record)
    return front


def _show_list(view: StudyView, record: TrialRecord, others: Sequence[TrialRecord], *, key: str, nothing: str) -> None:
    if not others:
        show_note(nothing)
    for other in others:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.button(other.short_id, on_click=go_to, kwargs={"design": other.short_id}, key=f"{key}-{other.number}")
            show_note(f"{_describe_memory(record, other)}, {_describe_accuracy(view, record, other)}")


def _describe_memory(record: TrialRecord, other: TrialRecord) -> str:
    difference = other.ram_bytes - record.ram_bytes
    sign = "−" if difference < 0 else "+"
    size = repnet_search.format_size(abs(difference))
    return f"{repnet_search.format_size(other.ram_bytes)} ({sign}{size})"


def _describe_accuracy(view: StudyView, record: TrialRecord, other: TrialRecord) -> str:
    """Returns the other's accuracy, with the difference where both were measured in one way."""
    before, after = view.accuracy_of(record), view.accuracy_of(other)
    shown = format_accuracy(view, other)
    if before is None or after is None:
        return shown
    if (record.design_id in view.confirmed) != (other.design_id in view.confirmed):
        return f"{shown} ({'confirmed' if other.design_id in view.confirmed else 'not confirmed'})"
    points = 100 * (after - before)
    return f"{shown} ({'−' if points < 0 else '+'}{abs(points):.1f} points)"
