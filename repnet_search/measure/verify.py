"""A design's estimate against what is measured on this machine, term by term.

Measured are the lean runtime and stock PyTorch by autograd's hooks, the lean runtime's forward pass by the live-bytes
tracker, and the whole step, fused update included, run inside its planned arena in every schedule. What PyTorch's own
backward pass needs on top of the plan (unpacked masks, masked gradients) is reported beside it and compared with
nothing: a kernel of a microcontroller fuses it away. In PyTorch an int8 backbone's codes are float32 numbers, so
an int8 design is measured inside its arena alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from repnet_search.graph import Role, Schedule, TrainingGraph, build_graph
from repnet_search.measure.execution import ExecutionCheck, Subject, verify_execution
from repnet_search.measure.kept import measure_kept_bytes, measure_lean_kept_bytes, measure_macs
from repnet_search.measure.tracker import LiveBytesTracker
from repnet_search.memory import compute_liveness, count_kept_bytes, estimate_memory
from repnet_search.memory.liveness import align
from repnet_search.models.lean_runtime import LeanRuntime
from repnet_search.models.repnet import RepNet
from repnet_search.models.weights import BackboneWeights
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.training.update import UpdateRule

LEAN_TOLERANCE = 1e-7
"""Of a parameter's largest gradient, in float64: the lean functions sum in another order, and a batch norm over few and
nearly equal values multiplies the rounding of that by hundreds (7e-9 was the worst of 200 random designs)."""

_LOSS_BYTES = align(4)


@dataclass(frozen=True, slots=True)
class Term:
    """A figure of the account and what was measured for it: `unit` is bytes or MACs."""

    name: str
    estimated: int
    measured: int
    unit: str = "bytes"

    @property
    def equal(self) -> bool:
        """Whether they are the same to the last one."""
        return self.estimated == self.measured


@dataclass(frozen=True, slots=True)
class LiveBytes:
    """What the tracker saw of a step: forward peak, alive behind the forward pass, backward peak."""

    forward_peak_bytes: int
    kept_bytes: int
    backward_peak_bytes: int


@dataclass(frozen=True, slots=True)
class LeanCheck:
    """The lean runtime's gradient error, and PyTorch's surplus in its backward pass."""

    gradient_error: float
    planned_backward_bytes: int
    measured_backward_bytes: int


@dataclass(frozen=True, slots=True)
class Verification:
    """Terms and gradient errors for one design and micro-batch; `lean` is None for an int8 design."""

    batch: int
    terms: tuple[Term, ...]
    executions: dict[Schedule, ExecutionCheck]
    lean: LeanCheck | None

    @property
    def passed(self) -> bool:
        """Whether every term is met and every gradient is autograd's."""
        return (
            all(term.equal for term in self.terms)
            and (self.lean is None or self.lean.gradient_error <= LEAN_TOLERANCE)
            and all(check.passed for check in self.executions.values())
        )


def verify_design(
    resolved: ResolvedDesign, weights: BackboneWeights, *, classes: int, batch: int, seed: int
) -> Verification:
    """Returns how a design's estimate compares with reality, with random parameters and images.

    Args:
        resolved: the design in its explicit form.
        weights: the backbone's folded weights; an int8 backbone's activations get the ranges that random images have.
        classes: outputs of the head.
        batch: images of a micro-batch.
        seed: of parameters and images.

    Raises:
        SpecError: what `build_graph` refuses.
    """
    subject = Subject(resolved, weights, classes=classes, batch=batch, seed=seed)
    micro = subject.micros[0]
    images = weights.input_range.normalise(micro.images)
    executions = {
        schedule: verify_execution(resolved, weights, classes=classes, batch=batch, schedule=schedule, seed=seed)
        for schedule in Schedule
    }
    graph = build_graph(resolved, classes=classes, batch=batch)
    lean: LeanCheck | None = None
    terms: list[Term] = []
    if resolved.design.activation_bits == 32:
        lean, terms = _check_lean(resolved, subject.model, graph, images, micro.labels)
    terms += [
        Term(f"arena, schedule {schedule.value}", check.arena_bytes, check.touched_bytes)
        for schedule, check in executions.items()
    ]
    terms += [Term("forward MACs", graph.forward_macs, measure_macs(subject.model, images), "MACs")]
    terms += _state_terms(resolved, subject.model, images, micro.labels)
    return Verification(batch, tuple(terms), executions, lean)


