from __future__ import annotations

from random import Random

import pytest

from repnet_search.errors import SpecError
from repnet_search.graph import OpKind, Role, TrainingGraph, build_graph
from repnet_search.spec import Design, Exchange, Norm, Optimizer, Recipe, resolve
from tests.designs import random_resolved, six_connectors


def trained(graph: TrainingGraph) -> tuple[int, ...]:
    """Returns the elements of every trainable parameter."""
    return tuple(parameter.elements for parameter in graph.parameters if parameter.trains)


def test_the_last_layer_alone_back_propagates_through_nothing_but_the_head() -> None:
    graph = build_graph(resolve(Design(connectors=())), classes=10)
    assert [op.kind for op in graph.ops[graph.forward_ops :]] == [OpKind.LOSS_BACKWARD, OpKind.LINEAR_BACKWARD]
    assert trained(graph) == (1120, 10)


def test_parameters_of_a_small_design_counted_by_hand() -> None:
    # after block 17 (112 channels), r_0 with 3 channels, width 1 of 112: mid 112, k 3, 1 group
    graph = build_graph(
        resolve(six_connectors().model_copy(update={"connectors": six_connectors().connectors[-1:]})), classes=10
    )
    convolution, norm, projection, output_norm, gamma = 112 * 3 * 9, 112 + 112, 112 * 112, 112, 112
    assert trained(graph)[:-2] == (convolution, 112, 112, projection, output_norm, gamma)
    assert graph.parameter_count == convolution + norm + projection + output_norm + gamma + 1130


def test_reading_connectors_keep_the_backbone_out_of_the_backward_pass() -> None:
    graph = build_graph(resolve(six_connectors(Exchange.TO_REPNET)), classes=10)
    backward = graph.ops[graph.forward_ops :]
    assert not any(op.place.startswith("block") for op in backward)
    assert not any(tensor.role is Role.MASK for tensor in graph.tensors)


def test_the_gradient_stops_at_the_first_writer() -> None:
    connectors = six_connectors().connectors[2:]
    graph = build_graph(resolve(Design(connectors=connectors)), classes=10)
    places = {op.place for op in graph.ops[graph.forward_ops :] if op.place.startswith("block")}
    assert places == {f"block {index}" for index in range(7, 18)}


def test_the_backward_pass_reverses_the_forward_pass() -> None:
    random = Random(3)
    for _ in range(20):
        graph = build_graph(random_resolved(random), classes=10)
        forward = [op.place for op in graph.ops[: graph.forward_ops]]
        backward = [op.place for op in graph.ops[graph.forward_ops :]]
        order = list(dict.fromkeys(reversed(forward)))
        seen = list(dict.fromkeys(backward))
        assert seen == [place for place in order if place in seen]


def test_every_value_is_written_before_it_is_read() -> None:
    random = Random(4)
    for _ in range(30):
        graph = build_graph(random_resolved(random), classes=10)
        written = {0}
        for op in graph.ops:
            assert set(op.reads) <= written, op
            written |= set(op.writes)


def test_forward_kinds_come_first() -> None:
    graph = build_graph(resolve(six_connectors()), classes=10)
    assert all(op.kind.is_forward for op in graph.ops[: graph.forward_ops])
    assert not any(op.kind.is_forward for op in graph.ops[graph.forward_ops :])


def test_normalised_updates_hold_one_tensors_gradient_and_only_when_fused() -> None:
    def weight_gradients(accumulate: int) -> int:
        recipe = Recipe(optimizer=Optimizer.NORMALISED_SGD, accumulate=accumulate)
        graph = build_graph(resolve(six_connectors().model_copy(update={"recipe": recipe})), classes=10)
        return sum(tensor.role is Role.WEIGHT_GRADIENT for tensor in graph.tensors)

    assert weight_gradients(16) == 0
    # per module two convolutions, two norms and γ; the head
    assert weight_gradients(1) == 6 * 5 + 1


def test_int8_masks_every_requantising_operator_on_the_gradient_path() -> None:
    design = Design(connectors=six_connectors().connectors[4:], activation_bits=8)
    graph = build_graph(resolve(design), classes=10)
    masks = [tensor.name for tensor in graph.tensors if tensor.role is Role.MASK]
    # the write after block 13; blocks 14 to 17 with three convolutions each and the adds of 15 and 16; the last write
    assert len(masks) == 1 + 4 * 3 + 2 + 1


def test_mac_count_matches_a_hand_count_of_the_stem() -> None:
    graph = build_graph(resolve(Design(connectors=())), classes=10)
    assert graph.ops[0].macs == 16 * 3 * 9 * 24 * 24
    assert graph.ops[graph.forward_ops - 2].macs == 1120


@pytest.mark.parametrize(("batch", "classes", "sentence"), [(0, 10, "at least 1 image"), (1, 1, "at least 2 classes")])
def test_empty_batches_and_tasks_are_refused(batch: int, classes: int, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        build_graph(resolve(Design(connectors=())), classes=classes, batch=batch)


def test_a_batch_norm_needs_a_batch() -> None:
    resolved = resolve(six_connectors(norm=Norm.BATCH))
    with pytest.raises(SpecError, match=r"connectors\[0\] has norm 'batch'"):
        build_graph(resolved, classes=10)
    assert build_graph(resolved, classes=10, batch=2).norm_state_elements > 0
