"""All studies of a storage: what each is about, how its trials ended, the best it found."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from . import tables
from .navigation import Page, go_to, link_to
from .parts import show_csv_button, show_note, show_table
from .storage import Reading

_KEY = "studies-table"


def show_studies(reading: Reading) -> None:
    """Shows the studies, the newest first; a row opens its study."""
    views = list(reversed(reading.views))
    st.subheader("Studies of this storage")
    frame = tables.studies_table(
        views,
        runs={view.name: reading.describe_run(view) for view in views},
        links={view.name: link_to(page=Page.FRONT, study=view.name) for view in views},
    )
    show_table(frame, key=_KEY, on_row=lambda: _take_row([view.name for view in views]))
    st.caption(
        "Select a row to open its study; the link opens it in a tab of its own. Accuracies are measured on validation "
        "images, of designs within the budget only: confirmed means where a study confirmed its best designs, else "
        "what the search measured once. Budgets count what training takes, as estimated."
    )
    show_csv_button(frame, file_name="studies.csv")
    for sentence in reading.unreadable:
        show_note(f"Left out: {sentence}")


def _take_row(names: Sequence[str]) -> None:
    rows = st.session_state[_KEY].selection.rows
    if rows:
        go_to(page=Page.FRONT, study=names[rows[0]])
