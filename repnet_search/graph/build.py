"""From a resolved design to its training step.

The forward pass runs in the design's order: r_0, then at every block the block itself, its module, its exchange; then
head and loss. The backward pass is its exact reverse. What the step keeps for the backward pass is what a lean runtime
needs (memory-model: trainable convolutions and linears keep their input, norms their input and statistics, ReLU its
output, a frozen ReLU6 one bit per element, average pooling and resizing nothing).
"""

from __future__ import annotations

from functools import partial

from repnet_search.backbones import Activation, Block, Conv
from repnet_search.errors import SpecError
from repnet_search.graph.module import emit_module
from repnet_search.graph.ops import Op, OpKind, Role, TrainingGraph
from repnet_search.graph.tape import FLOAT_BYTES, Tape
from repnet_search.spec.design import Norm, Optimizer
from repnet_search.spec.resolve import IMAGE_CHANNELS, ResolvedDesign


def build_graph(resolved: ResolvedDesign, *, classes: int, batch: int = 1) -> TrainingGraph:
    """Returns one training step of a design at one micro-batch.

    Args:
        resolved: the design in its explicit form.
        classes: outputs of the head.
        batch: images of a micro-batch; what the recipe accumulates over does not enlarge it.

    Raises:
        SpecError: a batch below 1, fewer than 2 classes, or a batch norm at micro-batch 1.
    """
    if batch < 1:
        raise SpecError(f"A batch must hold at least 1 image, but got {batch}.")
    if classes < 2:
        raise SpecError(f"A task needs at least 2 classes, but got {classes}.")
    _check_norms(resolved, batch)
    return _StepBuilder(resolved, classes=classes, batch=batch).build()


def _check_norms(resolved: ResolvedDesign, batch: int) -> None:
    for index, module in enumerate(resolved.modules):
        if module.norm is Norm.BATCH and batch == 1:
            raise SpecError(
                f"connectors[{index}] has norm 'batch', which couples the images of a batch, but recipes train at "
                "micro-batch 1; use norm 'group' or 'layer'."
            )


