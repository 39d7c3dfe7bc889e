"""Reference kernels of an int8 backbone's forward pass: codes in the arena, whole numbers in the arithmetic.

Values are centred codes (code - zero point); what they come from and go to are bytes. Backward, gradients are float32
and the kernels those of float32: with the weights' real values, and with masks where a code is not at its range's end.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from repnet_search.graph import Role
from repnet_search.measure import kernels_forward as forward
from repnet_search.measure.int8_step import encode
from repnet_search.measure.kernel_run import KernelRun
from repnet_search.models.quantisation import QuantParams, requantise, unclamped
from repnet_search.models.quantised_block import QuantisedConv
from repnet_search.spec import Exchange


def image_pool(run: KernelRun) -> None:
    """Averages over windows of the normalised image, which gives r_0 on the image's grid."""
    op = run.op
    assert isinstance(op.layer, int)
    image = run.input_range.normalise(run.access.read_bytes(op.reads[0]))
    pooled = functional.avg_pool2d(image, op.layer)
    run.store(op.writes[0], run.int8_step.grids[op.writes[0]].quantise(pooled))


def conv(run: KernelRun) -> None:
    """A frozen convolution with its activation, which may overwrite its input; a module's is a float32 one."""
    op = run.op
    if op.weight_trains:
        forward.conv(run)
    elif run.in_place(op.reads[0], op.writes[0]):
        _conv_in_place(run)
    else:
        layer = run.int8_step.conv(op.parameters[0].name)
        _finish(run, layer.finish(_sums(layer, run.codes(op.reads[0])), run.parameter(1)))


def _sums(layer: QuantisedConv, codes: Tensor, *, channels: slice | None = None) -> Tensor:
    """Returns the sums of products of centred codes; `channels` are those of a depthwise convolution or its outputs."""
    conv = layer.conv
    weight = layer.codes if channels is None else layer.codes[channels]
    groups = conv.groups if channels is None else 1
    return functional.conv2d(codes.to(weight.dtype), weight, None, conv.stride, conv.kernel // 2, groups=groups)


def _finish(run: KernelRun, codes: Tensor) -> None:
    """Writes an operator's requantised result, and its mask where it has one."""
    output = run.op.writes[0]
    run.store(output, codes)
    mask = run.with_role(run.op.writes, Role.MASK)
    if mask is not None:
        run.access.write_bits(mask, unclamped(codes, run.int8_step.grids[output]).flatten())


def _conv_in_place(run: KernelRun) -> None:
    """Depthwise: image by image, channel by channel, through a workspace of one channel's codes.

    A smaller output fills the beginning of the storage: it never reaches what is still to be read.
    """
    op = run.op
    layer, bias = run.int8_step.conv(op.parameters[0].name), run.parameter(1)
    source, output = run.access.read_codes(op.reads[0]), run.access.write_codes(op.writes[0])
    buffer, mask = (run.with_role(op.writes, role) for role in (Role.WORKSPACE, Role.MASK))
    assert buffer is not None
    zero_point = layer.source.zero_point
    for image in range(source.shape[0]):
        for channel in range(source.shape[1]):
            own = slice(channel, channel + 1)
            one = source[image, own].unsqueeze(0).float() - zero_point
            codes = layer.finish(_sums(layer, one, channels=own), bias, channels=own)[0, 0]
            run.store(buffer, codes)
            output[image, channel].copy_(run.access.read_codes(buffer))
            if mask is not None:
                _keep(run, mask, codes, layer.output, place=image * source.shape[1] + channel)


def _keep(run: KernelRun, mask: int, codes: Tensor, grid: QuantParams, *, place: int) -> None:
    """Writes the bits of one channel or image, the `place`-th of all."""
    run.access.write_bits(mask, unclamped(codes, grid).flatten(), start=place * codes.numel())


def streamed_block(run: KernelRun) -> None:
    """A frozen inverted residual per hidden channel: two channels' codes, and the sums of one image's output."""
    op = run.op
    project = run.int8_step.conv(op.parameters[4].name)
    source, output = run.codes(op.reads[0]), run.access.write_codes(op.writes[0])
    masks = [tensor for tensor in op.writes if run.role(tensor) is Role.MASK]
    for image in range(source.shape[0]):
        sums = _accumulate(run, source[image : image + 1], masks, image=image)
        codes = project.finish(sums.unsqueeze(0), run.parameter(5))[0]
        output[image].copy_(encode(codes, project.output))
        if masks:
            _keep(run, masks[2], codes, project.output, place=image)


def _accumulate(run: KernelRun, source: Tensor, masks: list[int], *, image: int) -> Tensor:
    """Returns the projection's sums (C_out, H', W') of one image, int32 in the arena."""
    op = run.op
    expand, depthwise, project = (run.int8_step.conv(op.parameters[position].name) for position in (0, 2, 4))
    hidden, filtered, accumulator = (tensor for tensor in op.writes if run.role(tensor) is Role.WORKSPACE)
    sums = run.access.write_sums(accumulator).zero_()
    for channel in range(expand.conv.out_channels):
        own = slice(channel, channel + 1)
        expanded = expand.finish(_sums(expand, source, channels=own), run.parameter(1), channels=own)
        run.store(hidden, expanded[0, 0])
        one = run.codes(hidden).view_as(expanded)
        convolved = depthwise.finish(_sums(depthwise, one, channels=own), run.parameter(3), channels=own)
        run.store(filtered, convolved[0, 0])
        sums += (project.codes[:, channel] * run.codes(filtered)).int()
        if masks:
            place = image * expand.conv.out_channels + channel
            _keep(run, masks[0], expanded, expand.output, place=place)
            _keep(run, masks[1], convolved, depthwise.output, place=place)
    return sums


def residual_add(run: KernelRun) -> None:
    """Adds the shortcut into the branch on the sum's grid, in place in the branch."""
    shortcut, branch = run.op.reads
    residual = run.int8_step.block(run.op.place).sum
    assert residual is not None
    _finish(run, residual.compute(run.codes(branch), run.codes(shortcut)))


def max_pool(run: KernelRun) -> None:
    """A 3×3 max pool of stride 2 on codes, and in one byte which of the 9 values won."""
    run.store(run.op.writes[0], forward.take_maxima(run, run.codes(run.op.reads[0])))


def exchange(run: KernelRun) -> None:
    """The write b ← b + γ⊙s, summed in float32, then on its grid in place in b; the read is a float32 one."""
    op = run.op
    if op.layer is Exchange.TO_REPNET:
        forward.exchange(run)
        return
    feature, stream = op.reads
    merged = run.read(feature) + run.parameter(0).view(-1, 1, 1) * run.read(stream)
    grid = run.int8_step.grids[op.writes[0]]
    _finish(run, requantise(merged.double() / grid.scale, grid))
