"""Compares a training step that runs inside its planned arena with stock autograd."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from repnet_search.graph import Schedule, TrainingGraph, build_graph
from repnet_search.measure.codes import watch_codes
from repnet_search.measure.executor import ArenaExecutor
from repnet_search.measure.kinks import Sides, count_flips, watch_sides
from repnet_search.memory import Arena, compute_liveness, place_buffers
from repnet_search.models.calibration import Calibration, calibrate
from repnet_search.models.quantised import QuantisedBackbone
from repnet_search.models.repnet import Prefix, RepNet
from repnet_search.models.weights import BackboneWeights
from repnet_search.spec import ResolvedDesign
from repnet_search.training.update import UpdateRule

GRADIENT_TOLERANCE = 1e-4
"""Of a parameter's largest gradient: what another order of summation may cost in float32."""

_ROUNDING_FACTOR = 8  # how much further from float32 autograd another order may be than float64 is
_DRAWS = 4  # about one step in 200 differs because a value lay within rounding of a ReLU's kink
_SEED_STEP = 1_000_003
_CALIBRATION_IMAGES = 8
# A mask of which every bit is set would hide that something overwrote it, so int8 clamps are given something to do.
_RELU_SHARE, _LINEAR_SHARE = 0.5, 0.25
_RATE_SCALE = 100.0  # an input gradient made from an already updated weight must show


