"""A study as a data frame."""

from __future__ import annotations

import pandas as pd
import pytest

from repnet_search.results.confirmation import Confirmation, ConfirmedRun
from repnet_search.results.record import Origin, Outcome, TrialRecord
from repnet_search.results.study import StudyView
from repnet_search.spec import BackboneSpec, Connector, Design, Exchange
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.study import DataSpec, StudySpec, WeightsSpec
from repnet_search.spec.training import TrainingSpec

DESIGN = Design(connectors=(Connector(after_block=3, depth=2), Connector(after_block=6, exchange=Exchange.TO_REPNET)))
TERMS = (("arena", 900), ("recipe state", 100))
RECORDS = (
    TrialRecord(0, Outcome.TRAINED, Origin.SAMPLER, DESIGN, "a" * 64, 1000, TERMS, 10, 0.5, (2.0, 1.0), 3.5),
    TrialRecord(2, Outcome.OVER_BUDGET, Origin.SAMPLER, Design(connectors=()), "b" * 64, 9000, TERMS, 1, reason="big"),
)


@pytest.fixture
def frame() -> pd.DataFrame:
    settings = StudySpec(
        budget_bytes=2000,
        backbone=BackboneSpec(),
        weights=WeightsSpec(name="w", sha256="0", input_range="-1,1"),
        data=DataSpec(name="d", sha256="0", classes=10),
        space=SpaceSpec(),
        training=TrainingSpec(),
    )
    runs = tuple(ConfirmedRun("a" * 64, 4, seed, accuracy) for seed, accuracy in enumerate((0.5, 0.7)))
    return StudyView("s", settings, RECORDS, {"a" * 64: 0.55}, {"a" * 64: Confirmation(runs)}).to_frame()


def test_a_row_per_trial_with_numbers_as_they_were_recorded(frame: pd.DataFrame) -> None:
    assert list(frame.index) == [0, 2]
    assert frame.index.name == "trial"
    first = frame.loc[0]
    assert (first["ram_bytes"], first["memory_arena_bytes"], first["memory_recipe_state_bytes"]) == (1000, 900, 100)
    assert (first["validation_accuracy"], first["test_accuracy"]) == (0.5, 0.55)
    assert first["confirmed_accuracy"] == pytest.approx(0.6)
    assert first["confirmed_seeds"] == 2
    assert first["recipe_optimizer"] == "sign_sgd"
    assert first["connector_after_block"] == [3, 6]
    assert first["connector_exchange"] == ["both", "to_repnet"]
    assert first["connector_depth"] == [2, 1]


def test_what_was_not_trained_is_missing(frame: pd.DataFrame) -> None:
    over = frame.loc[2]
    assert over["outcome"] == "over budget"
    assert over["reason"] == "big"
    assert over["connectors"] == 0
    assert frame[["validation_accuracy", "confirmed_accuracy", "test_accuracy"]].loc[2].isna().all()


def test_it_can_be_grouped_and_saved(frame: pd.DataFrame) -> None:
    assert frame.groupby("outcome")["ram_bytes"].max().to_dict() == {"trained": 1000, "over budget": 9000}
    assert frame.to_csv().count("\n") == 3
