"""A Rep-Net module and its activation connector, as operators of the training step.

average pool → [conv, norm, ReLU] × depth → 1×1 conv → norm without scale → resize → exchange. The exchange's γ needs no
kept s for its gradient: resizing is linear and per channel, so ⟨g, R n⟩ = ⟨Rᵀg, n⟩, and the norm's output n follows
from its kept input and statistics.
"""

from __future__ import annotations

from functools import partial

from repnet_search.backbones import Activation
from repnet_search.graph.ops import Op, OpKind, Role
from repnet_search.graph.tape import Tape
from repnet_search.spec.design import Exchange, Norm
from repnet_search.spec.resolve import ModuleShape


def emit_module(
    tape: Tape,
    module: ModuleShape,
    *,
    index: int,
    source: int,
    feature: int,
    quantised: bool,
    whole_gradients: bool,
) -> tuple[int, int]:
    """Emits module `index` on `source` and its exchange with b = `feature`; returns the new b and r_j.

    Args:
        tape: what is emitted to.
        module: the module's shape.
        index: its number, counted from 0.
        source: the tensor that it reads: the stream or its block's input.
        feature: the running backbone feature b.
        quantised: whether b is requantised after a write, with a clamp mask.
        whole_gradients: whether an update needs a tensor's whole gradient as a live buffer.
    """
    return _ModuleEmitter(tape, module, index=index, quantised=quantised, whole_gradients=whole_gradients).emit(
        source, feature
    )


