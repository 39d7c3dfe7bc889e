"""The sample of designs, and one of them recorded for real."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from repnet_search.spec.training import TrainingSpec
from repnet_search.training.task import TaskOptions
from studies.proxy_rank import BUDGET_BYTES, STRATA, TASKS, RankTask, Recorder, create_feasible, describe, draw_designs
from studies.proxy_rank_report import summarise


def test_each_stratum_gives_as_many_designs_and_a_larger_sample_begins_with_the_smaller() -> None:
    feasible = create_feasible(TASKS["digits"])
    designs = draw_designs(feasible, 2 * STRATA + 1)
    assert Counter(design.stratum for design in designs) == {0: 3} | dict.fromkeys(range(1, STRATA), 2)
    assert len({design.candidate.resolved.id for design in designs}) == len(designs)
    assert all(design.candidate.memory.ram_bytes <= BUDGET_BYTES for design in designs)
    highest = [max(d.candidate.memory.ram_bytes for d in designs if d.stratum == number) for number in range(STRATA)]
    lowest = [min(d.candidate.memory.ram_bytes for d in designs if d.stratum == number) for number in range(STRATA)]
    assert all(high < low for high, low in zip(highest, lowest[1:], strict=False))
    again = draw_designs(create_feasible(TASKS["digits"]), 3)
    assert [design.choices for design in again] == [design.choices for design in designs[:3]]


def test_a_design_is_recorded_in_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "digits", RankTask(TrainingSpec(epochs=3, views=1), images=100, fewer_images=50))
    (design,) = draw_designs(create_feasible(TASKS["digits"]), 1)
    line = Recorder("digits", TaskOptions()).record(design)
    assert line["id"] == design.candidate.resolved.id
    assert len(line["test"]) == len(line["long"]) == 2
    assert list(line["proxies"]) == ["default", "half", "third", "fp16", "uint8"]
    assert list(line["proxies"]["default"]["rungs"]) == ["1"]
    assert all(item["cpu_seconds"] > 0 for item in (*line["long"], *line["proxies"].values()))
    assert line == json.loads(json.dumps(line)) | {"choices": design.choices}
    about = json.loads(json.dumps(describe("digits", TaskOptions(proxy_images=100))))
    assert about["images"] == {"100": [20, 80, 1297], "50": [10, 40, 1297]}
    assert "1 designs are too few" in summarise(about, [line])


def test_an_int8_backbone_has_no_other_feature_caches() -> None:
    assert list(TASKS["cifar"].settings) == ["default", "half", "third"]
