"""What a frozen backbone makes of training images, looked at before anything is trained.

Weights may fit key by key and be useless all the same: never trained, scaled, cut short, or given images in another
range than they were trained on. A few images on their way through the blocks, in fp32, tell dead, saturated, constant,
vanishing and exploding features from healthy ones. The limits below lie between two groups of cases, measured with this
code:

- healthy, 90 cases, none of which is reported: the embedded letters on digits (16 to 96 px) and CIFAR-10, an ImageNet
  MobileNetV2-0.35 on CIFAR-10 and digits (32 to 128 px), `create_random_backbone` of seven backbones and torchvision's
  initial weights of five (32 to 96 px), of which those of mobile networks are reported as vanishing alone. With 2
  images in place of 64 no share is above 0.75 either;
- broken, 90 cases, 85 of which are: both trained backbones with the weights of one block zero, all weights times 1e20
  to 0.01, biases shifted by 2 to 100 either way, in all blocks or in one, and images in a wrong range.

The other five are images a hundred times too narrow (0 to 1/255), of which features keep more than might be thought.
Ranges near each other (imagenet, -1,1 and 0,1) cannot be told apart either: they count as healthy above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import torch
from torch import Tensor, nn

from repnet_search.backbones import Activation, BlockTable
from repnet_search.data import Split
from repnet_search.errors import WeightsError
from repnet_search.models.backbone import FrozenBackbone, FrozenBlock
from repnet_search.spec.design import BackboneSpec
from repnet_search.spec.table import get_table
from repnet_search.training.task import Task

MOST_CLAMPED = 0.15
"""Of a place's ReLU6 units at 6. Healthy: 0.04 and less; images at 0..255: 0.27 and more; biases + 2: 0.22 and more."""
MOST_ZERO = 0.98
"""Of a place's ReLU or ReLU6 units at 0. Healthy: 0.73 and less, weights times ten 0.91; dead: 1."""
MOST_CONSTANT = 0.9
"""Of a place's channels, the same map for every image. Healthy: 0.75 and less; zero weights: 1; times 1e20: 0.95."""
MOST_FIRST_RMS = 10.0
"""Behind the first norm. Healthy: 1.9 and less; images at 0..255 where no ReLU6 stops them: 24 and more."""
LEAST_VARIATION = 0.005
"""Of the last feature. Healthy: 0.014 and more; biases + 5: 0.0009 and less; divided by 255 twice: 0.004 to 0.01."""
LEAST_RMS = 1e-4
"""Of the last feature. Healthy: 0.06 and more (random weights at 32 px; letters 0.86, an ImageNet backbone 2.5);
torchvision's initial weights of MobileNetV2, V3 and MnasNet, whose norms have no statistics yet: 1.2e-7 and less."""
CONSTANT_VARIATION = 1e-6
"""Rounding and no more: weights halved 2e-7 and less; a block without a way around it that passes nothing: 3e-16."""
MOST_MAGNITUDE = math.sqrt(torch.finfo(torch.float32).max)
"""The square of a larger value, which norms and losses take, is infinite in fp32."""

MOST_IMAGES = 64
LEAST_IMAGES = 16
MOST_MACS = 4_000_000_000
"""Of the passes in all, once there are LEAST_IMAGES.

On one core of a busy machine 0.1 s for the embedded default, 2 s for MobileNetV2 and 4 s for ResNet-50 at 224 px.
"""

_BATCH = 16
_ROUNDING = 1e-5  # of a channel's range over the images, by its largest value: batches differ in their last bits
_CEILING = 6.0


