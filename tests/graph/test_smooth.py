"""What h-swish and squeeze-and-excitation keep, by hand."""

from __future__ import annotations

import pytest

from repnet_search.backbones import Activation, Block, BlockTable, Conv, SqueezeExcite
from repnet_search.graph import OpKind, Role, Schedule, Slopes, TrainingGraph
from repnet_search.graph.backbone import BackboneEmitter
from repnet_search.graph.tape import Tape
from repnet_search.memory import compute_liveness

SIDE, CHANNELS, SQUEEZED = 6, 8, 4
MAP_BYTES = 4 * CHANNELS * SIDE**2


def conv(source: int, out: int, activation: Activation, *, kernel: int = 1, groups: int = 1) -> Conv:
    return Conv("c", "n", source, out, kernel, 1, groups, activation)


def emit(
    activation: Activation,
    *,
    squeezes: bool,
    slopes: Slopes = Slopes.EXACT,
    schedule: Schedule = Schedule.LAYER,
    tracked: bool = True,
    residual: bool = False,
) -> TrainingGraph:
    """Returns one block alone: a depthwise convolution, perhaps a squeeze-and-excitation, a linear projection."""
    squeeze = SqueezeExcite(
        0, conv(CHANNELS, SQUEEZED, Activation.RELU), conv(SQUEEZED, CHANNELS, Activation.HARD_SIGMOID)
    )
    convs = (conv(CHANNELS, CHANNELS, activation, kernel=3, groups=CHANNELS), conv(CHANNELS, 8, Activation.NONE))
    block = Block(convs, residual, 0, 8, squeeze=squeeze if squeezes else None)
    tape = Tape(batch=1, backbone_bytes=4)
    source = tape.tensor("input", (CHANNELS, SIDE, SIDE), Role.BACKBONE)
    if tracked:
        tape.track(source)
    table = BlockTable("one", (block,), ())
    output = BackboneEmitter(tape, table, train_bias=False, schedule=schedule, slopes=slopes).emit(
        0, source, held=False
    )
    forward_ops = len(tape.ops)
    if tracked:
        tape.contribute(output)
        tape.run_backward()
    return TrainingGraph(tape.tensors, tape.ops, forward_ops, 1, (), 0)


def kept(graph: TrainingGraph) -> int:
    return compute_liveness(graph).kept_bytes


def test_h_swish_keeps_its_input_or_its_slope_in_a_byte() -> None:
    assert kept(emit(Activation.HARD_SWISH, squeezes=False)) == MAP_BYTES
    assert kept(emit(Activation.HARD_SWISH, squeezes=False, slopes=Slopes.EIGHT_BIT)) == MAP_BYTES // 4
    assert kept(emit(Activation.RELU, squeezes=False)) == MAP_BYTES // 32


def test_a_squeeze_and_excitation_keeps_its_map_its_gate_and_a_mask() -> None:
    gate, inner_mask = 4 * CHANNELS, 4  # a mask of 4 bits takes 4 bytes
    assert kept(emit(Activation.RELU, squeezes=True)) == MAP_BYTES + MAP_BYTES // 32 + gate + inner_mask


@pytest.mark.parametrize("slopes", list(Slopes))
def test_behind_h_swish_the_map_is_made_again_from_what_h_swish_keeps(slopes: Slopes) -> None:
    assert kept(emit(Activation.HARD_SWISH, squeezes=True, slopes=slopes)) == MAP_BYTES + 4 * CHANNELS + 4


@pytest.mark.parametrize("activation", [Activation.HARD_SWISH, Activation.RELU])
def test_off_the_gradient_path_all_is_fused_and_in_place(activation: Activation) -> None:
    graph = emit(activation, squeezes=True, tracked=False)
    kinds = [op.kind for op in graph.ops]
    assert OpKind.ACTIVATION not in kinds
    scale = next(op for op in graph.ops if op.kind is OpKind.CHANNEL_SCALE)
    assert graph.tensors[scale.writes[0]].storage == graph.tensors[scale.reads[0]].storage


def test_every_forward_operator_has_its_backward_one_in_reverse_order() -> None:
    graph = emit(Activation.HARD_SWISH, squeezes=True)
    forward = [op.kind.value for op in graph.ops[: graph.forward_ops]]
    assert forward == ["conv", "activation", "squeeze", "conv", "conv", "channel scale", "conv"]
    backward = [op.kind.value.removesuffix(" backward") for op in graph.ops[graph.forward_ops :]]
    assert backward == forward[::-1]


def test_a_branchs_gradient_is_not_overwritten_where_the_shortcut_has_it_too() -> None:
    # The sum hands one gradient to both; the last layer of the branch is linear here, so nothing may be in place of it.
    graph = emit(Activation.HARD_SWISH, squeezes=True, residual=True)
    gradients = [op for op in graph.ops if op.kind is OpKind.CHANNEL_SCALE_BACKWARD]
    assert graph.tensors[gradients[0].writes[0]].storage == graph.tensors[gradients[0].reads[0]].storage
    assert graph.ops[graph.forward_ops].kind is OpKind.CONV_BACKWARD


@pytest.mark.parametrize("schedule", [Schedule.INPLACE, Schedule.STREAMED])
def test_such_a_block_is_never_streamed(schedule: Schedule) -> None:
    graph = emit(Activation.HARD_SWISH, squeezes=True, schedule=schedule)
    assert OpKind.STREAMED_BLOCK not in [op.kind for op in graph.ops]
