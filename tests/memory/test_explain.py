"""The parts of an explanation add up to the estimate."""

from __future__ import annotations

from random import Random

import pytest

from repnet_search.graph import OpKind, Role, Schedule
from repnet_search.memory import estimate_memory, explain_memory
from repnet_search.memory.explain import list_storages
from repnet_search.spec import BackboneSpec, Design, get_preset, resolve
from tests.designs import random_resolved, six_connectors


@pytest.mark.parametrize("schedule", Schedule)
def test_the_rows_add_up_to_the_step(schedule: Schedule) -> None:
    random = Random(3)
    for _ in range(12):
        resolved = random_resolved(random)
        memory = estimate_memory(resolved, classes=7, batch=2, schedule=schedule)
        explained = explain_memory(resolved, classes=7, batch=2, schedule=schedule)
        places = explained.places
        assert explained.estimate == memory
        assert sum(place.kept_bytes for place in places) == memory.kept_bytes
        assert sum(place.forward_macs for place in places) == memory.forward_macs
        assert sum(place.macs for place in places) == memory.macs
        assert sum(place.trainable_parameters for place in places) == memory.trainable_parameters
        assert max(place.forward_peak_bytes for place in places) == memory.forward_peak_bytes
        assert max(place.backward_peak_bytes or 0 for place in places) == memory.backward_peak_bytes
        assert all(0 <= place.mask_bytes <= place.kept_bytes for place in places)


def test_what_is_alive_adds_up_to_the_peak() -> None:
    random = Random(4)
    for _ in range(20):
        explained = explain_memory(random_resolved(random), classes=10)
        peak = explained.peak
        assert sum(buffer.size_bytes for buffer in peak.alive) == peak.live_bytes == explained.estimate.live_peak_bytes
        sizes = [buffer.size_bytes for buffer in peak.alive]
        assert sizes == sorted(sizes, reverse=True)
        assert explained.estimate.largest_buffer_bytes == sizes[0]


def test_the_peak_of_the_last_layer_alone() -> None:
    peak = explain_memory(resolve(Design(connectors=())), classes=10).peak
    assert (peak.place, peak.kind, peak.is_forward) == ("block 2", OpKind.CONV, True)
    assert [(buffer.name, buffer.shape) for buffer in peak.alive] == [
        ("b2.0", (1, 48, 24, 24)),
        ("b2.1", (1, 48, 12, 12)),
    ]
    assert {buffer.role for buffer in peak.alive} == {Role.BACKBONE}
    assert {(buffer.first_place, buffer.last_place) for buffer in peak.alive} == {("block 2", "block 2")}


def test_every_block_and_module_has_its_row() -> None:
    places = explain_memory(resolve(six_connectors()), classes=10).places
    names = [place.place for place in places]
    assert names[:5] == ["image", "block 0", "block 1", "module 1", "block 2"]
    assert names[-2:] == ["module 6", "head"]
    assert len(names) == len(set(names)) == 18 + 6 + 2
    rows = {place.place: place for place in places}
    assert rows["head"].trainable_parameters == 112 * 10 + 10
    assert rows["block 17"].shape == (1, 112, 2, 2)
    assert rows["block 17"].output_bytes == 4 * 112 * 4
    assert rows["block 0"].backward_peak_bytes is None
    # ReLU6 keeps 1 bit per element: 48 channels at 12 px twice
    assert rows["block 3"].mask_bytes == 2 * 48 * 144 // 8 == rows["block 3"].kept_bytes


def test_identity_blocks_have_no_row() -> None:
    base = Design(connectors=(), backbone=BackboneSpec(name="proxylessnas_mobile"), resolution=64)
    names = [place.place for place in explain_memory(resolve(get_preset("paper", base)), classes=10).places]
    assert "block 4" not in names
    assert "block 6" in names


def test_storages_are_those_of_the_buffers() -> None:
    explained = explain_memory(resolve(six_connectors()), classes=10)
    tensors, buffers = explained.graph.tensors, explained.liveness.buffers
    names = [tensors[storage].name for storage in list_storages(explained.graph)]
    assert names == [buffer.name for buffer in buffers]
