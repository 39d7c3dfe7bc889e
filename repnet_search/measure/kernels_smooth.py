"""Reference kernels of smooth activations and of squeeze-and-excitation, forward and backward."""

from __future__ import annotations

from torch import Tensor

from repnet_search.graph import Role
from repnet_search.measure.kernel_run import KernelRun, activate_
from repnet_search.models.slopes import decode_slope, encode_slope, slope


def activation(run: KernelRun) -> None:
    """H-swish or SiLU: beside its input, which is kept, or over it, the slope kept in one byte."""
    op = run.op
    kept = run.with_role(op.writes, Role.MASK)
    if kept is not None:
        run.access.write_bytes(kept).copy_(encode_slope(run.read(op.reads[0]), op.activation))
    output = run.write(op.writes[0])
    activate_(output.copy_(run.read(op.reads[0])), op.activation)


def activation_backward(run: KernelRun) -> None:
    """The gradient times the slope."""
    gradient, kept = run.op.reads
    if run.role(kept) is Role.MASK:
        slopes = decode_slope(run.access.read_bytes(kept), run.read(gradient).dtype)
    else:
        slopes = slope(run.read(kept), run.op.activation)
    run.write(run.op.writes[0]).copy_(run.read(gradient) * slopes)


def squeeze(run: KernelRun) -> None:
    """The means of a map's channels."""
    run.write(run.op.writes[0]).copy_(run.read(run.op.reads[0]).mean((2, 3), keepdim=True))


def squeeze_backward(run: KernelRun) -> None:
    """Each mean gives its gradient back evenly."""
    target = run.op.writes[0]
    shape = run.shape(target)
    run.contribute(target, (run.read(run.op.reads[0]) / (shape[2] * shape[3])).expand(shape))


def channel_scale(run: KernelRun) -> None:
    """The map times its gate."""
    source, gate = run.op.reads[:2]
    output = run.write(run.op.writes[0])
    output.copy_(run.read(source)).mul_(run.read(gate))


def channel_scale_backward(run: KernelRun) -> None:
    """The gate's gradient, from the map or from what makes it again; then the map's, perhaps over the output's."""
    gradient, gate, kept = map(run.read, run.op.reads)
    target, of_gate = run.op.writes
    source: Tensor = activate_(kept.clone(), run.op.activation)
    run.write(of_gate).copy_((gradient * source).sum((2, 3), keepdim=True))
    run.write(target).copy_(gradient * gate)
