"""Runs that are killed for real; studies/kills.py does the same 20 times, at random moments."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from random import Random

import pytest

from repnet_search.results.record import Origin, Outcome
from studies.kills import Kill, KilledRun, doubled, retrained_alike, untried


@pytest.mark.timeout(300)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_a_run_that_is_killed_again_and_again_loses_nothing(workplace: Path) -> None:
    random = Random(0)
    run = KilledRun(workplace, random)
    run.kill(Kill(hits_run=False, signal=signal.SIGKILL, after_seconds=5.0))
    run.kill(Kill(hits_run=True, signal=signal.SIGKILL, after_seconds=0.3))
    run.kill(Kill(hits_run=True, signal=signal.SIGTERM, after_seconds=5.0))
    view = run.finish()
    tally, records = run.tally, view.records
    assert tally.wrong_codes == []
    assert tally.left_behind == []
    assert tally.longest_end_seconds < 30
    assert tally.lost == doubled(records) == 0
    assert untried(records) == set()
    assert view.count(Outcome.RUNNING) == 0
    assert sum(r.origin is Origin.LAST_LAYER and r.outcome is Outcome.TRAINED for r in records) == 9
    assert "Traceback" not in (workplace / "stderr.txt").read_text()
    assert retrained_alike(view, random, count=3) == (3, 3)
