"""What is worked out of a study once, not at every click: kept while the same reading is shown, for all who look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from repnet_search import StudyView, TrialRecord, figures

_T = TypeVar("_T")


def list_points(view: StudyView) -> tuple[figures.FrontPoint, ...]:
    """Returns the points of the front's plot, one per trial."""
    return _keep(view, "points", lambda: figures.list_front_points(view))


def list_notable(view: StudyView) -> list[TrialRecord]:
    """Returns the designs worth looking at: the front, what was confirmed, what studies are compared with."""
    return _keep(view, "notable", lambda: _list_notable(view))


def _list_notable(view: StudyView) -> list[TrialRecord]:
    marked = {point.trial for point in list_points(view) if point.proxy is not None and point.is_marked}
    return sorted((record for record in view.records if record.number in marked), key=lambda record: record.ram_bytes)


def _keep(view: StudyView, name: str, create: Callable[[], _T]) -> _T:
    """Returns what `create` gave for this view, which is another object as soon as the study has been read again."""
    kept, key = _find_kept(), (view.name, name)
    if key not in kept or kept[key][0] is not view:
        kept[key] = (view, create())
    found: _T = kept[key][1]
    return found


@st.cache_resource(show_spinner=False)
def _find_kept() -> dict[tuple[str, str], tuple[StudyView, Any]]:
    """Returns what is kept, by the study's name and its own."""
    return {}
