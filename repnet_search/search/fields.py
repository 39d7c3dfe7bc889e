"""How the choices of a field stand to each other, for models that compare designs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ORDERED = ("width_mult", "resolution", "image_pool", "readers", "depth", "width", "kernel", "groups", "pool")


def count_steps(name: str, count: int) -> NDArray[np.float64]:
    """Returns how many steps apart the choices of a parameter are (count, count); infinity where they have no order.

    Blocks of a stage have their order; no connector is near to none of them.
    """
    places = np.arange(count, dtype=np.float64)
    steps: NDArray[np.float64] = np.abs(places[:, None] - places)
    if name.startswith("stage_"):
        steps[0, 1:] = steps[1:, 0] = np.inf
    elif name.removeprefix("early_").removeprefix("late_") not in _ORDERED:
        steps[steps > 0] = np.inf
    return steps
