"""The whole training step runs inside one byte array of exactly the planned size, with autograd's gradients."""

from __future__ import annotations

import copy
from random import Random

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from repnet_search.backbones import get_block_table
from repnet_search.graph import OpKind, Role, Schedule, Trained, build_graph
from repnet_search.measure.arena_memory import POISON, ArenaMemory, ArenaViolationError, OpAccess
from repnet_search.measure.execution import GRADIENT_TOLERANCE, Subject, gradient_error, verify_execution
from repnet_search.measure.executor import KERNELS, ArenaExecutor
from repnet_search.measure.forgetting import plan_forgetfully
from repnet_search.measure.kinks import count_flips, watch_sides
from repnet_search.memory import compute_liveness, place_buffers
from repnet_search.models.finetuned import FineTunedBackbone
from repnet_search.models.input_range import parse_input_range
from repnet_search.models.weights import BackboneWeights, create_random_weights
from repnet_search.spec import (
    BackboneSpec,
    Connector,
    Design,
    Exchange,
    Norm,
    Optimizer,
    Recipe,
    ResolvedDesign,
    resolve,
)
from tests.designs import random_resolved, six_connectors

CLASSES = 5


def weights_of(resolved: ResolvedDesign) -> BackboneWeights:
    tensors = create_random_weights(resolved.table, seed=0)
    return BackboneWeights(tensors, "random", "", parse_input_range("imagenet"))


def check(resolved: ResolvedDesign, schedule: Schedule, *, batch: int, seed: int = 0) -> None:
    """Runs a design in its arena; every trained tensor's gradient must be there and count."""
    result = verify_execution(
        resolved, weights_of(resolved), classes=CLASSES, batch=batch, schedule=schedule, seed=seed
    )
    assert result.passed, result
    assert result.touched_bytes == result.arena_bytes == result.live_peak_bytes
    assert result.idle_parameters == 0


def test_every_operator_has_a_kernel() -> None:
    assert KERNELS.keys() == set(OpKind)


@pytest.mark.parametrize("schedule", list(Schedule))
@pytest.mark.parametrize("seed", range(12))
def test_random_designs_run_inside_their_planned_arena(seed: int, schedule: Schedule) -> None:
    check(random_resolved(Random(seed), resolutions=(32,)), schedule, batch=1 + seed % 2, seed=seed)


@pytest.mark.parametrize("schedule", list(Schedule))
@pytest.mark.parametrize("name", ["resnet18", "proxylessnas_mobile", "mobilenet_v3_small", "mnasnet"])
def test_other_backbones_run_inside_their_planned_arena(name: str, schedule: Schedule) -> None:
    connectors = (Connector(after_block=3), Connector(after_block=7, exchange=Exchange.TO_REPNET))
    resolved = resolve(
        Design(backbone=BackboneSpec(name=name), resolution=32, connectors=connectors), clamp_groups=True
    )
    check(resolved, schedule, batch=1)


@pytest.mark.parametrize("optimizer", list(Optimizer))
@pytest.mark.parametrize("accumulate", [1, 4])
def test_every_recipe_updates_as_the_update_rule_does(optimizer: Optimizer, accumulate: int) -> None:
    recipe = Recipe(optimizer=optimizer, accumulate=accumulate, head_lr_ratio=3.0)
    connectors = (Connector(after_block=13, weight_standardisation=True), Connector(after_block=16, norm=Norm.NONE))
    check(resolve(Design(resolution=32, connectors=connectors, recipe=recipe)), Schedule.LAYER, batch=2)


@pytest.mark.parametrize("schedule", list(Schedule))
def test_a_whole_gradient_rule_has_room_for_every_bias_gradient(schedule: Schedule) -> None:
    # A streamed block sums up the gradients of its two hidden biases in one pass.
    recipe = Recipe(optimizer=Optimizer.NORMALISED_SGD)
    check(resolve(Design(resolution=32, connectors=(), train_bias=True, recipe=recipe)), schedule, batch=2)


def test_a_depthwise_convolution_leaves_alone_what_a_module_still_reads() -> None:
    # Block 1 begins with its depthwise convolution; the second module reads what the first connector merged.
    connectors = (Connector(after_block=0), Connector(after_block=5))
    check(resolve(Design(resolution=32, connectors=connectors), clamp_groups=True), Schedule.INPLACE, batch=2)


def test_batch_norms_take_the_statistics_that_torch_takes() -> None:
    resolved = resolve(six_connectors(norm=Norm.BATCH).model_copy(update={"resolution": 64}))
    check(resolved, Schedule.LAYER, batch=4)


@pytest.mark.parametrize("trained", list(Trained))
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_a_backbone_with_norms_of_its_own_trains_in_its_arena(name: str, trained: Trained) -> None:
    table = get_block_table(name, width_mult=0.35 if name == "mobilenet_v2" else 1.0, last_conv=False)
    frozen = trained is Trained.DESIGN
    design = Design(backbone=BackboneSpec(name=name), resolution=48, connectors=(), train_bias=frozen)
    torch.manual_seed(0)
    model = FineTunedBackbone(table, classes=CLASSES, trained=trained, train_bias=frozen)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    images = torch.randint(0, 256, (4, 3, 48, 48), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (4,))
    input_range = parse_input_range("imagenet")
    graph = build_graph(resolve(design), classes=CLASSES, batch=4, trained=trained, folded=False)
    executor = ArenaExecutor(
        graph,
        place_buffers(compute_liveness(graph)),
        scaled_and_shifted(model, frozen=frozen),
        recipe=Recipe(),
        input_range=input_range,
        norm_eps=table.norm_eps,
    )
    executor.run(images, labels)
    exactly = copy.deepcopy(model).double()
    expected = gradients_of(model, input_range.normalise(images), labels)
    exact = gradients_of(exactly, input_range.normalise(images).double(), labels)
    error, where = gradient_error(executor.gradients, expected, exact=exact)
    assert error <= GRADIENT_TOLERANCE, where


