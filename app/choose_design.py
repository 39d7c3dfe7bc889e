"""Selectors of designs: those worth looking at, in words that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import streamlit as st

import repnet_search
from repnet_search import StudyView, TrialRecord

from .kept import list_notable
from .navigation import MOST_COMPARED, go_to
from .tables import format_accuracy

_FEWEST_COMPARED: Final = 2


def show_chooser(view: StudyView, record: TrialRecord) -> TrialRecord:
    """Shows which design this is, with the others worth looking at to choose from; returns it."""
    records = _list_with(view, [record])
    labels = _labels(view, records)
    st.session_state["design"] = record.number
    st.selectbox(
        "Design",
        [other.number for other in records],
        format_func=labels.__getitem__,
        key="design",
        on_change=_take_design,
        args=({other.number: other.short_id for other in records},),
        width=640,
    )
    return record


def show_comparison_chooser(view: StudyView, chosen: Sequence[TrialRecord]) -> None:
    """Shows the designs that are compared, with the others worth looking at to choose from."""
    records = _list_with(view, chosen)
    labels = _labels(view, records)
    st.session_state["compared"] = [record.number for record in chosen]
    st.multiselect(
        f"Designs ({_FEWEST_COMPARED} to {MOST_COMPARED})",
        [record.number for record in records],
        format_func=labels.__getitem__,
        key="compared",
        max_selections=MOST_COMPARED,
        on_change=_take_compared,
        args=({record.number: record.short_id for record in records},),
    )


def _list_with(view: StudyView, wanted: Sequence[TrialRecord]) -> list[TrialRecord]:
    found = {record.number: record for record in (*list_notable(view), *wanted)}
    return sorted(found.values(), key=lambda record: record.ram_bytes)


def _labels(view: StudyView, records: Sequence[TrialRecord]) -> dict[int, str]:
    winner = view.choose_winner()
    return {
        record.number: f"{record.short_id} · {repnet_search.format_size(record.ram_bytes)} · "
        f"{format_accuracy(view, record)} · {record.origin.value}"
        f"{' · best' if winner is not None and record.number == winner.number else ''}"
        for record in records
    }


def _take_design(ids: dict[int, str]) -> None:
    go_to(design=ids[st.session_state["design"]])


def _take_compared(ids: dict[int, str]) -> None:
    go_to(compared=[ids[number] for number in st.session_state["compared"]])
