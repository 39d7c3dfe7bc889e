"""The schedules of the arena account, by hand and against each other."""

from __future__ import annotations

from random import Random

import pytest

from repnet_search.errors import SpecError
from repnet_search.graph import OpKind, Role, Schedule, Trained, build_graph
from repnet_search.memory import compute_liveness, estimate_memory
from repnet_search.spec import BackboneSpec, Connector, Design, resolve
from tests.designs import random_resolved, six_connectors

KIB = 1024


@pytest.mark.parametrize(
    ("resolution", "layer", "inplace", "streamed"),
    [(64, 60, 56, 28), (80, 93.75, 87.5, 43.75), (96, 135, 126, 63), (128, 240, 224, 112)],
)
def test_forward_peaks_of_an_int8_backbone(resolution: int, layer: float, inplace: float, streamed: float) -> None:
    """Block 2's depthwise convolution decides, 48 channels in and out; streamed, the stem does: 3 and 16 channels."""
    resolved = resolve(Design(connectors=(), resolution=resolution, activation_bits=8))
    peaks = {
        schedule: compute_liveness(build_graph(resolved, classes=10, schedule=schedule)).forward_peak_bytes
        for schedule in Schedule
    }
    half, quarter = (resolution // 2) ** 2, (resolution // 4) ** 2
    assert peaks[Schedule.LAYER] == 48 * half + 48 * quarter == layer * KIB
    assert peaks[Schedule.STREAMED] == 3 * resolution**2 + 16 * half == streamed * KIB
    # in place: the expansion next to its input, 8 channels of the same map
    assert peaks[Schedule.INPLACE] == (8 + 48) * half == inplace * KIB


def test_the_gradients_in_front_of_a_late_writer_shrink_when_streamed() -> None:
    """A writer behind block 2 at 96 px: block 3 passes 48 channels of 24×24 back, and its shortcut 8."""
    design = Design(connectors=(Connector(after_block=2, pool=8, width=0.25),), resolution=96, image_pool=8)
    gradients = {}
    for schedule in Schedule:
        graph = build_graph(resolve(design), classes=10, schedule=schedule)
        liveness = compute_liveness(graph)
        at_block_3 = [
            sum(b.size_bytes for b in liveness.alive_at(i) if b.role in (Role.GRADIENT, Role.WORKSPACE))
            for i in range(graph.forward_ops, len(graph.ops))
            if graph.ops[i].place == "block 3"
        ]
        gradients[schedule] = max(at_block_3) / KIB
    hidden, residual, channel = 48 * 24**2 * 4 / KIB, 8 * 24**2 * 4 / KIB, 24**2 * 4 / KIB
    assert gradients[Schedule.LAYER] == 2 * hidden + residual == 234
    assert gradients[Schedule.INPLACE] == hidden + residual + channel
    # the block's own output gradient is read until its input's is whole, so the two are separate
    assert gradients[Schedule.STREAMED] == 2 * residual + 2 * channel == 40.5


@pytest.mark.parametrize("seed", range(30))
def test_schedules_keep_the_same_and_compute_the_same(seed: int) -> None:
    resolved = random_resolved(Random(seed))
    graphs = {schedule: build_graph(resolved, classes=10, batch=2, schedule=schedule) for schedule in Schedule}
    layer = graphs[Schedule.LAYER]
    for graph in graphs.values():
        assert compute_liveness(graph).kept_bytes == compute_liveness(layer).kept_bytes
        assert (graph.forward_macs, graph.macs) == (layer.forward_macs, layer.macs)
        assert graph.parameters == layer.parameters


def test_streaming_never_makes_an_expanded_map() -> None:
    graph = build_graph(resolve(six_connectors()), classes=10, schedule=Schedule.STREAMED)
    names = {tensor.name for tensor in graph.tensors if tensor.role is Role.BACKBONE}
    assert not any(name.endswith((".0", ".1")) and not name.startswith(("b0.", "b1.")) for name in names)
    assert sum(op.kind is OpKind.STREAMED_BLOCK for op in graph.ops) == 16


def test_int8_streams_into_accumulators_of_4_bytes() -> None:
    design = Design(connectors=(), activation_bits=8)
    graph = build_graph(resolve(design), classes=10, schedule=Schedule.STREAMED, batch=3)
    accumulators = [tensor for tensor in graph.tensors if tensor.name.endswith("accumulator")]
    assert len(accumulators) == 16
    assert accumulators[0].size_bytes == 8 * 12 * 12 * 4  # block 2 of one image, at 48 px


def test_the_estimate_names_its_schedule() -> None:
    resolved = resolve(six_connectors())
    estimates = [estimate_memory(resolved, classes=10, schedule=schedule) for schedule in Schedule]
    assert [memory.schedule for memory in estimates] == list(Schedule)
    assert estimates[0].ram_bytes >= estimates[1].ram_bytes > estimates[2].ram_bytes


@pytest.mark.parametrize("trained", [Trained.NORMS_AND_HEAD, Trained.EVERYTHING])
@pytest.mark.parametrize("backbone", [BackboneSpec(), BackboneSpec(name="resnet18")])
def test_whole_networks_train_what_they_say(trained: Trained, backbone: BackboneSpec) -> None:
    resolved = resolve(Design(connectors=(), backbone=backbone))
    graph = build_graph(resolved, classes=10, trained=trained)
    table = resolved.table
    convolutions = table.weight_count if trained is Trained.EVERYTHING else 0
    head = 11 * table.feature_channels - table.feature_channels + 10
    assert graph.parameter_count == convolutions + 2 * table.bias_count + head
    assert graph.norm_state_elements == 2 * table.bias_count


def test_what_is_not_frozen_has_one_schedule_and_no_int8() -> None:
    resolved = resolve(Design(connectors=()))
    with pytest.raises(SpecError, match="use the schedule 'layer'"):
        build_graph(resolved, classes=10, trained=Trained.EVERYTHING, schedule=Schedule.STREAMED)
    with pytest.raises(SpecError, match="use activation_bits 32"):
        build_graph(resolve(Design(connectors=(), activation_bits=8)), classes=10, folded=False)
    with pytest.raises(SpecError, match=r"use a design with connectors: \[\]"):
        build_graph(resolve(six_connectors()), classes=10, trained=Trained.NORMS_AND_HEAD)
