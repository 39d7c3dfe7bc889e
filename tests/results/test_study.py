"""Records as they are read from a study, and what is said of damaged ones."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from repnet_search.errors import StudyError
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.results.study import RECORD_KEY, RecordReader, dump_record
from repnet_search.spec import Connector, Design

DESIGN = Design(connectors=(Connector(after_block=3, depth=2), Connector(after_block=6)))
RECORD = TrialRecord(0, Outcome.TRAINED, Origin.SAMPLER, DESIGN, "0" * 64, 1000, (("arena", 1000),), 10, 0.5)


def ended(value: dict[str, Any]) -> FrozenTrial:
    return create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs={RECORD_KEY: value})


def test_a_record_is_read_as_it_was_written_its_design_built_when_asked_for() -> None:
    study = optuna.create_study()
    study.add_trial(ended(dump_record(RECORD)))
    (found,) = RecordReader(study).read()
    assert found == RECORD
    assert found.design == DESIGN
    assert not isinstance(found.recorded, Design)  # of ten thousand built designs hardly any would be looked at
    assert dump_record(found) == dump_record(RECORD)


@pytest.mark.parametrize(
    "damage",
    [
        {"outcome": "unheard of"},
        {"design": None},
        {"design": {"format": 1}},
        {"design": {"connectors": [{"after_block": -1}]}},
        {"terms": 3},
    ],
)
def test_a_damaged_record_is_one_sentence_when_it_is_read(damage: dict[str, Any]) -> None:
    study = optuna.create_study()
    study.add_trial(ended(dump_record(RECORD) | damage))
    with pytest.raises(StudyError, match="The record of trial 0 cannot be read; it may be damaged"):
        RecordReader(study).read()


def test_trials_that_ended_are_read_once() -> None:
    study = optuna.create_study()
    reader = RecordReader(study)
    running, waiting = study.ask(), study.ask()
    assert reader.read() == []
    waiting.set_user_attr(RECORD_KEY, dump_record(RECORD))
    assert [record.number for record in reader.read()] == [waiting.number]
    running.set_user_attr(RECORD_KEY, dump_record(RECORD))
    study.tell(running, 0.5)
    found = reader.read()
    assert [record.number for record in found] == [running.number, waiting.number]
    assert reader.read()[0] is found[0]
