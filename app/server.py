"""The process that serves the browser.

It shows the first page to nobody before there is an address to open: the studies are then read, and what draws them is
loaded.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import Final

import click
import uvicorn
from streamlit import App

from .pages import show_browser
from .storage import find_file

_HOST: Final = "127.0.0.1"
_PATIENCE_SECONDS: Final = 2
"""At the end, for those who look at a page."""


def serve(app: App, *, port: int, storage: str | None) -> None:
    """Serves the browser until it is stopped.

    `streamlit run` would do so too, but over a socket for which the kernel holds back the end of each small answer, for
    40 ms; a first page is made of a hundred of them.

    Args:
        app: the browser.
        port: where, at 127.0.0.1.
        storage: what holds the studies (None: the journal in ./repnet-studies).
    """
    if find_file(storage) is not None:  # what a database server has is read again every few seconds
        with suppress(Exception):  # whatever it is, the page says it
            show_browser(storage)
    gc.freeze()  # what was read stays: the garbage collector need not look at it, a quarter of a second for many trials
    click.echo(f"The study browser is at http://{_HOST}:{port}; Ctrl-C ends it.")
    uvicorn.run(
        app,
        host=_HOST,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=False,  # nothing is far away
        log_level="warning",
        timeout_graceful_shutdown=_PATIENCE_SECONDS,
    )
