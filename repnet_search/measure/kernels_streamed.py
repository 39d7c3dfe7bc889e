"""Reference kernels of a frozen inverted residual that runs per hidden channel, so that its hidden maps never exist.

Two workspaces hold one channel of one image each: the expanded map, and the depthwise convolution's output or, on the
way back, the gradients of the two.
"""

from __future__ import annotations

from torch.nn import functional

from repnet_search.graph import Role
from repnet_search.measure.kernel_run import KernelRun, activate_
from repnet_search.measure.kernels_backward import conv_input_gradient


def streamed_block(run: KernelRun) -> None:
    """A frozen inverted residual per hidden channel: two workspaces of one channel, and the output as accumulator."""
    op = run.op
    expand, depthwise, _ = run.block.convs
    expand_weight, expand_bias, weight, bias, project_weight, project_bias = map(run.parameter, range(6))
    source, output = run.read(op.reads[0]), run.write(op.writes[0])
    hidden, filtered = (run.write(tensor) for tensor in op.writes if run.role(tensor) is Role.WORKSPACE)
    masks = [tensor for tensor in op.writes if run.role(tensor) is Role.MASK]
    output.copy_(project_bias.view(-1, 1, 1).expand_as(output))
    for image in range(source.shape[0]):
        for channel in range(expand.out_channels):
            own = slice(channel, channel + 1)
            values = expand_weight[channel].flatten() @ source[image].flatten(1)
            hidden.copy_(values.view_as(hidden)).add_(expand_bias[channel])
            activate_(hidden, expand.activation)
            one = hidden.view(1, 1, *hidden.shape)
            convolved = functional.conv2d(one, weight[own], bias[own], depthwise.stride, depthwise.kernel // 2)
            activate_(filtered.copy_(convolved[0, 0]), depthwise.activation)
            output[image].flatten(1).addr_(project_weight[:, channel].flatten(), filtered.flatten())
            if masks:
                place = image * expand.out_channels + channel
                run.keep_channel(hidden, masks[0], expand.activation, place=place)
                run.keep_channel(filtered, masks[1], depthwise.activation, place=place)


def streamed_block_backward(run: KernelRun) -> None:
    """Per hidden channel the gradients of the two hidden maps, masked, then added into the input's."""
    op = run.op
    expand, depthwise, _ = run.block.convs
    expand_weight, _, weight, _, project_weight, _ = map(run.parameter, range(6))
    gradient, target = run.read(op.reads[0]), run.write(op.writes[0])
    expand_mask, depthwise_mask, *of_int8 = (tensor for tensor in op.reads if run.role(tensor) is Role.MASK)
    for mask in of_int8:  # an int8 projection's, applied as the gradient is read
        gradient = gradient * run.access.read_bits(mask).view_as(gradient)
    hidden, filtered = (run.write(tensor) for tensor in op.writes if run.role(tensor) is Role.WORKSPACE)
    if op.writes[0] not in op.reads:
        target.zero_()
    run.train(5, gradient.sum((0, 2, 3)))
    biases = run.gradient_sums(expand.out_channels, depthwise.out_channels)
    for channel in range(expand.out_channels):
        own = slice(channel, channel + 1)
        for image in range(gradient.shape[0]):
            place = image * expand.out_channels + channel
            filtered.copy_((project_weight[:, channel].flatten() @ gradient[image].flatten(1)).view_as(filtered))
            run.mask_channel(filtered, depthwise_mask, place=place)
            one = filtered.view(1, 1, *filtered.shape)
            hidden.copy_(conv_input_gradient(one, weight[own], depthwise, tuple(hidden.shape), groups=1)[0, 0])
            run.mask_channel(hidden, expand_mask, place=place)
            target[image].flatten(1).addr_(expand_weight[channel].flatten(), hidden.flatten())
            biases[0][channel] += hidden.sum()
            biases[1][channel] += filtered.sum()
    run.train(1, biases[0])
    run.train(3, biases[1])
