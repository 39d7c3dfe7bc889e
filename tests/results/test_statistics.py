from __future__ import annotations

import pytest

from repnet_search.results.statistics import mean_and_interval


def test_intervals_are_students() -> None:
    mean, half = mean_and_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / 3**0.5)
    assert mean_and_interval([5.0]) == (5.0, None)
    # Beyond the list, against the t of 29 degrees of freedom that a table has.
    values = [0.0, 1.0] * 15
    _, half = mean_and_interval(values)
    assert half == pytest.approx(2.0452 * 0.50855 / 30**0.5, rel=2e-3)
