"""What matters in a study, worked out beside the pages: it takes seconds, and minutes for thousands of trainings."""

from __future__ import annotations

import math
from concurrent.futures import Future
from threading import Thread

import streamlit as st

import repnet_search
from repnet_search import Outcome, StudyImportance, StudyView

from .storage import explain, open_whole


def start_importance(storage: str | None, view: StudyView) -> Future[StudyImportance]:
    """Returns what matters in a study, perhaps not yet; begun anew only once the study has grown by a tenth."""
    grown = int(math.log(max(1, view.count(Outcome.TRAINED)), 1.1))
    return _start(storage, view.name, begun=repr(view.sessions[:1]), grown=grown)


@st.cache_resource(max_entries=16, show_spinner=False)
def _start(storage: str | None, name: str, *, begun: str, grown: int) -> Future[StudyImportance]:
    """Begins in a thread that ends with the process, so that neither a page nor Ctrl-C waits for it."""
    del begun, grown  # of the cache's key alone: a study that was deleted and made again has another beginning
    future: Future[StudyImportance] = Future()
    Thread(target=_measure, args=(storage, name, future), daemon=True).start()
    return future


def _measure(storage: str | None, name: str, future: Future[StudyImportance]) -> None:
    try:
        study = repnet_search.load_optuna_study(name, open_whole(storage))
        future.set_result(repnet_search.measure_importance(study))
    except Exception as error:  # told where the result is asked for
        future.set_exception(explain(error))
