"""The speed of what answers at once: one estimate, and `repnet-search --help`.

python -m studies.speed        prints medians; nothing is written
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from random import Random

from repnet_search.memory import estimate_lower_bound, estimate_memory
from repnet_search.search.space import SearchSpace
from repnet_search.spec import BackboneSpec
from repnet_search.spec.bundled import load_space

DESIGNS = 300


def milliseconds(action: Callable[[], object]) -> float:
    """Returns the wall time of one call."""
    started = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Prints the medians."""
    space = SearchSpace(load_space("default"), BackboneSpec())
    random = Random(0)
    designs = [space.design(space.sample(random)) for _ in range(DESIGNS)]
    for name, estimate in (
        ("estimate with placed arena", lambda design: estimate_memory(design, classes=10)),
        ("lower bound", lambda design: estimate_lower_bound(design, classes=10)),
    ):
        times = [milliseconds(lambda: estimate(design)) for design in designs]  # noqa: B023 - called at once
        print(f"{name}: median {statistics.median(times):.2f} ms, largest {max(times):.2f} ms over {DESIGNS} designs")
    command = [sys.executable, "-m", "repnet_search", "--help"]
    times = [milliseconds(lambda: subprocess.run(command, capture_output=True, check=True)) for _ in range(7)]
    print(f"repnet-search --help: median {statistics.median(times):.0f} ms")


if __name__ == "__main__":
    main()
