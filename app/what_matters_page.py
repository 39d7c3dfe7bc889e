"""What decides over accuracy and memory in a study, and what became of the designs that its search looked at."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Final

import pandas as pd
import streamlit as st

import repnet_search
from repnet_search import RepnetSearchError, StudyImportance, StudyView, figures

from . import tables
from .importance import start_importance
from .parts import show_figure, show_note, show_table

_LEAST_SHOWN: Final = 0.005
"""Fields that decide less stand in the CSV alone."""


def show_what_matters(view: StudyView, *, storage: str | None) -> None:
    """Shows the funnel, the failures with their reasons, and the importance of each field."""
    _show_funnel(view)
    _show_failures(view)
    _show_importance(view, storage=storage)


def _show_funnel(view: StudyView) -> None:
    st.subheader("From proposals to confirmed designs")
    steps = figures.list_funnel(view)
    frame = tables.funnel_table(steps)
    show_figure(
        figures.create_funnel_figure(steps),
        key="funnel",
        data=frame,
        file_name="funnel.csv",
        alt="How many designs were looked at, proposed, over budget, trained and confirmed.",
    )
    with st.expander("What the steps mean"):
        show_table(frame)


def _show_failures(view: StudyView) -> None:
    failures = figures.list_failures(view)
    if not failures:
        return
    st.subheader("Why trainings failed")
    show_table(pd.DataFrame(failures, columns=["outcome", "reason", "trials"]))
    show_note("A failure says nothing of the design on the device; interrupted trainings are tried again.")


def _show_importance(view: StudyView, *, storage: str | None) -> None:
    st.subheader("Which fields decide")
    future = start_importance(storage, view)
    if not future.done():
        _wait_for(future)
        return
    try:
        importance = future.result()
    except RepnetSearchError as error:
        show_note(str(error))
        return
    fields = [item for item in importance.fields if max(item.accuracy or 0.0, item.memory) >= _LEAST_SHOWN]
    if not fields:
        show_note("This study's space leaves no field a choice.")
        return
    show_figure(
        figures.create_importance_figure(fields),
        key="importance",
        data=tables.importance_table(importance),
        file_name="importance.csv",
        alt="The importance of each field of a design for accuracy and for training memory.",
    )
    st.caption(_explain(importance))


@st.fragment(run_every=1)
def _wait_for(future: Future[StudyImportance]) -> None:
    """Shows the page again once it is known which fields matter."""
    if future.done():
        st.rerun()
    st.caption("Working out which fields matter: some seconds, or a minute or two of thousands of trainings …")


def _explain(importance: StudyImportance) -> str:
    """Returns what the bars were found from."""
    designs = repnet_search.format_number(importance.designs)
    memory = f"all {designs} designs of the space" if importance.exact else f"{designs} designs of the space, at random"
    if all(item.accuracy is None for item in importance.fields):
        trained = f"{importance.trainings} trainings so far are too few to tell what decides accuracy"
    else:
        trained = (
            f"Accuracy: how differently a field is chosen in the best quarter of {importance.trainings} trainings, "
            "measured once each; below the grey mark it may be chance"
        )
    return f"{trained}. Memory: the share of its variance that a field explains alone, estimated over {memory}."