def _check_lean(
    resolved: ResolvedDesign, model: RepNet, graph: TrainingGraph, images: Tensor, labels: Tensor
) -> tuple[LeanCheck, list[Term]]:
    """Returns what stock PyTorch and the lean runtime show of a float32 step."""
    liveness = compute_liveness(graph)
    live = measure_live_bytes(resolved, model, images, labels)
    lean_kept = measure_lean_kept_bytes(LeanRuntime(model, resolved), images, labels)
    terms = [
        Term("kept by stock PyTorch", count_kept_bytes(graph), measure_kept_bytes(model, images, labels)),
        Term("kept by the lean runtime", liveness.kept_bytes, lean_kept),
        Term("alive behind the forward pass", liveness.kept_bytes + _LOSS_BYTES, live.kept_bytes),
        Term("forward peak, image left out", liveness.forward_peak_bytes_without(Role.IMAGE), live.forward_peak_bytes),
    ]
    error = measure_lean_gradient_error(resolved, model, images, labels)
    return LeanCheck(error, liveness.backward_peak_bytes, live.backward_peak_bytes), terms


def measure_lean_gradient_error(resolved: ResolvedDesign, model: RepNet, images: Tensor, labels: Tensor) -> float:
    """Returns the largest difference of the lean runtime's gradients from stock autograd's, in float64.

    It is relative to the largest gradient of the parameter, or of the model where that is tiny: the gradient of a bias
    in front of a norm is 0 but for rounding.
    """
    exact = copy.deepcopy(model).double()
    trained = [value for value in exact.parameters() if value.requires_grad]
    stock = torch.autograd.grad(functional.cross_entropy(exact(images.double()), labels), trained)
    lean = torch.autograd.grad(LeanRuntime(exact, resolved).loss(images.double(), labels), trained)
    floor = max(float(gradient.abs().max()) for gradient in stock) * 1e-6
    return max(
        float((one - other).abs().max()) / max(float(other.abs().max()), floor)
        for one, other in zip(lean, stock, strict=True)
    )


def measure_live_bytes(resolved: ResolvedDesign, model: RepNet, images: Tensor, labels: Tensor) -> LiveBytes:
    """Returns the live bytes of a step on the lean runtime; image and labels are the caller's and left out."""
    runtime = LeanRuntime(model, resolved)
    with LiveBytesTracker() as tracker:
        loss = runtime.loss(images, labels)
        forward, kept = tracker.peak_bytes, tracker.live_bytes
        tracker.reset_peak()
        loss.backward()
        backward = tracker.peak_bytes
    model.zero_grad(set_to_none=True)
    return LiveBytes(forward, kept, backward)


def _state_terms(resolved: ResolvedDesign, model: RepNet, images: Tensor, labels: Tensor) -> list[Term]:
    """Parameters, norm state, and what an update of the recipe really holds; the model is changed."""
    memory = estimate_memory(resolved, classes=model.head.out_features, batch=len(images))
    trained = [value for value in model.parameters() if value.requires_grad]
    state = [value for name, value in model.repnet.named_buffers() if name.endswith(("running_mean", "running_var"))]
    rule = UpdateRule(model, resolved.design.recipe, head=model.head_parameters())
    functional.cross_entropy(model(images), labels).backward()
    held = sum(value.grad.nbytes for value in trained if value.grad is not None)
    rule.step()
    return [
        Term("parameters", memory.parameter_bytes, sum(value.nbytes for value in trained)),
        Term("norm state", memory.norm_state_bytes, sum(value.nbytes for value in state)),
        Term("optimizer state", memory.optimizer_bytes, rule.optimizer_state_bytes()),
        Term("accumulated gradients", memory.gradient_bytes, held),
    ]