class _StepBuilder:
    """Emits one step; the running backbone feature b and the stream r are tensor indices."""

    def __init__(self, resolved: ResolvedDesign, *, classes: int, batch: int) -> None:
        design = resolved.design
        self.resolved = resolved
        self.classes = classes
        self.quantised = design.activation_bits == 8
        self.train_bias = design.train_bias
        self.tape = Tape(batch=batch, backbone_bytes=1 if self.quantised else FLOAT_BYTES)
        recipe = design.recipe
        # A rule that divides by the gradient's root mean square needs a tensor's whole gradient before it updates it;
        # where gradients are accumulated they are there anyway.
        self.whole_gradients = recipe.optimizer is Optimizer.NORMALISED_SGD and recipe.accumulate == 1

    def build(self) -> TrainingGraph:
        tape = self.tape
        resolution = self.resolved.design.resolution
        pixels = IMAGE_CHANNELS * resolution**2
        image = tape.tensor("image", pixels, Role.IMAGE, element_bytes=1)
        modules = {module.after_block: index for index, module in enumerate(self.resolved.modules)}
        stream = self._image_pool(image) if modules else image
        feature, size = image, resolution
        for index, block in enumerate(self.resolved.table.blocks):
            block_input = feature
            feature = self._block(index, block, feature, size)
            size = block.output_size(size)
            if index in modules:
                feature, stream = emit_module(
                    tape,
                    self.resolved.modules[modules[index]],
                    index=modules[index],
                    source=block_input if self.resolved.modules[modules[index]].reads_block_input else stream,
                    feature=feature,
                    quantised=self.quantised,
                    whole_gradients=self.whole_gradients,
                )
        self._head(feature, stream if self.resolved.head_reads_stream else None)
        forward_ops = len(tape.ops)
        tape.run_backward()
        return TrainingGraph(
            tape.tensors, tape.ops, forward_ops, tape.batch, tuple(tape.parameters), tape.norm_state_elements
        )

    def _image_pool(self, image: int) -> int:
        """r_0, made before B_0 so that the image need not outlive the stem."""
        tape = self.tape
        module = self.resolved.modules[0]
        elements = IMAGE_CHANNELS * module.in_size**2
        pooled = tape.tensor("r0", elements, Role.REPNET, element_bytes=tape.backbone_bytes)
        tape.emit(Op(OpKind.IMAGE_POOL, "image", (image,), (pooled,)))
        return pooled

    def _block(self, index: int, block: Block, source: int, size: int) -> int:
        place = f"block {index}"
        value = source
        for position, conv in enumerate(block.convs):
            size = conv.output_size(size)
            value = self._frozen_conv(conv, value, size, place, f"b{index}.{position}")
        if not block.residual:
            return value
        return self._residual_add(source, value, place, f"b{index}")

    def _frozen_conv(self, conv: Conv, source: int, size: int, place: str, name: str) -> int:
        tape = self.tape
        elements = conv.out_channels * size * size
        output = tape.tensor(name, elements, Role.BACKBONE, element_bytes=tape.backbone_bytes)
        through = tape.needs_gradient(source)
        op = Op(
            OpKind.CONV,
            place,
            (source,),
            (output,),
            activation=conv.activation,
            input_needs_gradient=through,
            output_needs_gradient=through or self.train_bias,
            trainable=tape.train(conv.out_channels) if self.train_bias else (),
            macs=tape.batch * conv.weight_count * size * size,
        )
        if op.output_needs_gradient:
            tape.track(output)
            if conv.activation is not Activation.NONE or self.quantised:
                op.writes += (tape.mask(output),)
            tape.on_backward(partial(self._frozen_conv_backward, op))
        tape.emit(op)
        return output

    def _frozen_conv_backward(self, op: Op) -> None:
        """The input's gradient from the output's, the weight and the mask; the bias from the same."""
        tape = self.tape
        output, *masks = op.writes
        gradient = tape.gradient(output)
        assert gradient is not None
        written: tuple[int, ...] = ()
        read: tuple[int, ...] = (gradient, *masks)
        if op.input_needs_gradient:
            target, also_read = tape.contribute(op.reads[0])
            written, read = (target,), read + also_read
        if op.trainable and self.whole_gradients:
            written += (tape.buffer(f"weight gradient at {op.place}", op.trainable[0], Role.WEIGHT_GRADIENT),)
        tape.emit(
            Op(
                OpKind.CONV_BACKWARD,
                op.place,
                read,
                written,
                trainable=op.trainable,
                macs=op.macs if op.input_needs_gradient else 0,
            )
        )

    def _residual_add(self, shortcut: int, branch: int, place: str, name: str) -> int:
        """Adds into the branch, which nobody reads later; the shortcut may still be read by a module."""
        tape = self.tape
        output = tape.in_place(name, branch)
        needs = tape.needs_gradient(branch)
        op = Op(OpKind.RESIDUAL_ADD, place, (shortcut, branch), (output,), output_needs_gradient=needs)
        if needs:
            tape.track(output)
            if self.quantised:
                op.writes += (tape.mask(output),)
            tape.on_backward(partial(self._residual_add_backward, op))
        tape.emit(op)
        return output

    def _residual_add_backward(self, op: Op) -> None:
        tape = self.tape
        shortcut, branch = op.reads
        output, *masks = op.writes
        gradient = tape.gradient(output)
        assert gradient is not None
        if masks:
            tape.emit(Op(OpKind.RESIDUAL_ADD_BACKWARD, op.place, (gradient, *masks), (gradient,)))
        tape.pass_on(gradient, branch, op.place)
        if tape.needs_gradient(shortcut):
            tape.pass_on(gradient, shortcut, op.place)

    def _head(self, feature: int, stream: int | None) -> None:
        """Global average pooling of b, and of r_n where the last connector does not write; linear; loss."""
        tape = self.tape
        sources = (feature,) if stream is None else (feature, stream)
        channels = self.resolved.feature_channels
        pooled = tape.tensor("pooled features", channels, Role.BACKBONE)
        needs = any(tape.needs_gradient(source) for source in sources)
        tape.emit(Op(OpKind.GLOBAL_POOL, "head", sources, (pooled,), output_needs_gradient=needs))
        if needs:
            tape.track(pooled)
            tape.on_backward(partial(self._global_pool_backward, sources, pooled))
        logits = tape.tensor("logits", self.classes, Role.LOSS)
        trainable = tape.train(self.classes * channels, self.classes)
        macs = tape.batch * self.classes * channels
        tape.emit(
            Op(
                OpKind.LINEAR,
                "head",
                (pooled,),
                (logits,),
                trainable=trainable,
                weight_trains=True,
                input_needs_gradient=needs,
                output_needs_gradient=True,
                macs=macs,
            )
        )
        tape.on_backward(partial(self._linear_backward, pooled, logits, trainable, macs))
        log_softmax = tape.tensor("log-softmax", self.classes, Role.LOSS)
        loss = tape.buffer("loss", 1, Role.LOSS)
        tape.emit(Op(OpKind.LOSS, "head", (logits,), (log_softmax, loss)))
        tape.on_backward(partial(self._loss_backward, logits, log_softmax))

    def _loss_backward(self, logits: int, log_softmax: int) -> None:
        gradient, _ = self.tape.contribute(logits)
        self.tape.emit(Op(OpKind.LOSS_BACKWARD, "head", (log_softmax,), (gradient,)))

    def _linear_backward(self, pooled: int, logits: int, trainable: tuple[int, ...], macs: int) -> None:
        tape = self.tape
        gradient = tape.gradient(logits)
        assert gradient is not None
        written: tuple[int, ...] = ()
        needs = tape.needs_gradient(pooled)
        if needs:
            target, _ = tape.contribute(pooled)
            written = (target,)
        if self.whole_gradients:
            written += (tape.buffer("weight gradient at head", max(trainable), Role.WEIGHT_GRADIENT),)
        tape.emit(
            Op(
                OpKind.LINEAR_BACKWARD,
                "head",
                (pooled, gradient),
                written,
                trainable=trainable,
                macs=macs * (2 if needs else 1),
            )
        )

    def _global_pool_backward(self, sources: tuple[int, ...], pooled: int) -> None:
        tape = self.tape
        gradient = tape.gradient(pooled)
        assert gradient is not None
        written = tuple(tape.contribute(source)[0] for source in sources if tape.needs_gradient(source))
        tape.emit(Op(OpKind.GLOBAL_POOL_BACKWARD, "head", (gradient,), written))
