"""`repnet-search dashboard`: the study browser."""

from __future__ import annotations

import click

from repnet_search.cli.options import storage_option


@click.command(short_help="Browse studies in the web browser, at 127.0.0.1 only.")
@storage_option
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True, help="Of 127.0.0.1.")
def dashboard(*, storage: str | None, port: int) -> None:
    """Browse studies in the web browser, at 127.0.0.1 only; nothing is written."""
    import os
    import sys

    from repnet_search.errors import RepnetSearchError
    from repnet_search.results.storage import open_storage
    from repnet_search.spec.bundled import bundled_folder

    open_storage(storage, params=False)
    if not _is_free(port):
        raise RepnetSearchError(f"Port {port} of 127.0.0.1 cannot be used, perhaps by another dashboard; use --port.")
    page = bundled_folder("app") / "browser.py"
    os.execv(sys.executable, [sys.executable, str(page), str(port), *([storage] if storage else [])])


def _is_free(port: int) -> bool:
    import socket

    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
