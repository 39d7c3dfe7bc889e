"""The process that serves the browser.

It shows the first page to nobody before there is an address to open: the studies are then read, and what draws them is
loaded.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from contextlib import suppress

from streamlit.web.cli import main as run_streamlit

from .pages import show_browser
from .storage import find_file


def serve(script: str, arguments: Sequence[str]) -> None:
    """Serves the browser until it is stopped.

    Args:
        script: the file that Streamlit runs for every view.
        arguments: Streamlit's options and, behind `--`, the storage (none: the journal in ./repnet-studies).
    """
    given = list(arguments)
    name = given[given.index("--") + 1] if "--" in given else None
    if find_file(name) is not None:  # what a database server has is read again every few seconds
        with suppress(Exception):  # whatever it is, the page says it
            show_browser(name)
    gc.freeze()  # what was read stays: the garbage collector need not look at it, a quarter of a second for many trials
    run_streamlit(["run", script, *given], prog_name="streamlit")
