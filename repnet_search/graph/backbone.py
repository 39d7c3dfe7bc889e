"""The backbone's blocks as operators of the training step.

Frozen and folded, a convolution with its ReLU6 is one operator that keeps one bit per element; where the reference
methods train norms or everything, convolution and norm are operators of their own that keep their inputs. A schedule
may run depthwise convolutions in place and whole inverted residuals per hidden channel.
"""

from __future__ import annotations

from dataclasses import replace

from repnet_search.backbones import SMOOTH_PARTS, Activation, Block, BlockTable, Conv, SqueezeExcite
from repnet_search.errors import SpecError
from repnet_search.graph.frozen import emit_frozen_conv, emit_streamed_block
from repnet_search.graph.normed import emit_backbone_norm, emit_bare_conv
from repnet_search.graph.ops import Op, OpKind, Role, Trained
from repnet_search.graph.smooth import emit_smooth
from repnet_search.graph.squeeze import emit_channel_scale, emit_squeeze
from repnet_search.graph.tape import Tape
from repnet_search.spec.target import Schedule, Slopes


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
        slopes: Slopes = Slopes.EXACT,
    ) -> None:
        """Prepares to emit to a tape.

        Raises:
            SpecError: an int8 backbone, or a whole network to train, with one of `SMOOTH_PARTS`.
        """
        if tape.quantised:
            table.check_int8()
        if table.has_smooth_parts and trained is not Trained.DESIGN:
            raise SpecError(
                f"{table.name} has {SMOOTH_PARTS}, through which this version trains no whole network, but got to "
                f"train {trained.value}; use another backbone."
            )
        self.tape = tape
        self.table = table
        self.train_bias = train_bias
        self.trained = trained
        self.folded = folded
        self.schedule = schedule
        self.slopes = slopes

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
            value = emit_streamed_block(self.tape, index, block, source, train_bias=self.train_bias)
        else:
            value = self._chain(index, block, source, held=held or block.residual)
        if block.residual:
            value = self._residual(index, block, source, value)
        return self._max_pool(index, value) if block.max_pool else value

    def _streams(self, block: Block) -> bool:
        return self.schedule is Schedule.STREAMED and block.is_inverted_residual

    def _chain(self, index: int, block: Block, source: int, *, held: bool) -> int:
        value = source
        if block.pools_first:
            value = emit_squeeze(self.tape, source, place=f"block {index}", name=f"b{index}.pooled")
        end = len(block.convs) - 1
        for position, conv in enumerate(block.convs):
            squeeze = block.squeeze if block.squeeze is not None and block.squeeze.after == position else None
            # What the chain made itself is read by nobody else; its last value leaves the block.
            private = (value != source or not held) and position < end
            # The gradient of a branch is the shortcut's too.
            shared = block.residual and position == end
            value = self._conv_unit(
                conv,
                value,
                index,
                f"b{index}.{position}",
                f"backbone.blocks.{index}.convs.{position}",
                private=private,
                keeps_output=self._consumer_keeps(index, block, position),
                squeezed=squeeze is not None,
                shared=shared and squeeze is None,
            )
            if squeeze is not None:
                value = self._squeeze_excite(index, squeeze, value, shared=shared)
        return value

    def _squeeze_excite(self, index: int, squeeze: SqueezeExcite, source: int, *, shared: bool) -> int:
        """Emits a squeeze-and-excitation on a chain's value; a smooth activation in front keeps what it read."""
        tape, place, name = self.tape, f"block {index}", f"b{index}.squeeze"
        made_by = tape.ops[-1]
        remade = (made_by.reads[0], made_by.activation) if made_by.kind is OpKind.ACTIVATION else None
        gate = emit_squeeze(tape, source, place=place, name=f"{name}.means")
        for part, conv in (("reduce", squeeze.reduce), ("expand", squeeze.expand)):
            key = f"backbone.blocks.{index}.squeeze.{part}"
            gate = self._conv_unit(conv, gate, index, f"{name}.{part}", key, private=False, keeps_output=False)
        return emit_channel_scale(tape, source, gate, place=place, name=f"{name}d", remade=remade, shared=shared)

    def _consumer_keeps(self, index: int, block: Block, position: int) -> bool:
        """Whether a trainable convolution keeps this convolution's activated output anyway."""
        if self.trained is not Trained.EVERYTHING:
            return False
        return position < len(block.convs) - 1 or not (block.max_pool or index == self.table.last_block)

    def _conv_unit(
        self,
        conv: Conv,
        source: int,
        index: int,
        name: str,
        key: str,
        *,
        private: bool,
        keeps_output: bool,
        squeezed: bool = False,
        shared: bool = False,
    ) -> int:
        """Emits a convolution, its norm and its activation; a smooth one on the gradient path behind it.

        Args:
            conv: the convolution.
            source: what it reads.
            index: the block.
            name: of its output.
            key: of its parameters.
            private: whether a depthwise convolution may overwrite what it reads.
            keeps_output: whether the next convolution keeps its output anyway.
            squeezed: whether a squeeze-and-excitation reads its output, and keeps it.
            shared: whether its output's gradient is another value's too.
        """
        tape = self.tape
        tracked = tape.needs_gradient(source) or self.train_bias
        if not (conv.activation.is_smooth and tracked):
            return self._fused_unit(
                conv, source, index, name, key, private=private, keeps_output=keeps_output, kept=squeezed and tracked
            )
        slopes = Slopes.EXACT if squeezed else self.slopes
        plain = replace(conv, activation=Activation.NONE)
        kept = slopes is Slopes.EXACT
        linear = self._fused_unit(
            plain, source, index, f"{name} linear", key, private=private, keeps_output=keeps_output, kept=kept
        )
        return emit_smooth(
            tape, linear, conv.activation, place=f"block {index}", name=name, slopes=slopes, shares_gradient=shared
        )

    def _fused_unit(
        self, conv: Conv, source: int, index: int, name: str, key: str, *, private: bool, keeps_output: bool, kept: bool
    ) -> int:
        """Emits a convolution with norm and activation; `kept` is whether its output stays for the backward pass."""
        tape, place = self.tape, f"block {index}"
        if self.folded or not conv.norm_key:
            # A smaller output that is kept would keep all of the storage that it begins in.
            in_place = private and conv.is_depthwise and not (kept and conv.stride > 1)
            return emit_frozen_conv(
                tape,
                conv,
                source,
                place=place,
                name=name,
                key=key,
                train_bias=self.train_bias,
                overwrites=in_place and self.schedule is not Schedule.LAYER,
            )
        everything = self.trained is Trained.EVERYTHING
        convolved = emit_bare_conv(tape, conv, source, place=place, name=name, key=key, trains=everything)
        return emit_backbone_norm(
            tape,
            conv,
            convolved,
            place=place,
            name=name,
            key=key,
            trains=self.trained is not Trained.DESIGN,
            train_bias=self.train_bias,
            keeps_output=keeps_output,
        )

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
                keeps_output=False,
            )
        output = tape.in_place(f"b{index}", branch)
        needs = tape.needs_gradient(branch) or tape.needs_gradient(shortcut)
        apart = needs and block.activation.is_smooth
        op = Op(
            OpKind.RESIDUAL_ADD,
            f"block {index}",
            (shortcut, branch),
            (output,),
            layer=block,
            activation=Activation.NONE if apart else block.activation,
            output_needs_gradient=needs,
        )
        if needs:
            tape.track(output)
            consumer = self.trained is Trained.EVERYTHING and index < self.table.last_block
            if tape.quantised or (block.activation.is_clamp and not consumer):
                op.writes += (tape.mask(f"b{index} mask", tape.tensors[output].shape[1:]),)
        tape.emit(op, self._residual_backward if needs else None)
        if not apart:
            return output
        place, name = f"block {index}", f"b{index} activated"
        return emit_smooth(
            tape, output, block.activation, place=place, name=name, slopes=self.slopes, shares_gradient=False
        )

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
