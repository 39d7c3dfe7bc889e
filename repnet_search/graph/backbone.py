"""The backbone's blocks as operators of the training step.

Frozen and folded, a convolution with its ReLU6 is one operator that keeps one bit per element; where the reference
methods train norms or everything, convolution and norm are operators of their own that keep their inputs. A schedule
may run depthwise convolutions in place and whole inverted residuals per hidden channel.
"""

from __future__ import annotations

from repnet_search.backbones import Activation, Block, BlockTable, Conv
from repnet_search.graph.ops import NormLayer, Op, OpKind, Role, Schedule, Trained
from repnet_search.graph.tape import FLOAT_BYTES, Tape
from repnet_search.spec.design import Norm


class BackboneEmitter:
    """Emits a backbone block by block."""

    def __init__(
        self,
        tape: Tape,
        table: BlockTable,
        *,
        train_bias: bool,
        trained: Trained = Trained.DESIGN,
        folded: bool = True,
        schedule: Schedule = Schedule.LAYER,
    ) -> None:
        self.tape = tape
        self.table = table
        self.train_bias = train_bias
        self.trained = trained
        self.folded = folded
        self.schedule = schedule

    def emit(self, index: int, source: int, *, held: bool) -> int:
        """Emits block `index` and returns its output.

        Args:
            index: the block.
            source: the tensor that it reads.
            held: whether something else reads the source later, so that nothing may overwrite it.
        """
        block = self.table.blocks[index]
        if block.is_identity:
            return source
        if self._streams(block):
            value = self._streamed(index, block, source)
        else:
            value = self._chain(index, block, source, held=held or block.residual)
        if block.residual:
            value = self._residual(index, block, source, value)
        return self._max_pool(index, value) if block.max_pool else value

    def _streams(self, block: Block) -> bool:
        return self.schedule is Schedule.STREAMED and block.is_inverted_residual

    def _chain(self, index: int, block: Block, source: int, *, held: bool) -> int:
        value = source
        for position, conv in enumerate(block.convs):
            # What the chain made itself is read by nobody else; its last value leaves the block.
            private = (value != source or not held) and position < len(block.convs) - 1
            value = self._conv_unit(
                conv,
                value,
                index,
                f"b{index}.{position}",
                f"backbone.blocks.{index}.convs.{position}",
                private=private,
                consumer=self._consumer_keeps(index, block, position),
            )
        return value

    def _consumer_keeps(self, index: int, block: Block, position: int) -> bool:
        """Whether a trainable convolution keeps this convolution's activated output anyway."""
        if self.trained is not Trained.EVERYTHING:
            return False
        return position < len(block.convs) - 1 or not (block.max_pool or index == self.table.last_block)

    def _conv_unit(
        self, conv: Conv, source: int, index: int, name: str, key: str, *, private: bool, consumer: bool
    ) -> int:
        if self.folded:
            return self._frozen_conv(conv, source, f"block {index}", name, key, private=private)
        convolved = self._bare_conv(conv, source, f"block {index}", name, key)
        return self._backbone_norm(conv, convolved, f"block {index}", name, key, consumer=consumer)

    def _frozen_conv(self, conv: Conv, source: int, place: str, name: str, key: str, *, private: bool) -> int:
        """A frozen convolution, its norm folded in, its activation fused."""
        tape = self.tape
        size = conv.output_size(tape.tensors[source].shape[-1])
        shape = (conv.out_channels, size, size)
        overwrites = private and conv.is_depthwise and self.schedule is not Schedule.LAYER
        if overwrites:
            output = tape.in_place(name, source, shape)
        else:
            output = tape.tensor(name, shape, Role.BACKBONE, element_bytes=tape.backbone_bytes)
        through = tape.needs_gradient(source)
        op = Op(
            OpKind.CONV,
            place,
            (source,),
            (output,),
            layer=conv,
            parameters=(
                tape.parameter(f"{key}.weight", conv.weight_count, trains=False),
                tape.parameter(f"{key}.bias", conv.out_channels, trains=self.train_bias),
            ),
            activation=conv.activation,
            input_needs_gradient=through,
            output_needs_gradient=through or self.train_bias,
            macs=tape.batch * conv.weight_count * size * size,
        )
        if op.output_needs_gradient:
            tape.track(output)
            if conv.activation is not Activation.NONE or tape.quantised:
                op.writes += (tape.mask(f"{name} mask", shape),)
        if overwrites:
            op.writes += (self._channel(name, size, tape.backbone_bytes),)
        tape.emit(op, self._frozen_conv_backward if op.output_needs_gradient else None)
        return output

    def _frozen_conv_backward(self, op: Op) -> None:
        """The input's gradient from the output's, the weight and the mask; the bias from the same."""
        tape = self.tape
        source, output = op.reads[0], op.writes[0]
        masks = tuple(value for value in op.writes[1:] if tape.tensors[value].role is Role.MASK)
        gradient = tape.gradient(output)
        written: tuple[int, ...] = ()
        read = (gradient, *masks)
        if op.input_needs_gradient:
            in_place = tape.tensors[source].storage == tape.tensors[output].storage and op.conv.stride == 1
            if in_place and not tape.has_gradient(source):
                size = tape.tensors[source].shape[-1]
                name = f"gradient of {tape.tensors[source].name}"
                written = (tape.overwrite_gradient(output, source), self._channel(name, size, FLOAT_BYTES))
            else:
                target, also_read = tape.contribute(source)
                written, read = (target,), read + also_read
        macs = op.macs if op.input_needs_gradient else 0
        written += tape.weight_gradient(op)
        tape.emit(
            Op(OpKind.CONV_BACKWARD, op.place, read, written, layer=op.layer, parameters=op.parameters, macs=macs)
        )

    def _channel(self, name: str, size: int, element_bytes: int) -> int:
        """Returns a workspace for one channel's map."""
        return self.tape.buffer(f"{name} channel", (size, size), Role.WORKSPACE, element_bytes=element_bytes)

    def _streamed(self, index: int, block: Block, source: int) -> int:
        """A frozen inverted residual per hidden channel: expand, depthwise, add into the projection's accumulator.

        An int8 output needs accumulators of 4 bytes, for one image at a time; an fp32 output is its own.
        """
        tape = self.tape
        expand, depthwise, project = block.convs
        size = tape.tensors[source].shape[-1]
        out_size = block.output_size(size)
        name = f"b{index}"
        shape = (project.out_channels, out_size, out_size)
        output = tape.tensor(f"{name}.2", shape, Role.BACKBONE, element_bytes=tape.backbone_bytes)
        through = tape.needs_gradient(source)
        parameters = []
        for position, conv in enumerate(block.convs):
            key = f"backbone.blocks.{index}.convs.{position}"
            parameters.append(tape.parameter(f"{key}.weight", conv.weight_count, trains=False))
            parameters.append(tape.parameter(f"{key}.bias", conv.out_channels, trains=self.train_bias))
        expanded = tape.batch * expand.weight_count * size * size
        rest = tape.batch * (depthwise.weight_count + project.weight_count) * out_size**2
        op = Op(
            OpKind.STREAMED_BLOCK,
            f"block {index}",
            (source,),
            (output,),
            layer=block,
            parameters=tuple(parameters),
            input_needs_gradient=through,
            output_needs_gradient=through or self.train_bias,
            macs=expanded + rest,
        )
        if op.output_needs_gradient:
            tape.track(output)
            op.writes += (tape.mask(f"{name}.0 mask", (expand.out_channels, size, size)),)
            op.writes += (tape.mask(f"{name}.1 mask", (depthwise.out_channels, out_size, out_size)),)
            if tape.quantised:
                op.writes += (tape.mask(f"{name}.2 mask", shape),)
        op.writes += (self._channel(f"{name}.0", size, tape.backbone_bytes),)
        op.writes += (self._channel(f"{name}.1", out_size, tape.backbone_bytes),)
        if tape.quantised:
            op.writes += (tape.buffer(f"{name}.2 accumulator", shape, Role.WORKSPACE),)
        tape.emit(op, self._streamed_backward if op.output_needs_gradient else None)
        return output

    def _streamed_backward(self, op: Op) -> None:
        """Per hidden channel, from weights and masks: the gradients of the two hidden maps, then the input's."""
        tape = self.tape
        source, output = op.reads[0], op.writes[0]
        masks = tuple(value for value in op.writes[1:] if tape.tensors[value].role is Role.MASK)
        target, also_read = tape.contribute(source)
        size, out_size = tape.tensors[source].shape[-1], tape.tensors[output].shape[-1]
        name = f"gradient of {tape.tensors[output].name}"
        channels = (self._channel(f"{name}.0", size, FLOAT_BYTES), self._channel(f"{name}.1", out_size, FLOAT_BYTES))
        tape.emit(
            Op(
                OpKind.STREAMED_BLOCK_BACKWARD,
                op.place,
                (tape.gradient(output), *masks, *also_read),
                (target, *channels, *tape.weight_gradient(op)),
                layer=op.layer,
                parameters=op.parameters,
                macs=op.macs,
            )
        )

    def _bare_conv(self, conv: Conv, source: int, place: str, name: str, key: str) -> int:
        """A convolution whose norm is not folded; it trains with everything else."""
        tape = self.tape
        size = conv.output_size(tape.tensors[source].shape[-1])
        trains = self.trained is Trained.EVERYTHING
        output = tape.tensor(f"{name} before norm", (conv.out_channels, size, size), Role.BACKBONE)
        through = tape.needs_gradient(source)
        op = Op(
            OpKind.CONV,
            place,
            (source,),
            (output,),
            layer=conv,
            parameters=(tape.parameter(f"{key}.weight", conv.weight_count, trains=trains),),
            input_needs_gradient=through,
            output_needs_gradient=through or trains,
            macs=tape.batch * conv.weight_count * size * size,
        )
        if op.output_needs_gradient:
            tape.track(output)
        tape.emit(op, self._bare_conv_backward if op.output_needs_gradient else None)
        return output

    def _bare_conv_backward(self, op: Op) -> None:
        tape = self.tape
        source, output = op.reads[0], op.writes[0]
        written: tuple[int, ...] = ()
        read: tuple[int, ...] = (tape.gradient(output),)
        if op.weight_trains:
            read += (source,)
        if op.input_needs_gradient:
            target, also_read = tape.contribute(source)
            written, read = (target,), read + also_read
        written += tape.weight_gradient(op)
        macs = op.macs * (op.input_needs_gradient + op.weight_trains)
        tape.emit(
            Op(OpKind.CONV_BACKWARD, op.place, read, written, layer=op.layer, parameters=op.parameters, macs=macs)
        )

    def _backbone_norm(self, conv: Conv, source: int, place: str, name: str, key: str, *, consumer: bool) -> int:
        """The batch norm behind a convolution: frozen it is a scale and a shift in place; trained it keeps its input.

        Its activation keeps one bit per element, or nothing where the next convolution keeps its output anyway.
        """
        tape = self.tape
        trains = self.trained is not Trained.DESIGN
        shape = tape.tensors[source].shape[1:]
        output = tape.tensor(name, shape, Role.BACKBONE) if trains else tape.in_place(name, source)
        needs = tape.needs_gradient(source) or trains or self.train_bias
        op = Op(
            OpKind.BACKBONE_NORM,
            place,
            (source,),
            (output,),
            layer=NormLayer(Norm.BATCH, 0, conv.out_channels),
            parameters=(
                tape.parameter(f"{key}.norm.weight", conv.out_channels, trains=trains),
                tape.parameter(f"{key}.norm.bias", conv.out_channels, trains=trains or self.train_bias),
            ),
            activation=conv.activation,
            input_needs_gradient=tape.needs_gradient(source),
            output_needs_gradient=needs,
        )
        if trains:
            op.writes += (tape.buffer(f"{name} statistics", (2 * conv.out_channels,), Role.STATISTICS),)
            tape.norm_state_elements += 2 * conv.out_channels
        if needs:
            tape.track(output)
            if conv.activation is not Activation.NONE and not consumer:
                op.writes += (tape.mask(f"{name} mask", shape),)
        tape.emit(op, self._backbone_norm_backward if needs else None)
        return output

    def _backbone_norm_backward(self, op: Op) -> None:
        tape = self.tape
        source, output = op.reads[0], op.writes[0]
        gradient = tape.gradient(output)
        read: tuple[int, ...] = (gradient, *op.writes[1:])
        if op.weight_trains:
            read += (source,)
            if op.activation is not Activation.NONE and len(op.writes) == 2:
                read += (output,)
        written: tuple[int, ...] = ()
        if op.input_needs_gradient:
            target, also_read = tape.contribute(source)
            written, read = (target,), read + also_read
        written += tape.weight_gradient(op)
        tape.emit(Op(OpKind.BACKBONE_NORM_BACKWARD, op.place, read, written, layer=op.layer, parameters=op.parameters))

    def _residual(self, index: int, block: Block, source: int, branch: int) -> int:
        """Adds into the branch, which nobody reads later; the shortcut may still be read by a module."""
        tape = self.tape
        shortcut = source
        if block.shortcut is not None:
            shortcut = self._conv_unit(
                block.shortcut,
                source,
                index,
                f"b{index}.shortcut",
                f"backbone.blocks.{index}.shortcut",
                private=False,
                consumer=False,
            )
        output = tape.in_place(f"b{index}", branch)
        needs = tape.needs_gradient(branch) or tape.needs_gradient(shortcut)
        op = Op(
            OpKind.RESIDUAL_ADD,
            f"block {index}",
            (shortcut, branch),
            (output,),
            layer=block,
            activation=block.activation,
            output_needs_gradient=needs,
        )
        if needs:
            tape.track(output)
            consumer = self.trained is Trained.EVERYTHING and index < self.table.last_block
            if tape.quantised or (block.activation is not Activation.NONE and not consumer):
                op.writes += (tape.mask(f"b{index} mask", tape.tensors[output].shape[1:]),)
        tape.emit(op, self._residual_backward if needs else None)
        return output

    def _residual_backward(self, op: Op) -> None:
        """Clamps the sum's gradient in place where there is something to clamp, and hands it to both summands."""
        tape = self.tape
        shortcut, branch = op.reads
        output, *masks = op.writes
        gradient = tape.gradient(output)
        if masks or op.activation is not Activation.NONE:
            read = (gradient, *(masks or (output,)))
            tape.emit(Op(OpKind.RESIDUAL_ADD_BACKWARD, op.place, read, (gradient,), activation=op.activation))
        assert isinstance(op.layer, Block)
        if tape.needs_gradient(branch):
            tape.pass_on(gradient, branch, op.place)
        if tape.needs_gradient(shortcut):
            # A streamed block reads its output's gradient until its input's is whole: the two cannot be one.
            tape.pass_on(gradient, shortcut, op.place, copies=self._streams(op.layer))

    def _max_pool(self, index: int, source: int) -> int:
        """A 3×3 max pool of stride 2, which on the gradient path keeps in one byte which of 9 values it took."""
        tape = self.tape
        _, channels, size, _ = tape.tensors[source].shape
        shape = (channels, (size - 1) // 2 + 1, (size - 1) // 2 + 1)
        output = tape.tensor(f"b{index}", shape, Role.BACKBONE, element_bytes=tape.backbone_bytes)
        needs = tape.needs_gradient(source)
        op = Op(
            OpKind.MAX_POOL,
            f"block {index}",
            (source,),
            (output,),
            input_needs_gradient=needs,
            output_needs_gradient=needs,
        )
        if needs:
            tape.track(output)
            op.writes += (tape.tensor(f"b{index} winners", shape, Role.MASK, element_bytes=1),)
        tape.emit(op, self._max_pool_backward if needs else None)
        return output

    def _max_pool_backward(self, op: Op) -> None:
        tape = self.tape
        output, winners = op.writes
        target, also_read = tape.contribute(op.reads[0])
        read = (tape.gradient(output), winners, *also_read)
        tape.emit(Op(OpKind.MAX_POOL_BACKWARD, op.place, read, (target,)))
