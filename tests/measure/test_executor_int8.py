"""An int8 backbone's training step inside its arena: the model's codes bit by bit, and autograd's gradients."""

from __future__ import annotations

from random import Random

import pytest
import torch

from repnet_search.errors import SpecError
from repnet_search.graph import OpKind, Role, Schedule, TrainingGraph, build_graph
from repnet_search.measure.arena_memory import ArenaViolationError
from repnet_search.measure.codes import watch_codes
from repnet_search.measure.execution import GRADIENT_TOLERANCE, Subject, gradient_error, verify_execution
from repnet_search.measure.executor import ArenaExecutor
from repnet_search.measure.forgetting import plan_forgetfully
from repnet_search.measure.int8_step import encode
from repnet_search.measure.kinks import count_flips
from repnet_search.memory import compute_liveness, place_buffers
from repnet_search.models.input_range import parse_input_range
from repnet_search.models.quantisation import QuantParams, unclamped
from repnet_search.models.quantised import QuantisedBackbone, QuantisedBlock, QuantisedMerge
from repnet_search.models.weights import BackboneWeights, create_random_weights
from repnet_search.spec import (
    BackboneSpec,
    Connector,
    Design,
    Exchange,
    ModuleInput,
    Optimizer,
    Recipe,
    ResolvedDesign,
    resolve,
)
from tests.designs import random_resolved

CLASSES = 5
NARROW = BackboneSpec(width_mult=0.1)  # a streamed step runs channel by channel
CONNECTORS = (Connector(after_block=3), Connector(after_block=7, exchange=Exchange.TO_REPNET))


def int8(design: Design) -> ResolvedDesign:
    return resolve(design.model_copy(update={"activation_bits": 8, "resolution": 32}), clamp_groups=True)


def weights_of(resolved: ResolvedDesign) -> BackboneWeights:
    tensors = create_random_weights(resolved.table, seed=0)
    return BackboneWeights(tensors, "random", "", parse_input_range("imagenet"))


def subject_of(resolved: ResolvedDesign, *, batch: int = 1, seed: int = 0) -> Subject:
    return Subject(resolved, weights_of(resolved), classes=CLASSES, batch=batch, seed=seed)


def check(resolved: ResolvedDesign, schedule: Schedule, *, batch: int, seed: int = 0) -> None:
    """Runs a design in its arena; codes are the model's, and every trained tensor's gradient is there and counts."""
    result = verify_execution(
        resolved, weights_of(resolved), classes=CLASSES, batch=batch, schedule=schedule, seed=seed
    )
    assert result.passed, result
    assert result.touched_bytes == result.arena_bytes
    assert result.code_flips == result.idle_parameters == 0


@pytest.mark.parametrize("schedule", list(Schedule))
@pytest.mark.parametrize("seed", range(10))
def test_random_designs_run_inside_their_planned_arena(seed: int, schedule: Schedule) -> None:
    check(int8(random_resolved(Random(seed), backbone=NARROW).design), schedule, batch=1 + seed % 2, seed=seed)


@pytest.mark.parametrize(
    ("name", "schedule"), [("resnet18", Schedule.LAYER), ("proxylessnas_mobile", Schedule.STREAMED)]
)
def test_other_backbones_run_inside_their_planned_arena(name: str, schedule: Schedule) -> None:
    check(int8(Design(backbone=BackboneSpec(name=name), connectors=CONNECTORS)), schedule, batch=1)


@pytest.mark.parametrize("optimizer", list(Optimizer))
@pytest.mark.parametrize("accumulate", [1, 4])
def test_every_recipe_updates_as_the_update_rule_does(optimizer: Optimizer, accumulate: int) -> None:
    recipe = Recipe(optimizer=optimizer, accumulate=accumulate, head_lr_ratio=3.0)
    check(int8(Design(backbone=NARROW, connectors=CONNECTORS, train_bias=True, recipe=recipe)), Schedule.LAYER, batch=1)


@pytest.mark.parametrize("schedule", [Schedule.INPLACE, Schedule.STREAMED])
def test_a_whole_gradient_rule_trains_every_bias(schedule: Schedule) -> None:
    recipe = Recipe(optimizer=Optimizer.NORMALISED_SGD)
    check(int8(Design(backbone=NARROW, connectors=CONNECTORS[:1], train_bias=True, recipe=recipe)), schedule, batch=2)


def test_a_trainable_convolution_and_a_pool_read_int8_features() -> None:
    # The first module reads the pooled image, the others their block's int8 input, with and without a pool.
    connectors = (Connector(after_block=0), Connector(after_block=4, pool=2), Connector(after_block=9))
    design = Design(backbone=NARROW, connectors=connectors, module_input=ModuleInput.BLOCK_INPUT)
    check(int8(design), Schedule.INPLACE, batch=2)


