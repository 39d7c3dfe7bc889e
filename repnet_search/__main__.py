"""`python -m repnet_search`, and the command `repnet-search`."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; Ctrl-C while it is still being loaded shows no traceback either."""
    try:
        from repnet_search.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
