"""H-swish and SiLU on the gradient path: operators of their own, because their gradient needs their input.

The input must outlive the convolution that made it, and the output is another value, so nothing is won by fusing the
two: apart, the convolution's input is gone before the output is there. Off the gradient path they are fused and in
place as any activation.
"""

from __future__ import annotations

from functools import partial

from repnet_search.backbones import Activation
from repnet_search.graph.ops import Op, OpKind, Role
from repnet_search.graph.tape import Tape
from repnet_search.spec.target import Slopes


def emit_smooth(
    tape: Tape, source: int, activation: Activation, *, place: str, name: str, slopes: Slopes, shares_gradient: bool
) -> int:
    """Emits h-swish or SiLU on a tracked value that nobody else reads in the forward pass; returns its output.

    Args:
        tape: what is emitted to.
        source: what it reads.
        activation: which.
        place: the block.
        name: of its output.
        slopes: whether the input is kept, or its slope in one byte, the output then overwriting the input.
        shares_gradient: whether the output's gradient is another value's too, so that nothing may overwrite it.
    """
    shape = tape.tensors[source].shape[1:]
    written: tuple[int, ...]
    if slopes is Slopes.EXACT:
        output = tape.tensor(name, shape, Role.BACKBONE, element_bytes=tape.backbone_bytes)
        written = (output,)
    else:
        output = tape.in_place(name, source)
        written = (output, tape.tensor(f"{name} slope", shape, Role.MASK, element_bytes=1))
    tape.track(output)
    op = Op(
        OpKind.ACTIVATION,
        place,
        (source,),
        written,
        activation=activation,
        input_needs_gradient=True,
        output_needs_gradient=True,
    )
    tape.emit(op, partial(_smooth_backward, tape, shares_gradient))
    return output


def _smooth_backward(tape: Tape, shares_gradient: bool, op: Op) -> None:
    """The gradient times the slope, element by element in place."""
    source, (output, *slopes) = op.reads[0], op.writes
    gradient = tape.gradient(output)
    target = tape.contribute(source)[0] if shares_gradient else tape.overwrite_gradient(output, source)
    kept = slopes[0] if slopes else source
    tape.emit(Op(OpKind.ACTIVATION_BACKWARD, op.place, (gradient, kept), (target,), activation=op.activation))
