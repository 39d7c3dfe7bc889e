"""A bundle's card.md: what the model is, what it was trained on, how good it is, what it needs, and its limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from repnet_search.data import Split
from repnet_search.data.source import DataKind
from repnet_search.memory import AccountFigure, MemoryEstimate, compare_accounts
from repnet_search.memory.accounts import Account
from repnet_search.models.weights import EMBEDDED_NAME
from repnet_search.results.confirmation import Confirmation
from repnet_search.results.statistics import INTERVAL_SEEDS, mean_and_interval, share_interval
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.target import DeviceLimits
from repnet_search.spec.training import Metric, TrainingSpec
from repnet_search.training.task import Task
from repnet_search.units import format_count, format_number, format_size

_MANY_LABELS = 20
_PAPER_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Adapted:
    """How a bundle's model went on learning, one image at a time.

    Args:
        images: learnt from.
        once: whether each was seen once, as in a stream.
        seed: of their order.
        test_before: the accuracy on the same test images before, in 0..1.
    """

    images: int
    once: bool
    seed: int
    test_before: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from, as far as it is known.

    Args:
        study: the study's name; "" for a design that was trained alone.
        training: how long and from which seed this very model was trained.
        confirmation: of its design by several seeds, None where there was none.
        board: of the study's target.
        limits: of the study's target.
        saturation: of an int8 backbone: the share of b that was clamped behind each writing connector, by its block.
        adapted: how it went on learning on the images that the card is about.
    """

    study: str = ""
    training: TrainingSpec | None = None
    confirmation: Confirmation | None = None
    board: str | None = None
    limits: DeviceLimits | None = None
    saturation: tuple[tuple[int, float], ...] = ()
    adapted: Adapted | None = None


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card says beside the design and its task.

    `accuracies`: of this model, by what they were measured on.
    """

    memory: MemoryEstimate
    accuracies: dict[str, float]
    provenance: Provenance = field(default_factory=Provenance)
    has_onnx: bool = False


def create_card(resolved: ResolvedDesign, task: Task, facts: CardFacts) -> str:
    """Returns the card as Markdown."""
    parts = (
        _what(resolved, task, facts),
        _use(resolved, task, facts),
        _design(resolved, task, facts),
        _data(task),
        _accuracy(task, facts),
        _memory(resolved, task, facts),
        _limits(resolved, task, facts),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _what(resolved: ResolvedDesign, task: Task, facts: CardFacts) -> Iterator[str]:
    design, name = resolved.design, resolved.table.name
    yield f"# Rep-Net {resolved.short_id}\n"
    origin = f"Found by repnet-search in the study {facts.provenance.study}" if facts.provenance.study else "Trained"
    bits = " in int8" if design.activation_bits == 8 else ""
    side = "side network (Rep-Net)" if design.connectors else "last layer"
    yield (
        f"A {side} that adapts a frozen {name}{bits} to {task.classes} classes, from images of {design.resolution} × "
        f"{design.resolution} pixels. {origin}; training it on a device takes "
        f"**{format_size(facts.memory.ram_bytes)}** of RAM (account arena)."
    )


def _use(resolved: ResolvedDesign, task: Task, facts: CardFacts) -> Iterator[str]:
    size = resolved.design.resolution
    yield "## Use\n"
    yield "    python model.py IMAGE...                # with torch, safetensors and Pillow alone\n"
    yield "    import repnet_search"
    yield '    model = repnet_search.load_model(".")   # uint8 images (N, 3, S, S) -> logits (N, K),'
    yield f"                                            # S = {size}, K = {task.classes}, in the order of labels.txt\n"
    yield "    repnet-search evaluate . --data FOLDER  # accuracy per class"
    yield "    repnet-search export --check .          # is this folder whole?\n"
    yield "| file | holds |"
    yield "|---|---|"
    yield "| `design.yaml` | the design; `repnet-search train design.yaml` trains it again |"
    kind = "int8 codes, a scale per output channel, biases" if resolved.design.activation_bits == 8 else "float32"
    yield f"| `backbone.safetensors` | the frozen weights, norms folded: {kind} |"
    yield "| `trained.safetensors` | what training changed: float32 |"
    yield "| `model.py` | the forward pass, line by line, for reading and porting |"
    if facts.has_onnx:
        yield f"| `model.onnx` | the same for inference: `images`, uint8 (N, 3, {size}, {size}), to `logits` |"
    yield "| `labels.txt` | the label of each logit, one per line |"
    yield "| `plan.json`, `plan.h` | where every buffer of a training step lies, and which operator touches which |"
    if resolved.design.activation_bits == 8:
        yield "| `calibration.json` | the range of each of the backbone's activations |"
    yield "| `bundle.json`, `manifest.json` | facts for programs; the format, sizes and sha256 of all files |"


def _design(resolved: ResolvedDesign, task: Task, facts: CardFacts) -> Iterator[str]:
    design, weights, recipe = resolved.design, task.weights_of(resolved.design.backbone), resolved.design.recipe
    yield "## Design\n"
    blocks = format_count(len(resolved.table.blocks), "block")
    read = f"sha256\n  `{weights.sha256}`" if weights.sha256 else "made, not read"
    yield f"- Backbone: {resolved.table.name}, {blocks}; weights {weights.name}, {read};"
    yield f"  images in the range {weights.input_range.text}."
    if design.connectors:
        places = ", ".join(f"{item.after_block} ({item.exchange.value})" for item in design.connectors)
        yield f"- Connectors after block {places}; modules read the {design.module_input.value.replace('_', ' ')}."
    else:
        yield "- No connectors: the last layer alone."
    biases = ", all the backbone's biases among them" if design.train_bias else ""
    yield f"- {format_number(facts.memory.trainable_parameters)} trainable parameters{biases}."
    yield (
        f"- Recipe: {recipe.optimizer.value}, {format_count(recipe.accumulate, 'image')} per update, learning rate "
        f"{recipe.lr:g}, the head's ×{recipe.head_lr_ratio:g}."
    )
    training = facts.provenance.training
    if training is not None:
        epochs, views = format_count(training.epochs, "epoch"), format_count(training.views, "view")
        yield f"- This model: {epochs} of {views} per image, seed {training.seed}."
    adapted = facts.provenance.adapted
    if adapted is not None:
        how, images = "each seen once" if adapted.once else "in passes", format_count(adapted.images, "image")
        yield (
            f"- This model had been trained before; then it went on with {images} of those\n"
            f"  below, one at a time, {how}, their order from seed {adapted.seed}."
        )


def _data(task: Task) -> Iterator[str]:
    source = task.source
    counts = ", ".join(f"{source.count(split)} {split.value}" for split in Split)
    names = [f"`{name}`" for name in source.classes[:_MANY_LABELS]]  # as code, whatever marks are in them
    named = ", ".join(names) + ", …" * (len(source.classes) > _MANY_LABELS)
    yield "## Data\n"
    yield f"- {source.name}: {counts} images; sha256 of training and validation\n  `{source.sha256()}`."
    yield f"- Classes: {named}."
    if source.skipped:
        yield f"- {len(source.skipped)} files that could not be read were left out."


def _accuracy(task: Task, facts: CardFacts) -> Iterator[str]:
    yield "## Accuracy\n"
    if not facts.accuracies:
        yield "Not measured."
        return
    yield "| this model, on | images | accuracy | 95 % interval of so many images |"
    yield "|---|--:|--:|--:|"
    for name, accuracy in facts.accuracies.items():
        split = next((split for split in (Split.VALIDATION, Split.TEST) if name.startswith(split.value)), None)
        images = task.source.count(split) if split is not None else 0
        interval = "–"
        if images and name == split:  # of a balanced accuracy there is no such simple one
            low, high = share_interval(accuracy, count=images)
            interval = f"{100 * low:.1f} to {100 * high:.1f} %"
        yield f"| {name} | {images or '–'} | {100 * accuracy:.1f} % | {interval} |"
    confirmation, adapted = facts.provenance.confirmation, facts.provenance.adapted
    if adapted is not None:
        yield f"\nBefore it went on learning, it was right on {100 * adapted.test_before:.1f} % of the test images."
    elif confirmation is not None:
        metric = facts.provenance.training.metric if facts.provenance.training is not None else Metric.ACCURACY
        yield from _confirmed(confirmation, metric)
    else:
        yield "\nTrained once: another seed gives another accuracy, and the best of many is too good to be true."


def _confirmed(confirmation: Confirmation, metric: Metric) -> Iterator[str]:
    seeds = ", ".join(str(run.seed) for run in confirmation.runs)
    epochs = format_count(confirmation.epochs, "epoch")
    yield f"\nThe design, trained anew for {epochs} from each of the seeds {seeds}; this model is the first of them:\n"
    yield "| on | mean over seeds | each |"
    yield "|---|--:|---|"
    yield _seeds_row(metric.of("validation"), confirmation.validation_accuracies)
    if confirmation.test_accuracies:
        yield _seeds_row(metric.of("test"), confirmation.test_accuracies)
    if len(confirmation.runs) >= INTERVAL_SEEDS:
        yield "\n± is half the 95 % interval of the mean (Student's t)."


def _seeds_row(name: str, accuracies: Sequence[float]) -> str:
    mean, half = mean_and_interval(accuracies)
    spread = f" ± {100 * half:.1f}" if half is not None and len(accuracies) >= INTERVAL_SEEDS else ""
    return f"| {name} | {100 * mean:.1f}{spread} % | {', '.join(f'{100 * value:.1f}' for value in accuracies)} % |"


def _memory(resolved: ResolvedDesign, task: Task, facts: CardFacts) -> Iterator[str]:
    memory, provenance = facts.memory, facts.provenance
    yield "## Memory of one training step\n"
    yield "The accounts count different things and are not to be compared with each other.\n"
    yield "| account | counts | total | is the sum of |"
    yield "|---|---|--:|---|"
    for figure in compare_accounts(resolved, classes=task.classes, batch=memory.batch, slopes=memory.slopes):
        if figure.schedule in (None, memory.schedule):
            yield _account_row(figure)
    macs, forward = format_number(memory.macs), format_number(memory.forward_macs)
    yield f"\nFlash: {format_size(memory.flash_bytes)}. MACs: {macs} per step, {forward} forward."
    if provenance.limits is not None:
        flash = f", {format_size(provenance.limits.flash_bytes)} of flash" if provenance.limits.flash_bytes else ""
        ram = format_size(provenance.limits.ram_bytes)
        yield f"The study's target: {provenance.board or 'a budget'}, {ram} of RAM{flash}."


def _account_row(figure: AccountFigure) -> str:
    schedule = f", schedule {figure.schedule.value}" if figure.schedule is not None else ""
    if figure.total_bytes is None:
        return f"| {figure.account.value} | {figure.account.meaning} | – | {figure.missing} |"
    is_paper = figure.account is Account.PAPER
    terms = ", ".join(f"{name} {_size(size, in_mb=is_paper)}" for name, size in figure.terms)
    total = _size(figure.total_bytes, in_mb=is_paper)
    what = f"{figure.account.meaning}; micro-batch {figure.batch}{schedule}"
    return f"| {figure.account.value} | {what} | {total} | {terms} |"


def _size(size_bytes: int, *, in_mb: bool) -> str:
    return f"{size_bytes / _PAPER_MB:.2f} MB" if in_mb else format_size(size_bytes)


def _limits(resolved: ResolvedDesign, task: Task, facts: CardFacts) -> Iterator[str]:
    design, memory = resolved.design, facts.memory
    yield "## Limits\n"
    yield "- The accuracies are those on the images above; other cameras, light or classes were not tried."
    yield "- Every image gets one of the labels, however little it has of them: there is no class for anything else."
    yield "- An image is its centre square, bilinear to the resolution, as `model.py` reads it; other cropping or"
    yield "  resizing gives other logits."
    yield "- The memory is that of a plan: buffers in the arena and what outlives a step. Stack, code, camera buffer"
    yield "  and the scratch of your kernels come on top. `plan.h` holds no kernels."
    if design.activation_bits == 8:
        yield "- int8 is simulated with whole numbers in floats, exactly as fixed-point multipliers compute; the"
        yield "  Rep-Net's modules and the head are float32. No device was measured."
        yield from _saturation(facts.provenance.saturation)
    if facts.has_onnx and design.activation_bits == 8:
        yield "- `model.onnx` holds these whole numbers in float32 operators: it has no int8 kernels, nor their speed."
        if any(connector.exchange.writes for connector in design.connectors):
            yield "  Where a connector writes to the backbone, its float32 may round to the neighbouring code: rarely,"
            yield "  an image's logits differ from those of `model.py` by some hundredths of the largest."
    if memory.slopes.value != "exact":
        yield f"- The device keeps slopes of smooth activations in {memory.slopes.value}; here they were exact."
    yield from _licences(resolved, task)


def _licences(resolved: ResolvedDesign, task: Task) -> Iterator[str]:
    """Yields under which licences the parts are; of what the project does not carry it knows none."""
    if task.source.kind is DataKind.EMBEDDED:
        yield "- Images: Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, UCI Machine"
        yield "  Learning Repository, doi:10.24432/C50P49, CC BY 4.0."
    else:
        yield "- Images: their licence is not known here; ask where they come from."
    if task.weights_of(resolved.design.backbone).name == EMBEDDED_NAME:
        yield "- The backbone's weights are those of repnet-search, Apache-2.0."
    else:
        yield "- The backbone's weights: their licence is not known here; ask where they come from."
    yield "- What repnet-search adds, `model.py` and the plan, is under its own licence, Apache-2.0."


def _saturation(saturation: Sequence[tuple[int, float]]) -> Iterator[str]:
    worst = max(saturation, key=lambda entry: entry[1], default=None)
    if worst is not None:
        share = f"{100 * worst[1]:.2f} %"
        yield f"- The search saw at most {share} of b clamped behind a connector, that after block {worst[0]}."
