"""A Rep-Net module and its activation connector, as operators of the training step.

average pool → [conv, norm, ReLU] × depth → 1×1 conv → norm without scale → resize → exchange. The exchange's γ needs no
kept s for its gradient: resizing is linear and per channel, so ⟨g, R n⟩ = ⟨Rᵀg, n⟩, and the norm's output n follows
from its kept input and statistics.
"""

from __future__ import annotations

from functools import partial

from repnet_search.backbones import Activation, Conv
from repnet_search.graph.ops import NormLayer, Op, OpKind, Role
from repnet_search.graph.tape import Tape
from repnet_search.spec.design import Exchange, Norm
from repnet_search.spec.shapes import ModuleShape


def emit_module(tape: Tape, module: ModuleShape, *, index: int, source: int, feature: int) -> tuple[int, int]:
    """Emits module `index` on `source` and its exchange with b = `feature`; returns the new b and r_j.

    Args:
        tape: what is emitted to.
        module: the module's shape.
        index: its number, counted from 0.
        source: the tensor that it reads: the stream or its block's input.
        feature: the running backbone feature b.
    """
    return _ModuleEmitter(tape, module, index=index).emit(source, feature)


class _ModuleEmitter:
    def __init__(self, tape: Tape, module: ModuleShape, *, index: int) -> None:
        self.tape = tape
        self.module = module
        self.index = index
        self.place = f"module {index + 1}"
        self.name = f"m{index + 1}"
        self.layers = 0

    def emit(self, source: int, feature: int) -> tuple[int, int]:
        module = self.module
        value = self._average_pool(source) if module.pool > 1 else source
        channels = module.in_channels
        for layer, groups in enumerate(module.groups):
            value = self._conv(
                value, channels, module.mid_channels, f"conv{layer + 1}", groups=groups, kernel=module.kernel
            )
            value = self._norm(value, module.mid_channels, module.mid_norm_groups, layer=layer)
            self.layers += 1  # the ReLU, which is fused with the norm or the convolution
            channels = module.mid_channels
        raw = self._conv(value, channels, module.out_channels, "conv1x1", groups=1, kernel=1)
        value = self._norm(raw, module.out_channels, module.out_norm_groups, layer=None)
        # What γ's gradient reads: the norm's input and statistics, or without a norm the convolution's output.
        kept = (raw,) if module.norm is Norm.NONE else (raw, self.tape.ops[-1].writes[1])
        output = self._resize(value) if module.resizes else value
        return self._exchange(output, value, kept, feature)

    def _next_layer(self) -> str:
        """Returns the name of the next layer in the module's Sequential."""
        self.layers += 1
        return f"repnet.{self.index}.layers.{self.layers - 1}"

    def _average_pool(self, source: int) -> int:
        tape, module = self.tape, self.module
        shape = (module.in_channels, module.pooled_size, module.pooled_size)
        pooled = tape.tensor(f"{self.name}.pooled", shape, Role.REPNET)
        needs = tape.needs_gradient(source)
        op = Op(
            OpKind.AVERAGE_POOL,
            self.place,
            (source,),
            (pooled,),
            layer=module.pool,
            input_needs_gradient=needs,
            output_needs_gradient=needs,
        )
        if needs:
            tape.track(pooled)
        tape.emit(op, self._average_pool_backward if needs else None)
        return pooled

    def _average_pool_backward(self, op: Op) -> None:
        """The output's gradient is spread over the windows; nothing was kept."""
        tape = self.tape
        target, also_read = tape.contribute(op.reads[0])
        read = (tape.gradient(op.writes[0]), *also_read)
        tape.emit(Op(OpKind.AVERAGE_POOL_BACKWARD, self.place, read, (target,), layer=op.layer))

    def _conv(self, source: int, channels: int, out_channels: int, name: str, *, groups: int, kernel: int) -> int:
        tape, module = self.tape, self.module
        size = module.pooled_size
        key = self._next_layer()
        has_bias = module.norm is Norm.NONE
        activation = Activation.RELU if has_bias and name != "conv1x1" else Activation.NONE
        conv = Conv(key, "", channels, out_channels, kernel, 1, groups, activation)
        weight = tape.parameter(f"{key}.weight", conv.weight_count, trains=True)
        bias = (tape.parameter(f"{key}.bias", out_channels, trains=True),) if has_bias else ()
        output = tape.tensor(f"{self.name}.{name}", (out_channels, size, size), Role.REPNET)
        # A single weight per output channel has no variance: it is left as it is.
        standardised = module.weight_standardisation and conv.weight_count > out_channels
        op = Op(
            OpKind.CONV,
            self.place,
            (source,),
            (output,),
            layer=conv,
            parameters=(weight, *bias),
            input_needs_gradient=tape.needs_gradient(source),
            output_needs_gradient=True,
            activation=activation,
            standardised=standardised,
            macs=tape.batch * conv.weight_count * size**2,
        )
        if standardised:
            op.writes += (tape.buffer(f"{self.name}.{name} standardised weight", (conv.weight_count,), Role.WEIGHT),)
        tape.track(output)
        tape.emit(op, self._conv_backward)
        return output

    def _conv_backward(self, op: Op) -> None:
        """The input's gradient first, then the weight's, which updates it (or is added to the accumulated one)."""
        tape = self.tape
        source, output = op.reads[0], op.writes[0]
        read: tuple[int, ...] = (tape.gradient(output), source)
        if op.activation is Activation.RELU:
            read += (output,)
        written: tuple[int, ...] = ()
        if op.input_needs_gradient:
            target, also_read = tape.contribute(source)
            written, read = (target,), read + also_read
        workspace = tape.weight_gradient(op)
        if op.standardised and not workspace:
            # The standardised weight, then the gradient with respect to it, take turns in one buffer.
            elements = op.parameters[0].elements
            workspace = (tape.buffer(f"weight gradient at {op.place}", (elements,), Role.WEIGHT_GRADIENT),)
        macs = op.macs * (2 if op.input_needs_gradient else 1)
        tape.emit(
            Op(
                OpKind.CONV_BACKWARD,
                op.place,
                read,
                written + workspace,
                layer=op.layer,
                parameters=op.parameters,
                macs=macs,
            )
        )

    def _norm(self, source: int, channels: int, groups: int, *, layer: int | None) -> int:
        """An inner norm has scale and bias and ReLU in place; the last one has a bias alone."""
        tape, module = self.tape, self.module
        if module.norm is Norm.NONE:
            return source
        key = self._next_layer()
        inner = layer is not None
        name = f"{self.name}.norm{layer + 1}" if layer is not None else f"{self.name}.norm"
        output = tape.tensor(name, tape.tensors[source].shape[1:], Role.REPNET)
        if module.norm is Norm.BATCH:
            statistics = tape.buffer(f"{name} statistics", (2 * channels,), Role.STATISTICS)
            tape.norm_state_elements += 2 * channels
        else:
            statistics = tape.tensor(f"{name} statistics", (2 * groups,), Role.STATISTICS)
        names = ("weight", "bias") if inner else ("bias",)
        op = Op(
            OpKind.NORM,
            self.place,
            (source,),
            (output, statistics),
            layer=NormLayer(module.norm, groups, channels),
            parameters=tuple(tape.parameter(f"{key}.{part}", channels, trains=True) for part in names),
            input_needs_gradient=True,
            output_needs_gradient=True,
            activation=Activation.RELU if inner else Activation.NONE,
        )
        tape.track(output)
        tape.emit(op, self._norm_backward)
        return output

    def _norm_backward(self, op: Op) -> None:
        tape = self.tape
        output, statistics = op.writes
        read: tuple[int, ...] = (tape.gradient(output), op.reads[0], statistics)
        if op.activation is Activation.RELU:
            read += (output,)
        target, also_read = tape.contribute(op.reads[0])
        tape.emit(
            Op(
                OpKind.NORM_BACKWARD,
                op.place,
                read + also_read,
                (target, *tape.weight_gradient(op)),
                layer=op.layer,
                parameters=op.parameters,
            )
        )

    def _resize(self, source: int) -> int:
        tape, module = self.tape, self.module
        output = tape.tensor(f"{self.name}.s", (module.out_channels, module.out_size, module.out_size), Role.REPNET)
        tape.track(output)
        tape.emit(
            Op(
                OpKind.RESIZE,
                self.place,
                (source,),
                (output,),
                input_needs_gradient=True,
                output_needs_gradient=True,
            )
        )
        return output

    def _exchange(self, output: int, normed: int, kept: tuple[int, ...], feature: int) -> tuple[int, int]:
        """Writes b ← b + γ⊙s in place in b, or r ← s + b in place in s; returns b and r_j."""
        tape, exchange = self.tape, self.module.exchange
        op = Op(OpKind.EXCHANGE, self.place, (feature, output), (), layer=exchange, output_needs_gradient=True)
        op.input_needs_gradient = tape.needs_gradient(feature)
        if not exchange.writes:
            stream = tape.in_place(f"r{self.index + 1}", output)
            tape.track(stream)
            op.writes = (stream,)
            tape.emit(op, partial(self._read_backward, normed))
            return feature, stream
        merged = tape.in_place(f"{tape.tensors[feature].name} merged", feature)
        op.writes = (merged,)
        op.parameters = (tape.parameter(f"gammas.{self.index}", self.module.out_channels, trains=True),)
        tape.track(merged)
        if tape.quantised:
            op.writes += (tape.mask(f"{tape.tensors[merged].name} mask", tape.tensors[merged].shape[1:]),)
        tape.emit(op, partial(self._write_backward, normed, kept))
        return merged, merged if exchange is Exchange.BOTH else output

    def _write_backward(self, normed: int, kept: tuple[int, ...], op: Op) -> None:
        """γ's and the norm output's gradient from b's; then what the stream passes back to s."""
        tape = self.tape
        feature, output = op.reads
        merged, *masks = op.writes
        gradient = tape.gradient(merged)
        of_stream = tape.gradient(output) if tape.has_gradient(output) else None
        target, also_read = tape.contribute(normed)
        # What the sum's clamp lets through is b's gradient too, so it is masked in place.
        masked = (gradient,) if masks else ()
        tape.emit(
            Op(
                OpKind.EXCHANGE_BACKWARD,
                op.place,
                (gradient, *masks, *kept, *also_read),
                (target, *masked, *tape.weight_gradient(op)),
                layer=op.layer,
                parameters=op.parameters,
            )
        )
        if output != normed and of_stream is not None:
            tape.emit(Op(OpKind.RESIZE_BACKWARD, op.place, (of_stream, target), (target,)))
        if tape.needs_gradient(feature):
            tape.pass_on(gradient, feature, op.place)

    def _read_backward(self, normed: int, op: Op) -> None:
        """R = s + b hands its gradient to s, through the resize, and to b where b is on the gradient path."""
        tape = self.tape
        feature, output = op.reads
        gradient = tape.gradient(op.writes[0])
        if output == normed:
            tape.pass_on(gradient, normed, op.place)
        else:
            target, also_read = tape.contribute(normed)
            tape.emit(Op(OpKind.RESIZE_BACKWARD, op.place, (gradient, *also_read), (target,)))
        if tape.needs_gradient(feature):
            tape.pass_on(gradient, feature, op.place)
