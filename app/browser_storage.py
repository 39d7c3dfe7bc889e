"""What the browser reads: the studies of a storage, and what it says where there are none."""

from __future__ import annotations

from typing import Final

import streamlit as st

import repnet_search

FRESH_SECONDS: Final = 10


@st.cache_resource(ttl=FRESH_SECONDS, max_entries=4, show_spinner="Reading the studies")
def read_studies(storage: str | None) -> tuple[repnet_search.StudyView, ...]:
    """Returns the studies of a storage (None: the journal in ./repnet-studies), at most FRESH_SECONDS old.

    Raises:
        RepnetSearchError: the storage is missing or cannot be read, or holds no study of repnet-search.
    """
    try:
        views = tuple(repnet_search.list_studies(repnet_search.open_storage(storage)))
    except repnet_search.RepnetSearchError:
        raise
    except Exception as error:  # a damaged storage decides what Optuna, pydantic or a driver makes of it
        raise repnet_search.RepnetSearchError(
            f"A study in this storage cannot be read ({_first_line(error)}); it is damaged or from another version."
        ) from error
    if not views:
        raise repnet_search.RepnetSearchError(
            "This storage holds no study of repnet-search; 'repnet-search run' makes one."
        )
    return views


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.:')}" if lines else type(error).__name__