@dataclass(frozen=True, slots=True)
class Micro:
    """A micro-batch: uint8 images (N, 3, H, W) and labels (N,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True, slots=True)
class ExecutionCheck:
    """A step inside its arena against autograd; errors are relative to a parameter's largest gradient.

    `idle_parameters` are trained tensors whose gradient is 0 everywhere, which prove nothing; `flips` are values that
    fell on another side of a ReLU's kink than autograd's; `code_flips` are an int8 backbone's codes that differ from
    the model's; `seed` is what parameters and images were drawn with.
    """

    arena_bytes: int
    live_peak_bytes: int
    touched_bytes: int
    loss_error: float
    gradient_error: float
    worst_parameter: str
    updates_equal: bool
    statistics_error: float
    parameters: int
    idle_parameters: int
    flips: int
    code_flips: int
    seed: int

    @property
    def passed(self) -> bool:
        """Whether the planned bytes are what the step needs and all it needs."""
        return (
            self.touched_bytes == self.arena_bytes
            and self.loss_error <= GRADIENT_TOLERANCE
            and self.gradient_error <= GRADIENT_TOLERANCE
            and self.statistics_error <= GRADIENT_TOLERANCE
            and self.updates_equal
            and self.code_flips == 0
        )


class Subject:
    """A design with random parameters, so that no gradient is 0 by construction, and micro-batches of one update."""

    def __init__(
        self, resolved: ResolvedDesign, weights: BackboneWeights, *, classes: int, batch: int, seed: int
    ) -> None:
        self.resolved = resolved
        self.seed = seed
        self.recipe = resolved.design.recipe
        self.input_range = weights.input_range
        generator = torch.Generator().manual_seed(seed)
        calibration = create_calibration(resolved, weights, seed=seed)
        self.model = RepNet(resolved, weights.tensors, classes=classes, calibration=calibration).train()
        randomise_parameters(self.model, generator)
        size = (batch, 3, resolved.design.resolution, resolved.design.resolution)
        self.micros = tuple(
            Micro(
                torch.randint(0, 256, size, dtype=torch.uint8, generator=generator),
                torch.randint(0, classes, (batch,), generator=generator),
            )
            for _ in range(1 if self.recipe.accumulate == 1 else 2)
        )
        self.state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def autograd(self, dtype: torch.dtype, *, model: RepNet | None = None) -> tuple[float, dict[str, Tensor]]:
        """Returns the mean loss of the micro-batches and every trained parameter's gradient, by stock autograd.

        In float32 the model's batch norms take over the micro-batches' statistics.

        Args:
            dtype: what is computed in.
            model: the model in that type; made here where there is none.
        """
        model = model or self.model_in(dtype)
        losses = [
            functional.cross_entropy(self._logits(model, micro.images, dtype), micro.labels) for micro in self.micros
        ]
        loss = torch.stack(losses).mean()
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        gradients = torch.autograd.grad(loss, list(trained.values()))
        return loss.item(), dict(zip(trained, gradients, strict=True))

    def model_in(self, dtype: torch.dtype) -> RepNet:
        """Returns the model itself in float32, else a copy."""
        return self.model if dtype is torch.float32 else copy.deepcopy(self.model).to(dtype)

    def exact_gradients(self, codes: Sides) -> dict[str, Tensor] | None:
        """Returns the gradients by autograd in float64; None where an int8 backbone's codes are not those given.

        They are sums that are rounded, and on a half float64 may round to another side.
        """
        model = self.model_in(torch.float64)
        with watch_codes(model) as found:
            _, gradients = self.autograd(torch.float64, model=model)
        return None if count_flips(found, codes) else gradients

    def _logits(self, model: RepNet, images: Tensor, dtype: torch.dtype) -> Tensor:
        normalised = self.input_range.normalise(images)
        if model is self.model or self.model.calibration is None:
            logits: Tensor = model(normalised.to(dtype))
            return logits
        # In front of the gradient path float32 decides which codes the image has, and so all others there.
        with torch.no_grad():
            stream, features, feature = self.model.prefix(normalised)
        return model.adapt(Prefix(stream.to(dtype), tuple(value.to(dtype) for value in features), feature.to(dtype)))

    def execute(self, graph: TrainingGraph, arena: Arena, *, forgets: bool = True) -> tuple[float, ArenaExecutor]:
        """Returns the mean loss of the micro-batches run inside an arena, and the executor behind them."""
        executor = ArenaExecutor(
            graph,
            arena,
            self.state,
            recipe=self.recipe,
            input_range=self.input_range,
            rate_scale=_RATE_SCALE,
            forgets=forgets,
            backbone=self.model.backbone if isinstance(self.model.backbone, QuantisedBackbone) else None,
        )
        losses = [executor.run(micro.images, micro.labels) for micro in self.micros]
        executor.step(len(losses))
        return sum(losses) / len(losses), executor

    def updated(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the parameters after UpdateRule's update from given gradients; the model itself is changed."""
        recipe = self.recipe.model_copy(update={"accumulate": 2})  # not fused: the gradients are given
        rule = UpdateRule(self.model, recipe, head=self.model.head_parameters())
        rule.scale = _RATE_SCALE
        trained = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(self.state[name])
                parameter.grad = gradients[name].clone()
        rule.step()
        return {name: value.detach() for name, value in trained.items()}


def create_calibration(resolved: ResolvedDesign, weights: BackboneWeights, *, seed: int) -> Calibration | None:
    """Returns a part of the ranges that activations have on random images, so that many are clamped; None for fp32."""
    design = resolved.design
    if design.activation_bits == 32:
        return None
    size = (_CALIBRATION_IMAGES, 3, design.resolution, design.resolution)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    ranges = calibrate(resolved.table, weights.tensors, weights.input_range.normalise(images)).ranges
    shares = {name: _LINEAR_SHARE if low < 0 else _RELU_SHARE for name, (low, _) in ranges.items()}
    return Calibration({name: (low * shares[name], high * shares[name]) for name, (low, high) in ranges.items()})


