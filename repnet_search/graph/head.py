"""The head and the loss as operators of the training step: global average pooling, linear, cross-entropy."""

from __future__ import annotations

from repnet_search.graph.ops import Op, OpKind, Role
from repnet_search.graph.tape import Tape


def emit_head(tape: Tape, sources: tuple[int, ...], *, classes: int) -> None:
    """Emits the head on b, and on r_n where the last connector does not write; then the loss and its gradient."""
    _HeadEmitter(tape, classes).emit(sources)


class _HeadEmitter:
    def __init__(self, tape: Tape, classes: int) -> None:
        self.tape = tape
        self.classes = classes

    def emit(self, sources: tuple[int, ...]) -> None:
        logits = self._linear(self._global_pool(sources))
        tape = self.tape
        log_softmax = tape.tensor("log-softmax", (self.classes,), Role.LOSS)
        loss = tape.buffer("loss", (1,), Role.LOSS)
        tape.emit(Op(OpKind.LOSS, "head", (logits,), (log_softmax, loss)), self._loss_backward)

    def _global_pool(self, sources: tuple[int, ...]) -> int:
        tape = self.tape
        channels = sum(tape.tensors[source].shape[1] for source in sources)
        pooled = tape.tensor("pooled features", (channels,), Role.BACKBONE)
        needs = any(tape.needs_gradient(source) for source in sources)
        op = Op(OpKind.GLOBAL_POOL, "head", sources, (pooled,), output_needs_gradient=needs)
        if needs:
            tape.track(pooled)
        tape.emit(op, self._global_pool_backward if needs else None)
        return pooled

    def _global_pool_backward(self, op: Op) -> None:
        tape = self.tape
        gradient = tape.gradient(op.writes[0])
        written = tuple(tape.contribute(source)[0] for source in op.reads if tape.needs_gradient(source))
        tape.emit(Op(OpKind.GLOBAL_POOL_BACKWARD, "head", (gradient,), written))

    def _linear(self, pooled: int) -> int:
        tape = self.tape
        channels = tape.tensors[pooled].shape[1]
        logits = tape.tensor("logits", (self.classes,), Role.LOSS)
        op = Op(
            OpKind.LINEAR,
            "head",
            (pooled,),
            (logits,),
            parameters=(
                tape.parameter("head.weight", self.classes * channels, trains=True),
                tape.parameter("head.bias", self.classes, trains=True),
            ),
            input_needs_gradient=tape.needs_gradient(pooled),
            output_needs_gradient=True,
            macs=tape.batch * self.classes * channels,
        )
        tape.emit(op, self._linear_backward)
        return logits

    def _linear_backward(self, op: Op) -> None:
        """The input's gradient first, then the weight's, which updates it (or is added to the accumulated one)."""
        tape = self.tape
        pooled, logits = op.reads[0], op.writes[0]
        written: tuple[int, ...] = ()
        if op.input_needs_gradient:
            written = (tape.contribute(pooled)[0],)
        macs = op.macs * (2 if op.input_needs_gradient else 1)
        tape.emit(
            Op(
                OpKind.LINEAR_BACKWARD,
                "head",
                (tape.gradient(logits), pooled),
                written + tape.weight_gradient(op),
                parameters=op.parameters,
                macs=macs,
            )
        )

    def _loss_backward(self, op: Op) -> None:
        gradient, _ = self.tape.contribute(op.reads[0])
        self.tape.emit(Op(OpKind.LOSS_BACKWARD, "head", (op.writes[0],), (gradient,)))