@pytest.mark.parametrize("schedule", list(Schedule))
def test_all_codes_of_all_blocks_are_compared(schedule: Schedule) -> None:
    subject = subject_of(int8(Design(backbone=NARROW, connectors=CONNECTORS, train_bias=True)), batch=2)
    executor = execute(subject, schedule)
    with watch_codes(subject.model) as codes:
        subject.autograd(torch.float32)
    assert count_flips(executor.codes, codes) == 0
    backbone = subject.model.backbone
    assert isinstance(backbone, QuantisedBackbone)
    outputs = {"gammas.0"}
    for index, block in enumerate(backbone.blocks):
        assert isinstance(block, QuantisedBlock)
        if not block.block.is_identity:
            end = "" if block.sum is not None else f".convs.{len(block.convs) - 1}"
            outputs.add(f"backbone.blocks.{index}{end}")
    assert outputs <= executor.codes.keys()
    for values in executor.codes.values():
        values[0][0] = ~values[0][0] if values[0].dtype is torch.bool else values[0][0] + 1
    assert count_flips(executor.codes, codes) == len(executor.codes)


def execute(subject: Subject, schedule: Schedule) -> ArenaExecutor:
    graph = graph_of(subject, schedule)
    return subject.execute(graph, place_buffers(compute_liveness(graph)))[1]


def graph_of(subject: Subject, schedule: Schedule) -> TrainingGraph:
    return build_graph(subject.resolved, classes=CLASSES, batch=len(subject.micros[0].images), schedule=schedule)


def test_what_a_merge_clamps_passes_no_gradient_on() -> None:
    # A gradient that the merge has not masked would be the earlier connector's too.
    connectors = (Connector(after_block=3), Connector(after_block=6))
    graph = build_graph(int8(Design(backbone=NARROW, connectors=connectors)), classes=CLASSES)
    backward = [op for op in graph.ops if op.kind is OpKind.EXCHANGE_BACKWARD]
    assert len(backward) == 2
    for op in backward:
        assert op.writes[1] == op.reads[0]
        assert graph.tensors[op.reads[1]].role is Role.MASK
    subject = subject_of(int8(Design(backbone=NARROW, connectors=connectors)))
    with torch.no_grad():
        for name, value in subject.model.named_parameters():
            if name.startswith("gammas."):
                value.mul_(30)  # b is clamped far beyond its range
                subject.state[name] = value.detach().clone()
    with watch_codes(subject.model) as codes:
        _, expected = subject.autograd(torch.float32)
    executor = execute(subject, Schedule.STREAMED)
    backbone = subject.model.backbone
    assert isinstance(backbone, QuantisedBackbone)
    for index, merge in enumerate(backbone.merges.values()):
        assert isinstance(merge, QuantisedMerge)
        passing = unclamped(codes[f"gammas.{index}"][0], merge.params)
        assert 0.02 < float(passing.float().mean()) < 0.98
    assert count_flips(executor.codes, codes) == 0
    assert gradient_error(executor.gradients, expected)[0] <= GRADIENT_TOLERANCE


@pytest.mark.parametrize(("seed", "schedule"), [(2, Schedule.LAYER), (4, Schedule.STREAMED)])
def test_a_plan_that_forgets_a_use_gives_wrong_gradients(seed: int, schedule: Schedule) -> None:
    subject = subject_of(int8(random_resolved(Random(seed), backbone=NARROW).design), seed=seed)
    graph = graph_of(subject, schedule)
    with watch_codes(subject.model) as codes:
        _, expected = subject.autograd(torch.float32)
    exact = subject.exact_gradients(codes)
    plans = list(plan_forgetfully(graph))[::8]
    assert len(plans) >= 3
    for plan in plans:
        try:
            _, executor = subject.execute(graph, plan.arena, forgets=False)
        except ArenaViolationError:
            continue
        error, _ = gradient_error(executor.gradients, expected, exact=exact)
        assert error > GRADIENT_TOLERANCE, plan


def test_a_step_without_its_codes_is_refused() -> None:
    subject = subject_of(int8(Design(backbone=NARROW, connectors=())))
    graph = graph_of(subject, Schedule.LAYER)
    arena = place_buffers(compute_liveness(graph))
    with pytest.raises(SpecError, match="needs its codes and grids"):
        ArenaExecutor(graph, arena, subject.state, recipe=subject.recipe, input_range=subject.input_range)


def test_what_is_no_code_is_not_stored() -> None:
    grid = QuantParams(0.1, 28)
    assert encode(torch.tensor([-156.0, 0.0, 99.0]), grid).tolist() == [-128, 28, 127]
    for value in (0.5, 100.0, -157.0, float("nan")):
        with pytest.raises(ArenaViolationError, match="no code of its grid"):
            encode(torch.tensor([value]), grid)


def test_every_int8_tensor_of_the_op_list_has_a_grid() -> None:
    subject = subject_of(int8(Design(backbone=NARROW, connectors=CONNECTORS)))
    executor = execute(subject, Schedule.STREAMED)
    graph = graph_of(subject, Schedule.STREAMED)
    assert executor.int8 is not None
    for index, tensor in enumerate(graph.tensors):
        small = tensor.size_bytes == tensor.elements and tensor.role is not Role.MASK
        assert (index in executor.int8.grids) == small, tensor.name