def scaled_and_shifted(model: torch.nn.Module, *, frozen: bool) -> dict[str, Tensor]:
    """Returns a state in which a frozen norm is the scale and the shift that it comes to."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for name in [name for name in state if frozen and name.endswith("norm.weight")]:
        key = name.removesuffix(".weight")
        state[name] /= torch.sqrt(state[f"{key}.running_var"] + 1e-5)
        state[f"{key}.bias"] -= state[f"{key}.running_mean"] * state[name]
    return state


def gradients_of(model: torch.nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    loss = functional.cross_entropy(model(images), labels)
    return dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))


@pytest.mark.parametrize(("seed", "schedule"), [(5, Schedule.LAYER), (3, Schedule.INPLACE), (3, Schedule.STREAMED)])
def test_a_plan_that_forgets_a_use_gives_wrong_gradients(seed: int, schedule: Schedule) -> None:
    resolved = random_resolved(Random(seed), resolutions=(32,))
    graph = build_graph(resolved, classes=CLASSES, schedule=schedule)
    subject = Subject(resolved, weights_of(resolved), classes=CLASSES, batch=1, seed=seed)
    _, exact = subject.autograd(torch.float64)
    _, expected = subject.autograd(torch.float32)
    plans = list(plan_forgetfully(graph))[::2]
    assert len(plans) >= 3
    for plan in plans:
        _, executor = subject.execute(graph, plan.arena, forgets=False)
        error, _ = gradient_error(executor.gradients, expected, exact=exact)
        assert error > GRADIENT_TOLERANCE, plan


@pytest.mark.parametrize("schedule", list(Schedule))
def test_values_on_the_other_side_of_a_kink_are_counted(schedule: Schedule) -> None:
    resolved = random_resolved(Random(6), resolutions=(32,))
    graph = build_graph(resolved, classes=CLASSES, schedule=schedule)
    subject = Subject(resolved, weights_of(resolved), classes=CLASSES, batch=1, seed=0)
    _, executor = subject.execute(graph, place_buffers(compute_liveness(graph)))
    with watch_sides(subject.model) as sides:
        subject.autograd(torch.float32)
    assert count_flips(executor.sides, sides) == 0
    assert {name.split(".")[0] for name in executor.sides} == {"backbone", "repnet"}
    for values in executor.sides.values():
        values[0][0] ^= True
    assert count_flips(executor.sides, sides) == len(executor.sides)


class TestAccess:
    """The last layer alone: operator 0 is the stem, which reads tensor 0 and writes tensor 1."""

    def open(self, op: int = 0) -> tuple[ArenaMemory, OpAccess]:
        graph = build_graph(resolve(Design(connectors=(), resolution=32, train_bias=True)), classes=CLASSES)
        memory = ArenaMemory(graph, place_buffers(compute_liveness(graph)), forgets=True)
        memory.load_image(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
        return memory, OpAccess(memory, op)

    def test_what_an_operator_does_not_name_is_refused(self) -> None:
        memory, access = self.open()
        other = memory.graph.ops[1].writes[0]
        with pytest.raises(ArenaViolationError, match=r"Operator 0 \(block 0, conv\) does not name .* as read"):
            access.read(other)
        with pytest.raises(ArenaViolationError, match="as written"):
            access.write_bytes(0)

    def test_a_change_behind_its_back_is_seen(self) -> None:
        _, access = self.open()
        access.read_bytes(0).fill_(7)
        with pytest.raises(ArenaViolationError, match="does not name as written"):
            access.finish()

    def test_what_nothing_has_written_is_poison(self) -> None:
        memory, access = self.open()
        assert access.read(1).isnan().all()
        access.write(1).zero_()
        access.finish()
        assert not memory.raw(1).any()
        last = max(index for index, op in enumerate(memory.graph.ops) if 1 in op.reads)
        OpAccess(memory, last).finish()
        assert bool((memory.raw(1).view(torch.int32) == POISON).all())
        assert memory.raw(1).view(torch.float32).isnan().all()

    def test_bits_leave_their_neighbours_alone(self) -> None:
        memory, access = self.open()
        mask = next(tensor for tensor in memory.graph.ops[0].writes if memory.graph.tensors[tensor].role is Role.MASK)
        access.write_bits(mask, torch.ones(48, dtype=torch.bool))
        access.write_bits(mask, torch.zeros(40, dtype=torch.bool))
        access.write_bits(mask, torch.tensor([True, False, True]), start=6)
        assert access.read_bits(mask, start=5, count=5).tolist() == [False, True, False, True, False]
        assert access.read_bits(mask, start=38, count=4).tolist() == [False, False, True, True]
