"""Every trial of a study as a table, with a filter by how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import streamlit as st

from repnet_search import Outcome, StudyView, TrialRecord, format_count

from . import tables
from .navigation import Page, go_to, name_record
from .parts import keep_value, show_csv_button, show_table

_MOST_ROWS: Final = 18
_HEIGHT: Final = 680
"""Of a longer table, which scrolls."""


def show_trials(view: StudyView) -> None:
    """Shows the trials; the filter leaves those with one of the chosen outcomes, a row opens its design."""
    st.subheader("Trials")
    present = [outcome for outcome in Outcome if view.count(outcome)]
    filter_key = f"outcomes-{view.name}"
    take = keep_value(filter_key, [])
    chosen = st.pills(
        "Outcome",
        present,
        selection_mode="multi",
        format_func=lambda outcome: f"{outcome.value} ({view.count(outcome)})",
        key=filter_key,
        on_change=take,
    )
    records = [record for record in view.records if not chosen or record.outcome in chosen]
    frame = tables.trials_table(records)
    # Rows are known by their position, so another filter is another table.
    key = "-".join(["trials", view.name, *(outcome.value for outcome in chosen)])
    show_table(
        frame,
        key=key,
        height="content" if len(frame) <= _MOST_ROWS else _HEIGHT,
        on_row=partial(_take_row, key, view, records),
    )
    st.caption("Select a row to open its design; a heading sorts, and the magnifying glass above the table searches.")
    epochs = format_count(view.settings.training.epochs, "epoch")
    st.caption(f"Memory: {tables.describe_account(view)}. Accuracy: measured once, {epochs} from one seed.")
    show_csv_button(frame, file_name="trials.csv")


def _take_row(key: str, view: StudyView, records: Sequence[TrialRecord]) -> None:
    rows = st.session_state[key].selection.rows
    if rows:
        go_to(page=Page.DESIGN, design=name_record(view, records[rows[0]]))