def verify_execution(
    resolved: ResolvedDesign,
    weights: BackboneWeights,
    *,
    classes: int,
    batch: int,
    schedule: Schedule,
    seed: int,
) -> ExecutionCheck:
    """Runs a design's training step inside its planned arena, and returns how it compares with autograd.

    Where gradients differ and a value lies on a kink, parameters and images are drawn again.

    Args:
        resolved: the design in its explicit form.
        weights: the backbone's folded weights.
        classes: outputs of the head.
        batch: images of a micro-batch; a recipe that accumulates runs two of them.
        schedule: how the frozen backbone runs.
        seed: of parameters and images.

    Raises:
        SpecError: what `build_graph` refuses.
        ArenaViolationError: a kernel touches what its operator does not name.
    """
    graph = build_graph(resolved, classes=classes, batch=batch, schedule=schedule)
    for draw in range(_DRAWS):
        subject = Subject(resolved, weights, classes=classes, batch=batch, seed=seed + draw * _SEED_STEP)
        check = _compare(graph, subject)
        if check.passed or not (check.flips or check.code_flips):
            break
    return check


def _compare(graph: TrainingGraph, subject: Subject) -> ExecutionCheck:
    """Returns how one step inside the arena compares with autograd."""
    liveness = compute_liveness(graph)
    arena = place_buffers(liveness)
    loss, executor = subject.execute(graph, arena)
    with watch_sides(subject.model) as sides, watch_codes(subject.model) as codes:
        expected_loss, expected = subject.autograd(torch.float32)
    exact = subject.exact_gradients(codes)
    error, worst = gradient_error(executor.gradients, expected, exact=exact)
    running = [name for name in subject.state if name.endswith(("running_mean", "running_var"))]
    statistics = {name: value for name, value in subject.model.state_dict().items() if name in running}
    statistics_error, _ = gradient_error({name: executor.state[name] for name in running}, statistics)
    updated = subject.updated(executor.gradients) if executor.gradients.keys() == expected.keys() else {}
    return ExecutionCheck(
        arena_bytes=arena.size_bytes,
        live_peak_bytes=liveness.peak_bytes,
        touched_bytes=executor.touched_bytes,
        loss_error=abs(loss - expected_loss) / max(1.0, abs(expected_loss)),
        gradient_error=error,
        worst_parameter=worst,
        updates_equal=bool(updated) and all(torch.equal(executor.state[name], updated[name]) for name in updated),
        statistics_error=statistics_error,
        parameters=len(expected),
        idle_parameters=sum(not value.any() for value in expected.values()),
        flips=count_flips(executor.sides, sides),
        code_flips=count_flips(executor.codes, codes),
        seed=subject.seed,
    )


def gradient_error(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, exact: Mapping[str, Tensor] | None = None
) -> tuple[float, str]:
    """Returns the largest difference, relative to the tensor's largest expected value, and that tensor's name.

    The tolerance is never below what float32 cannot resolve: 8 times the distance of stock float32 from `exact`, which
    is large for a batch norm over few values, and the step's largest gradient times float32's ε, where terms cancel as
    in a standardised weight of two values. The error is infinite where a name is missing or a value is not finite.
    """
    if found.keys() != expected.keys():
        return math.inf, min(found.keys() ^ expected.keys())
    invisible = max(map(_largest, expected.values()), default=0.0) * torch.finfo(torch.float32).eps
    worst, where = 0.0, ""
    for name, value in expected.items():
        rounding = 0.0 if exact is None else _largest(value - exact[name])
        scale = max(_largest(value), max(rounding * _ROUNDING_FACTOR, invisible) / GRADIENT_TOLERANCE)
        difference = _largest(found[name] - value)
        error = 0.0 if difference == 0 else difference / scale if scale else math.inf
        if not error <= worst:
            worst, where = (error if math.isfinite(error) else math.inf), name
    return worst, where


def _largest(value: Tensor) -> float:
    return float(value.abs().max())


def randomise_parameters(model: RepNet, generator: torch.Generator) -> None:
    """Gives what trains random values under which the signal neither dies nor explodes; backbone biases stay."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("backbone."):
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * math.sqrt(2 / parameter[0].numel()))
            elif name.startswith("gammas.") or name.endswith("bias"):
                parameter.copy_(noise * 0.3)
            else:
                parameter.copy_(1 + noise * 0.2)
