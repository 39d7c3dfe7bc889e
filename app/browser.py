"""The study browser's entry, which `repnet-search dashboard` starts: `streamlit run browser.py -- [STORAGE]`.

Streamlit runs this file as a script. Its folder is a package: `app` in the source tree, `repnet_search.app` in a wheel;
its modules import one another relatively, and only this file has to find out which it is.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

_FOLDER = Path(__file__).resolve().parent
_IN_WHEEL = _FOLDER.parent.name == "repnet_search"

if not _IN_WHEEL and str(_FOLDER.parent) not in sys.path:
    sys.path.insert(0, str(_FOLDER.parent))

import_module("repnet_search.app.pages" if _IN_WHEEL else "app.pages").show_browser(
    sys.argv[1] if len(sys.argv) > 1 else None
)
