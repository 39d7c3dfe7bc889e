"""One training step as pictures: the design's drawing beside both passes, and its timeline over the arena."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import pandas as pd
import streamlit as st

import repnet_search
from repnet_search import (
    DeviceLimits,
    MemoryExplanation,
    MemoryPlan,
    RepnetSearchError,
    StudyView,
    TrialRecord,
    create_plan,
    figures,
)

from .parts import show_csv_button, show_figure, show_note

_TIMELINE: Final = "Memory over one training step"
_DRAWING: Final = "Drawn"
_NARROW_LEGEND_ROWS: Final = 4
_DRAWING_HELP: Final = (
    "Frozen blocks stand left, Rep-Net modules right; a box is as wide as the root of its output's bytes. A step runs "
    "down the rows and, behind the loss, up again: point at a row and it is marked in both passes. Click one to mark "
    "its operators in the timeline. Grey: parameters and their state. All bytes are estimated (account arena)."
)


@st.fragment
def show_step(
    explained: MemoryExplanation,
    *,
    key: str,
    name: str,
    budget_bytes: int | None,
    compared: MemoryExplanation | None = None,
    plan: MemoryPlan | None = None,
    in_tabs: bool = False,
) -> None:
    """Shows the drawing with both passes, and the timeline over the arena; a click marks a place in both.

    Args:
        explained: of the design.
        key: of the state of the pictures.
        name: of the design, for the names of files.
        budget_bytes: what the design may take; None where there is no limit.
        compared: of another design, whose bytes are marked in the drawing.
        plan: the placement into the regions of a board, where there is one.
        in_tabs: show one of them at a time, the timeline first, where there is little room.
    """
    marked = _choose_place(explained, key)
    show_drawing = partial(
        _show_drawing, explained, compared, key=key, name=name, budget_bytes=budget_bytes, marked=marked
    )
    show_timeline = partial(
        _show_timeline,
        explained,
        plan,
        key=key,
        name=name,
        budget_bytes=budget_bytes,
        marked=marked,
        legend_rows=_NARROW_LEGEND_ROWS if in_tabs else 1,
    )
    if not in_tabs:
        show_drawing()
        st.subheader(_TIMELINE)
        show_timeline()
        return
    parts = st.tabs((_TIMELINE, _DRAWING), key=f"{key}-picture", on_change="rerun")
    for part, show in zip(parts, (show_timeline, show_drawing), strict=True):
        if part.open:
            with part:
                show()


def explain_record(view: StudyView, record: TrialRecord) -> MemoryExplanation:
    """Returns where a trial's design takes its memory, as its study counts it.

    Raises:
        RepnetSearchError: this version does not know the design.
    """
    settings, resolved = view.settings, repnet_search.resolve(record.design)
    return repnet_search.explain_memory(resolved, classes=settings.data.classes, schedule=settings.schedule)


def create_fitting_plan(explained: MemoryExplanation, limits: DeviceLimits, *, classes: int) -> MemoryPlan | None:
    """Returns the placement into the regions of a device, None where it has none or the design does not fit."""
    if not limits.regions:
        return None
    try:
        return create_plan(explained.resolved, classes=classes, schedule=explained.estimate.schedule, limits=limits)
    except RepnetSearchError:
        return None


def _choose_place(explained: MemoryExplanation, key: str) -> str | None:
    """Shows a selector of the design's places, which a click sets too; returns the marked one."""
    places = [place.place for place in explained.places]
    place_key = f"{key}-place"
    if st.session_state.get(place_key) not in (None, *places):
        st.session_state[place_key] = None
    marked: str | None = st.selectbox(
        "Mark in all pictures", places, index=None, placeholder="a block or module", key=place_key, width=260
    )
    return marked


def _show_drawing(
    explained: MemoryExplanation,
    compared: MemoryExplanation | None,
    *,
    key: str,
    name: str,
    budget_bytes: int | None,
    marked: str | None,
) -> None:
    drawing = figures.create_drawing(explained, budget_bytes=budget_bytes)
    other = figures.create_drawing(compared) if compared is not None else None
    chart = f"{key}-drawing"
    show_figure(
        figures.create_design_figure(drawing, compared=other, marked=marked),
        key=chart,
        data=pd.DataFrame(figures.drawing_rows(drawing)),
        file_name=f"blocks-{name}.csv",
        alt="Blocks of the backbone and modules of the Rep-Net with their connectors, and the bytes alive at each.",
        on_point=_mark_clicked(chart, f"{key}-place"),
    )
    st.caption(_DRAWING_HELP)


def _mark_clicked(chart: str, place_key: str) -> Any:
    """Returns what takes a click on a row of the drawing."""

    def take() -> None:
        points = st.session_state[chart].selection.points
        places = [point["customdata"][0] for point in points if point.get("customdata")]
        if places:
            st.session_state[place_key] = places[0]

    return take


def _show_timeline(
    explained: MemoryExplanation,
    plan: MemoryPlan | None,
    *,
    key: str,
    name: str,
    budget_bytes: int | None,
    marked: str | None,
    legend_rows: int,
) -> None:
    picture = figures.create_picture(explained, budget_bytes=budget_bytes)
    show_note(picture.title)
    figure = figures.create_memory_figure(picture, plan=plan, marked=marked, legend_rows=legend_rows)
    show_figure(
        figure,
        key=f"{key}-timeline",
        data=pd.DataFrame(figures.alive_rows(picture)),
        file_name=f"timeline-{name}.csv",
        alt="Bytes alive at every operator of a training step by their role, and every buffer over time and address.",
    )
    _show_buffers(picture, plan, name=name)


def _show_buffers(picture: figures.MemoryPicture, plan: MemoryPlan | None, *, name: str) -> None:
    label = "Every buffer: where it lies and when it is alive"
    with st.expander(label, key=f"every-buffer-{name}", on_change="rerun") as shown:
        if shown.open:
            frame = pd.DataFrame(figures.buffer_rows(picture, plan=plan))
            st.dataframe(frame, hide_index=True, height=280, key=f"buffers-{name}")
            show_csv_button(frame, file_name=f"buffers-{name}.csv")
