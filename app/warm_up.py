"""What later pages import, taken in while the first one is being looked at: torch alone takes more than a second."""

from __future__ import annotations

import time
from threading import Thread
from typing import Final

import streamlit as st

import repnet_search

_WAIT_SECONDS: Final = 2.0
"""For the first page to be drawn: imports and it would slow down each other."""


@st.cache_resource(show_spinner=False)
def warm_up() -> Thread:
    """Begins once per server, in a thread that ends with it."""
    thread = Thread(target=_import_all, daemon=True)
    thread.start()
    return thread


def _import_all() -> None:
    time.sleep(_WAIT_SECONDS)
    for name in ("explain_memory", "figures", "evaluate_trial"):
        getattr(repnet_search, name)  # the package imports on first use
