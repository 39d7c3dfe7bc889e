"""The study browser's entry: `python browser.py [STREAMLIT'S OPTIONS] [-- STORAGE]` serves it, as `dashboard` does.

Streamlit then runs this same file for every view. Its folder is a package: `app` in the source tree,
`repnet_search.app` in a wheel; its modules import one another relatively, and only this file has to find out which it
is.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path

from streamlit import runtime

_FOLDER = Path(__file__).resolve().parent
_IN_WHEEL = _FOLDER.parent.name == "repnet_search"
_PACKAGE = "repnet_search.app" if _IN_WHEEL else "app"

if not _IN_WHEEL and str(_FOLDER.parent) not in sys.path:
    sys.path.insert(0, str(_FOLDER.parent))

# Streamlit warns of all that is done before it runs.
logging.disable(logging.NOTSET if runtime.exists() else logging.WARNING)

pages = import_module(f"{_PACKAGE}.pages")
if runtime.exists():
    pages.show_browser(sys.argv[1] if len(sys.argv) > 1 else None)
else:
    import_module(f"{_PACKAGE}.server").serve(__file__, sys.argv[1:])
