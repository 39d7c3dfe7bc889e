"""The study browser's entry: `python browser.py PORT [STORAGE]` serves it at 127.0.0.1, as `dashboard` does.

Streamlit then runs this same file for every view. Its folder is a package: `app` in the source tree,
`repnet_search.app` in a wheel; its modules import one another relatively, and only this file has to find out which it
is.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path

from streamlit import App, runtime

_FOLDER = Path(__file__).resolve().parent
_IN_WHEEL = _FOLDER.parent.name == "repnet_search"
_PACKAGE = "repnet_search.app" if _IN_WHEEL else "app"

if not _IN_WHEEL and str(_FOLDER.parent) not in sys.path:
    sys.path.insert(0, str(_FOLDER.parent))

port, storage = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
if runtime.exists():
    logging.disable(logging.NOTSET)
    import_module(f"{_PACKAGE}.pages").show_browser(storage)
else:
    logging.disable(logging.WARNING)  # Streamlit warns of all that is done before it runs
    app = App(__file__)  # before anything else is imported: Streamlit reads its settings, in .streamlit, just once
    import_module(f"{_PACKAGE}.server").serve(app, port=int(port), storage=storage)