class Ailment(StrEnum):
    """What is wrong behind a convolution or a block."""

    SATURATED = "saturated"
    DEAD = "dead"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class PlaceHealth:
    """What was measured behind a convolution or a block; shares are in 0..1.

    Attributes:
        block: its number.
        activation: what comes last there.
        non_finite: share of elements that are NaN or infinite.
        constant: share of channels whose map is the same for every image; NaN where all images are the same.
        zero: share of elements at 0, behind a ReLU or ReLU6.
        clamped: share of elements at 6, behind a ReLU6.
        largest: the largest absolute value.
        rms: the root of the mean square.
    """

    block: int
    activation: Activation
    non_finite: float
    constant: float
    zero: float
    clamped: float
    largest: float
    rms: float

    @property
    def ailment(self) -> Ailment | None:
        """What is wrong here, the most telling first; None where nothing is."""
        if self.clamped > MOST_CLAMPED:
            return Ailment.SATURATED
        if self.zero > MOST_ZERO:
            return Ailment.DEAD
        return Ailment.CONSTANT if self.constant > MOST_CONSTANT else None

    def describe(self) -> str:
        """Returns what is wrong, in a clause; "" where nothing is."""
        units = "ReLU6" if self.activation is Activation.RELU6 else "ReLU"
        match self.ailment:
            case Ailment.SATURATED:
                return f"block {self.block} has {_percent(self.clamped)} of its {units} units stopped at 6"
            case Ailment.DEAD:
                return f"block {self.block} has {_percent(self.zero)} of its {units} units at 0"
            case Ailment.CONSTANT:
                return f"block {self.block} has {_percent(self.constant)} of its channels the same for every image"
        return ""


@dataclass(frozen=True, slots=True)
class FeatureHealth:
    """How the features of a backbone look on some images.

    Attributes:
        weights: their name.
        input_range: as it was written.
        images: how many there were.
        places: behind the convolutions of each block (those of a squeeze-and-excitation left out) and behind the block.
        variation: of the last feature, pooled: the part of its norm that is not the mean over the images; NaN where all
            images are the same.
        first_norm: whether a norm follows the first convolution.
    """

    weights: str
    input_range: str
    images: int
    places: tuple[PlaceHealth, ...]
    variation: float
    first_norm: bool

    @property
    def error(self) -> str:
        """Why nothing can be learnt from these features, in a sentence; "" where something can."""
        broken = next((place for place in self.places if place.non_finite or place.largest > MOST_MAGNITUDE), None)
        if broken is not None and broken.non_finite:
            what = f"{_percent(broken.non_finite)} of block {broken.block}'s values are NaN or infinite"
            return self._sentence(f"{what} on training images")
        if broken is not None:
            what = f"block {broken.block} has values up to {broken.largest:.0e}"
            return self._sentence(f"{what}, too large to be squared")
        if self.variation <= CONSTANT_VARIATION:
            ill = next((f": {place.describe()}" for place in self.places if place.ailment), "")
            return self._sentence(f"the last feature is the same for all {self.images} training images tried{ill}")
        return ""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes these features poor, a sentence each; () where they are healthy."""
        found = [self._sentence(clause) for clause in self._poor_clauses()]
        if math.isnan(self.variation):
            found.append(f"All {self.images} training images that were tried are the same; check the images.")
        return tuple(found)

    def _poor_clauses(self) -> Iterator[str]:
        blocks: dict[int, PlaceHealth] = {}
        for place in self.places:
            if place.ailment is not None:
                blocks.setdefault(place.block, place)
        for ailment in Ailment:
            alike = [place for place in blocks.values() if place.ailment is ailment]
            if alike:
                more = f" ({len(alike)} blocks are like that)" if len(alike) > 1 else ""
                yield f"{alike[0].describe()}{more}"
        if self.first_norm and self.places[0].rms > MOST_FIRST_RMS:
            yield f"the first convolution's values are of size {self.places[0].rms:.0f} behind a norm, where 1 is usual"
        if self.places[-1].rms < LEAST_RMS:
            yield f"the last feature vanishes: its values are of size {self.places[-1].rms:.0e}, where 1 is usual"
        if self.variation < LEAST_VARIATION:
            yield f"the last feature differs by only {100 * self.variation:.1g} % between training images"

    def _sentence(self, clause: str) -> str:
        return (
            f"With the weights {self.weights} and --input-range {self.input_range}, {clause}; use the range that "
            "they were trained with, or other weights."
        )


def check_features(task: Task, backbone: BackboneSpec, *, resolution: int) -> FeatureHealth:
    """Returns how one of a task's backbones does on some of its training images.

    Raises:
        WeightsError: nothing can be learnt from its features.
        DataError: an image cannot be decoded.
    """
    images = task.source.load(Split.TRAIN, resolution=resolution).images
    count = min(MOST_IMAGES, max(LEAST_IMAGES, MOST_MACS // get_table(backbone).count_macs(resolution)), len(images))
    # Spread evenly, so that every class has its part.
    chosen = images[torch.linspace(0, len(images) - 1, count).round().long()]
    health = measure_health(task, backbone, chosen)
    if health.error:
        raise WeightsError(health.error)
    return health


def measure_health(task: Task, backbone: BackboneSpec, images: Tensor) -> FeatureHealth:
    """Returns how one of a task's backbones does on images, uint8 of N 3 H W."""
    table, weights = get_table(backbone), task.weights_of(backbone)
    frozen = FrozenBackbone(table, weights.tensors).to(task.device).eval()
    watches = tuple(_watch(frozen, table))
    pooled = []
    with torch.inference_mode():
        for batch in images.split(_BATCH):
            out = frozen(weights.input_range.normalise(batch.to(task.device)))
            pooled.append(out.mean((2, 3), dtype=torch.float64))
    differ = bool((images != images[:1]).any())
    return FeatureHealth(
        weights=weights.name,
        input_range=weights.input_range.text,
        images=len(images),
        places=tuple(watch.place(images_differ=differ) for watch in watches),
        variation=_variation(torch.cat(pooled)) if differ else math.nan,
        first_norm=bool(next(table.convs()).norm_key),
    )


