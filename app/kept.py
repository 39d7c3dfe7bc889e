"""What is worked out of a study once, not at every click: kept for the readings looked at last, for all who look."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from repnet_search import StudyView, TrialRecord, figures


@dataclass(frozen=True, slots=True)
class _Kept:
    view: StudyView
    """Held, so that no other view has its identity meanwhile."""
    points: tuple[figures.FrontPoint, ...]
    notable: tuple[TrialRecord, ...]


def list_points(view: StudyView) -> tuple[figures.FrontPoint, ...]:
    """Returns the points of the front's plot, one per trial."""
    return _work_out(view).points


def list_notable(view: StudyView) -> tuple[TrialRecord, ...]:
    """Returns the designs worth looking at: the front, what was confirmed, what studies are compared with."""
    return _work_out(view).notable


@st.cache_resource(max_entries=8, show_spinner=False, hash_funcs={StudyView: id})
def _work_out(view: StudyView) -> _Kept:
    points = figures.list_front_points(view)
    marked = {point.trial for point in points if point.proxy is not None and point.is_marked}
    notable = (record for record in view.records if record.number in marked)
    return _Kept(view, points, tuple(sorted(notable, key=lambda record: record.ram_bytes)))
