"""From a resolved design to its training step.

The forward pass runs in the design's order: r_0, then at every block the block itself, its module, its exchange; then
head and loss. The backward pass is its exact reverse. What the step keeps for the backward pass is what a lean runtime
needs (memory-model: trainable convolutions and linears keep their input, norms their input and statistics, ReLU its
output, a frozen ReLU6 one bit per element, h-swish its input, a squeeze-and-excitation its input and its gate, average
pooling and resizing nothing).
"""

from __future__ import annotations

from repnet_search.errors import SpecError
from repnet_search.graph.backbone import BackboneEmitter
from repnet_search.graph.head import emit_head
from repnet_search.graph.module import emit_module
from repnet_search.graph.ops import Op, OpKind, Role, Trained, TrainingGraph
from repnet_search.graph.tape import FLOAT_BYTES, Tape
from repnet_search.spec.design import Norm, Optimizer, Recipe
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.shapes import IMAGE_CHANNELS
from repnet_search.spec.target import Schedule, Slopes


def build_graph(
    resolved: ResolvedDesign,
    *,
    classes: int,
    batch: int = 1,
    schedule: Schedule = Schedule.LAYER,
    trained: Trained = Trained.DESIGN,
    folded: bool = True,
    slopes: Slopes = Slopes.EXACT,
) -> TrainingGraph:
    """Returns one training step of a design at one micro-batch.

    Args:
        resolved: the design in its explicit form.
        classes: outputs of the head.
        batch: images of a micro-batch; what the recipe accumulates over does not enlarge it.
        schedule: how the target runs the frozen backbone.
        trained: what trains; anything but the design's own choice needs a design without connectors.
        folded: whether the backbone's norms are folded into its convolutions; a step that trains them has them apart.
        slopes: how the target keeps the slopes of the backbone's smooth activations.

    Raises:
        SpecError: a batch below 1, fewer than 2 classes, a batch norm at micro-batch 1, connectors where a whole
            network trains, a schedule or int8 activations for a backbone that is not frozen and folded, or an int8
            backbone with smooth activations or squeeze-and-excitation.
    """
    if batch < 1:
        raise SpecError(f"A batch must hold at least 1 image, but got {batch}.")
    if classes < 2:
        raise SpecError(f"A task needs at least 2 classes, but got {classes}.")
    folded = folded and trained is Trained.DESIGN
    _check_norms(resolved, batch)
    _check_backbone(resolved, schedule, trained, folded=folded)
    design = resolved.design
    tape = create_tape(design.recipe, batch=batch, activation_bits=design.activation_bits)
    backbone = BackboneEmitter(
        tape,
        resolved.table,
        train_bias=design.train_bias,
        trained=trained,
        folded=folded,
        schedule=schedule,
        slopes=slopes,
    )
    _emit_forward(tape, backbone, resolved, classes=classes)
    forward_ops = len(tape.ops)
    tape.run_backward()
    parameters = tuple(tape.parameters)
    norm_state = tape.norm_state_elements
    return TrainingGraph(tape.tensors, tape.ops, forward_ops, batch, parameters, norm_state, schedule, slopes)


def create_tape(recipe: Recipe, *, batch: int, activation_bits: int) -> Tape:
    """Returns an empty tape for steps of a recipe.

    A rule that divides by the gradient's root mean square needs a tensor's whole gradient before it updates it; where
    gradients are accumulated they are there anyway.
    """
    return Tape(
        batch=batch,
        backbone_bytes=1 if activation_bits == 8 else FLOAT_BYTES,
        whole_gradients=recipe.optimizer is Optimizer.NORMALISED_SGD and recipe.accumulate == 1,
    )


def _check_norms(resolved: ResolvedDesign, batch: int) -> None:
    for index, module in enumerate(resolved.modules):
        if module.norm is Norm.BATCH and batch == 1:
            raise SpecError(
                f"connectors[{index}] has norm 'batch', which couples the images of a batch, but recipes train at "
                "micro-batch 1; use norm 'group' or 'layer'."
            )


def _check_backbone(resolved: ResolvedDesign, schedule: Schedule, trained: Trained, *, folded: bool) -> None:
    if trained is not Trained.DESIGN and resolved.modules:
        raise SpecError(
            f"Training {trained.value} is a method without a Rep-Net, but the design has {len(resolved.modules)} "
            "connectors; use a design with connectors: []."
        )
    if folded:
        return
    if schedule is not Schedule.LAYER:
        raise SpecError(
            f"The schedule '{schedule.value}' needs a frozen backbone with folded norms, which this step does not "
            "have; use the schedule 'layer'."
        )
    if resolved.design.activation_bits == 8:
        raise SpecError(
            "An int8 backbone is frozen and its norms are folded, but this step has norms of their own; use "
            "activation_bits 32."
        )


def _emit_forward(tape: Tape, backbone: BackboneEmitter, resolved: ResolvedDesign, *, classes: int) -> None:
    """Emits the forward pass; the running backbone feature b and the stream r are tensor indices."""
    resolution = resolved.design.resolution
    image = tape.tensor("image", (IMAGE_CHANNELS, resolution, resolution), Role.IMAGE, element_bytes=1)
    modules = {module.after_block: index for index, module in enumerate(resolved.modules)}
    waiting = list(reversed(resolved.modules))
    stream = emit_image_pool(tape, image, resolved.design.image_pool) if modules else image
    feature = image
    for index in range(len(resolved.table.blocks)):
        block_input = feature
        # A module may still have to read what the block reads.
        held = bool(waiting) and (
            waiting[-1].after_block == index if waiting[-1].reads_block_input else stream == block_input
        )
        feature = backbone.emit(index, block_input, held=held)
        if index in modules:
            module = waiting.pop()
            source = block_input if module.reads_block_input else stream
            feature, stream = emit_module(tape, module, index=modules[index], source=source, feature=feature)
    emit_head(tape, (feature, stream) if resolved.head_reads_stream else (feature,), classes=classes)


def emit_image_pool(tape: Tape, image: int, window: int) -> int:
    """Emits r_0, made before B_0 so that the image need not outlive the stem."""
    size = tape.tensors[image].shape[-1] // window
    pooled = tape.tensor("r0", (IMAGE_CHANNELS, size, size), Role.REPNET, element_bytes=tape.backbone_bytes)
    tape.emit(Op(OpKind.IMAGE_POOL, "image", (image,), (pooled,), layer=window))
    return pooled
