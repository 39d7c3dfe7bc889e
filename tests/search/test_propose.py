"""A proposal costs the same after many trials: what it looks at does not grow with them."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repnet_search.results import study as study_module
from repnet_search.results.front import pareto_front, trained
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.results.study import RECORD_KEY, RecordReader, dump_record
from repnet_search.search.feasible import FeasibleSpace
from repnet_search.search.propose import BEST_REMEMBERED, LATEST_REMEMBERED, Proposer, Remembered
from repnet_search.search.run import _record
from repnet_search.spec import Design
from repnet_search.spec.study import SearchSpec

OUTCOMES = (Outcome.TRAINED, Outcome.STOPPED, Outcome.OVER_BUDGET, Outcome.RUNNING)


def record(number: int, *, ram_bytes: int, accuracy: float, outcome: Outcome = Outcome.TRAINED) -> TrialRecord:
    found = accuracy if outcome is Outcome.TRAINED else None
    return TrialRecord(number, outcome, Origin.SAMPLER, Design(connectors=()), f"{number:064}", ram_bytes, (), 1, found)


def test_the_history_is_bounded_and_holds_the_front_the_best_and_the_latest() -> None:
    records = [record(number, ram_bytes=number % 997, accuracy=number % 1009 / 1009) for number in range(3000)]
    remembered = Remembered()
    remembered.update(records)
    kept = remembered.list_kept(records)
    front = pareto_front(records)
    best = sorted(records, key=lambda item: -(item.validation_accuracy or 0.0))[:BEST_REMEMBERED]
    expected = {item.number for item in (*front, *best, *records[-LATEST_REMEMBERED:])}
    assert [item.number for item in kept] == sorted(expected)
    assert len(kept) <= BEST_REMEMBERED + LATEST_REMEMBERED + len(front)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.sampled_from(OUTCOMES)), max_size=40),
    st.integers(0, 40),
)
def test_what_is_remembered_does_not_depend_on_when_one_looks(
    points: list[tuple[int, int, Outcome]], middle: int
) -> None:
    records = [
        record(number, ram_bytes=ram, accuracy=tenths / 10, outcome=outcome)
        for number, (ram, tenths, outcome) in enumerate(points)
    ]
    once, twice = Remembered(), Remembered()
    once.update(records)
    twice.update([replace(item, outcome=Outcome.RUNNING) for item in records[:middle]])
    twice.update(records[middle:])  # the later half has ended first
    twice.update(records)
    assert once.list_kept(records) == twice.list_kept(records)
    assert set(map(id, pareto_front(trained(records)))) <= set(map(id, once.list_kept(records)))


def test_a_proposal_looks_at_the_new_trials_alone(feasible: FeasibleSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(direction="maximize")
    reader, proposer = RecordReader(study), Proposer(study, feasible, SearchSpec(), seed=0)
    read = Mock(wraps=study_module.read_record)
    placed = Mock(wraps=feasible.fitting.memory.choices)
    monkeypatch.setattr(study_module, "read_record", read)
    monkeypatch.setattr(feasible.fitting.memory, "choices", placed)
    for number in range(30):
        read.reset_mock()
        placed.reset_mock()
        proposal = proposer.next(reader.read(), waiting=False)
        assert proposal is not None
        assert read.call_count == placed.call_count == min(1, number)
        accuracy = number % 7 / 7
        ended = replace(_record(proposal), outcome=Outcome.TRAINED, validation_accuracy=accuracy)
        proposal.trial.set_user_attr(RECORD_KEY, dump_record(ended))
        study.tell(proposal.trial, accuracy)