def _watch(backbone: FrozenBackbone, table: BlockTable) -> Iterator[_Watch]:
    """Yields what takes note of each place, hooked in: of a chain each convolution, and what a block does behind it."""
    modules = [module for module in backbone.modules() if isinstance(module, FrozenBlock)]
    for index, (module, block) in enumerate(zip(modules, table.blocks, strict=True)):
        hooked: list[tuple[nn.Module, Activation]] = [
            (conv, spec.activation) for conv, spec in zip(module.convs, block.convs, strict=True)
        ]
        if block.residual or block.max_pool or block.activation is not Activation.NONE:
            hooked.append((module, block.activation))
        for hooked_module, activation in hooked:
            watch = _Watch(index, activation)
            hooked_module.register_forward_hook(partial(_note, watch))
            yield watch


def _note(watch: _Watch, _: nn.Module, __: object, output: Tensor) -> None:
    watch.add(output)


class _Watch:
    """Adds up what passes a place, batch by batch."""

    def __init__(self, block: int, activation: Activation) -> None:
        self.block, self.activation = block, activation
        self.elements = self.non_finite = self.zero = self.clamped = 0
        self.squares = 0.0
        self.low = self.high = torch.empty(0)

    def add(self, values: Tensor) -> None:
        """Takes note of a batch of maps (N, C, H, W)."""
        norm = float(torch.linalg.vector_norm(values))
        if not math.isfinite(norm):  # as of large finite values too
            self.non_finite += int((~values.isfinite()).sum())
        self.squares += norm**2
        if self.activation.is_clamp:
            self.zero += int((values == 0).sum())
        if self.activation is Activation.RELU6:
            self.clamped += int((values == _CEILING).sum())
        low, high = torch.aminmax(values, dim=0)
        self.low = torch.minimum(self.low, low) if self.elements else low
        self.high = torch.maximum(self.high, high) if self.elements else high
        self.elements += values.numel()

    def place(self, *, images_differ: bool) -> PlaceHealth:
        """Returns what was found."""
        largest = torch.maximum(self.low.abs(), self.high.abs()).amax((1, 2))
        constant = (self.high - self.low).amax((1, 2)) <= _ROUNDING * largest
        return PlaceHealth(
            block=self.block,
            activation=self.activation,
            non_finite=self.non_finite / self.elements,
            constant=float(constant.float().mean()) if images_differ else math.nan,
            zero=self.zero / self.elements,
            clamped=self.clamped / self.elements,
            largest=float(largest.max()),
            rms=math.sqrt(self.squares / self.elements),
        )


def _variation(features: Tensor) -> float:
    """Returns the share of the norm of features (N, C) that is not their mean over the images."""
    return float((features - features.mean(0)).norm() / features.norm().clamp_min(torch.finfo(features.dtype).tiny))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
