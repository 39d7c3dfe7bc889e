from __future__ import annotations

from random import Random

from repnet_search.graph import Op, OpKind, Role, Tensor, TrainingGraph, build_graph
from repnet_search.memory import compute_liveness, place_buffers
from repnet_search.spec import Design, resolve
from tests.designs import random_resolved


def chain(*sizes: int) -> TrainingGraph:
    """Returns a chain of operators, each reading the value in front of it; sizes in bytes."""
    tensors = [Tensor(f"t{i}", (size,), size, size, Role.BACKBONE, i) for i, size in enumerate(sizes)]
    ops = [Op(OpKind.CONV, "chain", (i,), (i + 1,)) for i in range(len(sizes) - 1)]
    return TrainingGraph(tensors, ops, len(ops) - 1, 1, (), 0)


def test_neighbours_in_a_chain_coexist() -> None:
    liveness = compute_liveness(chain(100, 40, 80, 4))
    assert liveness.live_bytes == (140, 120, 84)
    assert liveness.peak_bytes == 140
    assert place_buffers(liveness).size_bytes == 140


def test_buffers_are_rounded_up_to_4_bytes() -> None:
    assert compute_liveness(chain(1, 5)).live_bytes == (12,)


def test_a_value_lives_until_its_last_reader() -> None:
    graph = chain(100, 40, 80, 4)
    graph.ops[2].reads = (2, 0)
    liveness = compute_liveness(graph)
    assert liveness.live_bytes == (140, 220, 184)
    assert liveness.kept_bytes == 180  # t0 and t2 cross from the forward into the backward pass


def test_in_place_results_share_their_storage() -> None:
    graph = chain(100, 40, 40, 4)
    graph.tensors[2].storage = 1
    assert compute_liveness(graph).live_bytes == (140, 40, 44)


def test_the_last_layer_alone_by_hand() -> None:
    # 48 px fp32: block 2 expands 8 to 48 channels at 24x24, then its depthwise convolution writes 48 at 12x12
    liveness = compute_liveness(build_graph(resolve(Design(connectors=())), classes=10))
    assert liveness.peak_bytes == 4 * 48 * (24 * 24 + 12 * 12)
    assert liveness.kept_bytes == 4 * (112 + 10)  # the linear's input and the log-softmax


def test_an_int8_backbone_needs_a_quarter() -> None:
    for resolution, kib in ((64, 60.0), (96, 135.0), (128, 240.0)):
        design = Design(connectors=(), resolution=resolution, activation_bits=8)
        assert compute_liveness(build_graph(resolve(design), classes=10)).peak_bytes == kib * 1024


def test_no_two_live_buffers_overlap_in_the_arena() -> None:
    random = Random(5)
    for _ in range(40):
        liveness = compute_liveness(build_graph(random_resolved(random), classes=10))
        arena = place_buffers(liveness)
        assert arena.size_bytes >= liveness.peak_bytes
        placed = list(zip(liveness.buffers, arena.offsets, strict=True))
        for index, (one, offset) in enumerate(placed):
            assert offset + one.size_bytes <= arena.size_bytes
            for other, other_offset in placed[:index]:
                together = one.first <= other.last and other.first <= one.last
                apart = offset + one.size_bytes <= other_offset or other_offset + other.size_bytes <= offset
                assert apart or not together, (one, other)


def test_the_arena_reaches_the_lower_bound_nearly_always() -> None:
    random = Random(6)
    surplus = []
    for _ in range(100):
        liveness = compute_liveness(build_graph(random_resolved(random), classes=10))
        surplus.append(place_buffers(liveness).size_bytes / liveness.peak_bytes - 1)
    assert sum(share > 0 for share in surplus) <= 2
    assert max(surplus) < 0.05
