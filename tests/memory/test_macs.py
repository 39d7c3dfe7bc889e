from __future__ import annotations

import pytest

from repnet_search.boards import get_board
from repnet_search.graph import Schedule
from repnet_search.memory import MemoryEstimate, estimate_memory, estimate_step_seconds
from repnet_search.spec import Design, resolve
from tests.designs import six_connectors


def estimate(design: Design, schedule: Schedule = Schedule.LAYER) -> MemoryEstimate:
    return estimate_memory(resolve(design), classes=10, schedule=schedule)


def in_int8(design: Design) -> Design:
    return design.model_copy(update={"activation_bits": 8})


def test_an_fp32_backbone_has_no_int8_macs() -> None:
    memory = estimate(six_connectors())
    assert (memory.int8_macs, memory.float_macs) == (0, memory.macs)


@pytest.mark.parametrize("schedule", Schedule)
def test_the_frozen_forward_convolutions_are_in_int8(schedule: Schedule) -> None:
    alone = estimate(in_int8(Design(connectors=())), schedule)
    head = 112 * 10
    assert alone.forward_macs - alone.int8_macs == head
    memory = estimate(in_int8(six_connectors()), schedule)
    assert memory.int8_macs == alone.int8_macs
    assert memory.float_macs > memory.macs - memory.forward_macs > 0


def test_a_step_takes_milliseconds_to_seconds() -> None:
    memory = estimate(in_int8(six_connectors()))
    seconds = {name: estimate_step_seconds(memory, get_board(name)) for name in ("stm32h743", "stm32f746", "rp2040")}
    assert 0.001 < seconds["stm32h743"] < seconds["stm32f746"] < 1 < 5 * seconds["rp2040"]
    by_hand = (memory.int8_macs * 1 + memory.float_macs * 2.5) / 216e6
    assert seconds["stm32f746"] == pytest.approx(by_hand)
