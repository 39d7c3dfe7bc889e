"""The frame of every page: the studies' selector, the bar of pages, what a running search does, and the page itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import streamlit as st

from repnet_search import RepnetSearchError, StudyView

from . import tables
from .choose_design import show_chooser
from .compare_page import show_compare
from .design_page import show_design
from .front_page import show_front
from .navigation import Page, find_record, go_to, name_record, read_place, selected_record
from .parts import show_note
from .storage import FRESH_SECONDS, Reading, find_stamp, read_studies
from .studies_page import show_studies
from .trials_page import show_trials
from .what_if_page import show_what_if
from .what_matters_page import show_what_matters

_STYLE: Final = """
<style>
  .stMainBlockContainer { padding-top: 3.5rem; padding-bottom: 3rem; }
  [data-testid="stMetricValue"] { font-size: 1.6rem; }
  @media (max-width: 640px) { .stMainBlockContainer { padding-left: 1rem; padding-right: 1rem; } }
</style>
"""
"""Streamlit leaves six lines above the page and wide margins in a narrow window, and shows numbers as posters do."""
_END: Final = '<div class="page-end"></div>'
"""Tells a test in a web browser that the whole page has come."""
_EMPTY: Final = "No trial has ended yet; the first appears here as soon as it has."


def show_browser(storage: str | None) -> None:
    """Shows the page that the URL names, over a storage (None: the journal in ./repnet-studies)."""
    st.set_page_config(page_title="repnet-search studies", page_icon="▦", layout="wide")
    st.html(_STYLE)
    try:
        reading = read_studies(storage)
    except RepnetSearchError as error:
        _show_problem(str(error))
        return
    view = _show_head(reading, storage=storage)
    page = _show_bar(reading)
    _show_page(page, reading, view, storage=storage)
    st.html(_END)


def _show_problem(sentence: str) -> None:
    st.header("No study to show")
    show_note(sentence)
    st.button("Read again", type="primary")


def _show_head(reading: Reading, *, storage: str | None) -> StudyView:
    """Shows which study this is and what is done to it now; returns it."""
    view = _find_study(reading)
    names = [other.name for other in reversed(reading.views)]
    st.session_state["study"] = view.name
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.selectbox("Study", names, key="study", on_change=_take_study, width=420)
        st.toggle("Live", value=True, key="live", help=f"Looks every {FRESH_SECONDS} s whether something was written.")
    show_note(tables.describe_study(view))
    _show_run(reading, view.name, storage=storage)
    return view


def _find_study(reading: Reading) -> StudyView:
    """Returns the study of the URL, else the newest."""
    wanted = read_place().study
    found = next((view for view in reading.views if view.name == wanted), None)
    if wanted is not None and found is None:
        show_note(f"There is no study named {wanted!r} in this storage; this is the newest.")
    return found or reading.views[-1]


def _take_study() -> None:
    go_to(study=st.session_state["study"], page=Page.FRONT if read_place().page in (None, Page.STUDIES) else None)


@st.fragment(run_every=FRESH_SECONDS)
def _show_run(reading: Reading, name: str, *, storage: str | None) -> None:
    """Says what a search is doing now, and reads again once it has written; looks at the file's date alone."""
    if st.session_state.get("live", True) and find_stamp(storage) != reading.stamp:
        st.rerun()
    run = next((reading.describe_run(view) for view in reading.views if view.name == name), None)
    if run is not None:
        is_running = run.startswith("running")
        st.badge(run, color="green" if is_running else "orange")


def _show_bar(reading: Reading) -> Page:
    """Shows the bar of pages; returns the open one."""
    wanted = st.query_params.get("page")
    if wanted is not None and read_place().page is None:
        show_note(f"There is no page named {wanted!r}; this is the first one.")
    page = read_place().page or (Page.STUDIES if len(reading.views) > 1 and not read_place().study else Page.FRONT)
    st.session_state["page"] = page.value
    st.segmented_control(
        "Page",
        [other.value for other in Page],
        format_func=lambda value: Page(value).label,
        key="page",
        on_change=_take_page,
        label_visibility="collapsed",
    )
    return page


def _take_page() -> None:
    chosen = st.session_state["page"]
    if chosen is not None:  # a click on the open page takes the choice away
        go_to(page=Page(chosen))


def _show_page(page: Page, reading: Reading, view: StudyView, *, storage: str | None) -> None:
    if page is Page.STUDIES:
        show_studies(reading)
    elif not view.records:
        show_note(_EMPTY)
    else:
        _find_page(page, storage=storage)(view)


def _find_page(page: Page, *, storage: str | None) -> Callable[[StudyView], None]:
    """Returns what shows a page of a study."""
    pages: dict[Page, Callable[[StudyView], None]] = {
        Page.FRONT: show_front,
        Page.COMPARE: show_compare,
        Page.WHAT_MATTERS: partial(show_what_matters, storage=storage),
        Page.TRIALS: show_trials,
    }
    return pages.get(page, partial(_show_design_page, page))


def _show_design_page(page: Page, view: StudyView) -> None:
    """Shows one design, or an editor that begins with it."""
    wanted = read_place().design
    if wanted is not None and find_record(view, wanted) is None:
        show_note(f"This study has no design {wanted!r}; this is its best one.")
    record = show_chooser(view, selected_record(view) or view.records[0])
    if page is Page.DESIGN:
        show_design(view, record)
        return
    if wanted is None:  # a better design that a search finds meanwhile does not take the place of the edited one
        go_to(design=name_record(view, record))
    show_what_if(view, record.design)