class _ModuleEmitter:
    def __init__(self, tape: Tape, module: ModuleShape, *, index: int, quantised: bool, whole_gradients: bool) -> None:
        self.tape = tape
        self.module = module
        self.place = f"module {index + 1}"
        self.name = f"m{index + 1}"
        self.quantised = quantised
        self.whole_gradients = whole_gradients

    def emit(self, source: int, feature: int) -> tuple[int, int]:
        module = self.module
        value = self._average_pool(source) if module.pool > 1 else source
        channels = module.in_channels
        for layer, groups in enumerate(module.groups):
            value = self._conv(
                value, channels, module.mid_channels, f"conv{layer + 1}", groups=groups, kernel=module.kernel
            )
            value = self._norm(value, module.mid_channels, module.mid_norm_groups, layer=layer)
            channels = module.mid_channels
        raw = self._conv(value, channels, module.out_channels, "conv1x1", groups=1, kernel=1)
        value = self._norm(raw, module.out_channels, module.out_norm_groups, layer=None)
        # What γ's gradient reads: the norm's input and statistics, or without a norm the convolution's output.
        kept = (raw,) if module.norm is Norm.NONE else (raw, self.tape.ops[-1].writes[1])
        output = self._resize(value) if module.resizes else value
        return self._exchange(output, value, kept, feature)

    def _average_pool(self, source: int) -> int:
        tape, module = self.tape, self.module
        pooled = tape.tensor(f"{self.name}.pooled", module.in_channels * module.pooled_size**2, Role.REPNET)
        needs = tape.needs_gradient(source)
        tape.emit(Op(OpKind.AVERAGE_POOL, self.place, (source,), (pooled,), input_needs_gradient=needs))
        if needs:
            tape.track(pooled)
            tape.on_backward(partial(self._spread, OpKind.AVERAGE_POOL_BACKWARD, source, pooled))
        return pooled

    def _spread(self, kind: OpKind, source: int, output: int) -> None:
        """The backward pass of an operator that keeps nothing: the output's gradient becomes the input's."""
        gradient = self._gradient(output)
        target, also_read = self.tape.contribute(source)
        self.tape.emit(Op(kind, self.place, (gradient, *also_read), (target,)))

    def _conv(self, source: int, channels: int, out_channels: int, name: str, *, groups: int, kernel: int) -> int:
        tape, module = self.tape, self.module
        pixels = module.pooled_size**2
        weights = out_channels * (channels // groups) * kernel**2
        has_bias = module.norm is Norm.NONE
        output = tape.tensor(f"{self.name}.{name}", out_channels * pixels, Role.REPNET)
        standardised = weights if module.weight_standardisation and weights > out_channels else 0
        op = Op(
            OpKind.CONV,
            self.place,
            (source,),
            (output,),
            trainable=tape.train(weights, out_channels) if has_bias else tape.train(weights),
            weight_trains=True,
            input_needs_gradient=tape.needs_gradient(source),
            output_needs_gradient=True,
            activation=Activation.RELU if has_bias and name != "conv1x1" else Activation.NONE,
            standardised_weights=standardised,
            standardised_channels=out_channels if standardised else 0,
            macs=tape.batch * weights * pixels,
        )
        if standardised:
            op.writes += (tape.buffer(f"{self.name}.{name} standardised weight", weights, Role.WEIGHT),)
        tape.track(output)
        tape.emit(op)
        tape.on_backward(partial(self._conv_backward, op))
        return output

    def _conv_backward(self, op: Op) -> None:
        """The input's gradient first, then the weight's, which updates it (or is added to the accumulated one)."""
        tape = self.tape
        source, output = op.reads[0], op.writes[0]
        read: tuple[int, ...] = (source, self._gradient(output))
        if op.activation is Activation.RELU:
            read += (output,)
        written: tuple[int, ...] = ()
        if op.input_needs_gradient:
            target, also_read = tape.contribute(source)
            written, read = (target,), read + also_read
        # The standardised weight, then the gradient with respect to it, take turns in one buffer.
        if self.whole_gradients or op.standardised_weights:
            written += (tape.buffer(f"weight gradient at {op.place}", op.trainable[0], Role.WEIGHT_GRADIENT),)
        macs = op.macs * (2 if op.input_needs_gradient else 1)
        tape.emit(Op(OpKind.CONV_BACKWARD, op.place, read, written, trainable=op.trainable, macs=macs))

    def _norm(self, source: int, channels: int, groups: int, *, layer: int | None) -> int:
        """An inner norm has scale and bias and ReLU in place; the last one has a bias alone."""
        tape, module = self.tape, self.module
        if module.norm is Norm.NONE:
            return source
        inner = layer is not None
        name = f"{self.name}.norm{layer + 1}" if layer is not None else f"{self.name}.norm"
        output = tape.tensor(name, channels * module.pooled_size**2, Role.REPNET)
        if module.norm is Norm.BATCH:
            statistics = tape.buffer(f"{name} statistics", 2 * channels, Role.STATISTICS)
            tape.norm_state_elements += 2 * channels
        else:
            statistics = tape.tensor(f"{name} statistics", 2 * groups, Role.STATISTICS)
        op = Op(
            OpKind.NORM,
            self.place,
            (source,),
            (output, statistics),
            trainable=tape.train(channels, channels) if inner else tape.train(channels),
            input_needs_gradient=True,
            output_needs_gradient=True,
            activation=Activation.RELU if inner else Activation.NONE,
        )
        tape.track(output)
        tape.emit(op)
        tape.on_backward(partial(self._norm_backward, op))
        return output

    def _norm_backward(self, op: Op) -> None:
        output, statistics = op.writes
        read: tuple[int, ...] = (op.reads[0], statistics, self._gradient(output))
        if op.activation is Activation.RELU:
            read += (output,)
        target, also_read = self.tape.contribute(op.reads[0])
        written: tuple[int, ...] = (target,)
        if self.whole_gradients:
            written += (self.tape.buffer(f"weight gradient at {op.place}", max(op.trainable), Role.WEIGHT_GRADIENT),)
        self.tape.emit(Op(OpKind.NORM_BACKWARD, op.place, read + also_read, written, trainable=op.trainable))

    def _resize(self, source: int) -> int:
        tape, module = self.tape, self.module
        output = tape.tensor(f"{self.name}.s", module.out_channels * module.out_size**2, Role.REPNET)
        tape.track(output)
        tape.emit(Op(OpKind.RESIZE, self.place, (source,), (output,), input_needs_gradient=True))
        return output

    def _exchange(self, output: int, normed: int, kept: tuple[int, ...], feature: int) -> tuple[int, int]:
        """Writes b ← b + γ⊙s in place in b, or r ← s + b in place in s; returns b and r_j."""
        tape = self.tape
        exchange = self.module.exchange
        if not exchange.writes:
            stream = tape.in_place(f"r{self.name[1:]}", output)
            tape.track(stream)
            tape.emit(Op(OpKind.EXCHANGE, self.place, (feature, output), (stream,), output_needs_gradient=True))
            tape.on_backward(partial(self._read_backward, stream, output, normed, feature))
            return feature, stream
        merged = tape.in_place(f"{tape.tensors[feature].name} merged", feature)
        op = Op(
            OpKind.EXCHANGE,
            self.place,
            (feature, output),
            (merged,),
            trainable=tape.train(self.module.out_channels),
            weight_trains=True,
            output_needs_gradient=True,
        )
        tape.track(merged)
        if self.quantised:
            op.writes += (tape.mask(merged),)
        tape.emit(op)
        tape.on_backward(partial(self._write_backward, op, normed, kept))
        return merged, merged if exchange is Exchange.BOTH else output

    def _write_backward(self, op: Op, normed: int, kept: tuple[int, ...]) -> None:
        """γ's and the norm output's gradient from b's; then what the stream passes back to s."""
        tape = self.tape
        feature, output = op.reads
        merged, *masks = op.writes
        gradient = self._gradient(merged)
        of_stream = tape.gradient(output)
        target, also_read = tape.contribute(normed)
        written: tuple[int, ...] = (target,)
        if self.whole_gradients:
            written += (tape.buffer(f"weight gradient at {op.place}", op.trainable[0], Role.WEIGHT_GRADIENT),)
        read = (gradient, *masks, *kept, *also_read)
        tape.emit(Op(OpKind.EXCHANGE_BACKWARD, op.place, read, written, trainable=op.trainable))
        if output != normed and of_stream is not None:
            tape.emit(Op(OpKind.RESIZE_BACKWARD, op.place, (of_stream, target), (target,)))
        tape.pass_on(gradient, feature, op.place)

    def _read_backward(self, stream: int, output: int, normed: int, feature: int) -> None:
        """R = s + b hands its gradient to s, through the resize, and to b where b is on the gradient path."""
        tape = self.tape
        gradient = self._gradient(stream)
        if output == normed:
            tape.pass_on(gradient, normed, self.place)
        else:
            target, also_read = tape.contribute(normed)
            tape.emit(Op(OpKind.RESIZE_BACKWARD, self.place, (gradient, *also_read), (target,)))
        if tape.needs_gradient(feature):
            tape.pass_on(gradient, feature, self.place)

    def _gradient(self, of: int) -> int:
        gradient = self.tape.gradient(of)
        assert gradient is not None, f"{self.tape.tensors[of].name} has no gradient"
        return gradient
