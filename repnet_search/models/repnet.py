"""The whole model of a design: frozen backbone, Rep-Net modules, activation connectors, head.

Notation: b is the running backbone feature, after block i of shape (N, C_i, H_i, W_i); r the Rep-Net's stream; s_j the
output of module j.

[Yang2022repnet] L. Yang, A. S. Rakin, D. Fan, Rep-Net: Efficient On-Device Learning via Feature Reprogramming, CVPR
2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.errors import SpecError
from repnet_search.models.backbone import FrozenBackbone
from repnet_search.models.calibration import Calibration
from repnet_search.models.module import RepNetModule
from repnet_search.models.quantisation import QuantParams
from repnet_search.models.quantised import QuantisedBackbone
from repnet_search.spec.design import Exchange
from repnet_search.spec.resolve import ResolvedDesign


class Prefix(NamedTuple):
    """What no trainable parameter influences: it is the same at every step, so it can be computed once per image.

    `stream` is r_0 (empty without connectors); `features` are b at each connector that only reads in front of the
    first writer; `feature` is b after block `blocks - 1` where the gradient path begins.
    """

    stream: Tensor
    features: tuple[Tensor, ...]
    feature: Tensor


class RepNet(nn.Module):
    """A frozen backbone with its side network: normalised images (N, 3, H, W) → logits (N, classes)."""

    def __init__(
        self,
        resolved: ResolvedDesign,
        weights: Mapping[str, Tensor],
        *,
        classes: int,
        calibration: Calibration | None = None,
    ) -> None:
        """Builds the design as exactly the frozen backbone: every γ and the head start at 0.

        Args:
            resolved: the design in its explicit form.
            weights: the folded backbone weights (see models/weights.py).
            classes: outputs of the head.
            calibration: the ranges of the backbone's activations, which an int8 backbone needs.
        """
        super().__init__()
        design = resolved.design
        self.image_pool = design.image_pool
        self.shapes = resolved.modules
        self.head_reads_stream = resolved.head_reads_stream
        self.calibration = calibration
        self.backbone = _create_backbone(resolved, weights, calibration)
        self.repnet = nn.ModuleList(RepNetModule(shape) for shape in resolved.modules)
        self.gammas = nn.ParameterList(
            nn.Parameter(torch.zeros(shape.out_channels)) if shape.exchange.writes else None
            for shape in resolved.modules
        )
        self.head = nn.Linear(resolved.feature_channels, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.prefix_modules = 0 if design.train_bias else _leading_readers(resolved)
        self.prefix_blocks = _prefix_blocks(resolved)

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits (N, classes)."""
        return self.adapt(self.prefix(image))

    def prefix(self, image: Tensor) -> Prefix:
        """Returns what the frozen part computes in front of the gradient path."""
        pooled = self.read_image(image, pool=self.image_pool) if len(self.repnet) else image.new_zeros(len(image), 0)
        features = []
        feature = self.read_image(image)
        done = 0
        for block in (*self.prefix_readers, self.prefix_blocks - 1):
            feature = self.run_blocks(feature, done, block + 1)
            features.append(feature)
            done = block + 1
        return Prefix(pooled, tuple(features[:-1]), feature)

    @property
    def prefix_readers(self) -> tuple[int, ...]:
        """The blocks behind which connectors only read, in front of the first that writes."""
        return tuple(shape.after_block for shape in self.shapes[: self.prefix_modules])

    def read_image(self, image: Tensor, *, pool: int | None = None) -> Tensor:
        """Returns what enters the backbone, or with `pool` the Rep-Net, of a normalised image (N, 3, H, W)."""
        pooled = image if pool is None else functional.avg_pool2d(image, pool)
        return self.backbone.quantise_image(pooled) if isinstance(self.backbone, QuantisedBackbone) else pooled

    def run_blocks(self, feature: Tensor, start: int, stop: int) -> Tensor:
        """Returns what the backbone's blocks from `start` to before `stop` make of a feature (N, C, H, W)."""
        for block in self.backbone.blocks[start:stop]:
            feature = block(feature)
        return feature

    def feature_grid(self, block: int | None) -> QuantParams | None:
        """Returns the grid that the image, or b in front of the first merge behind a block, is on; None in fp32."""
        if not isinstance(self.backbone, QuantisedBackbone):
            return None
        return self.backbone.feature_grid(block)

    def adapt(self, prefix: Prefix) -> Tensor:
        """Returns the logits from the frozen part's features."""
        stream, features, feature = prefix
        block_input = feature  # the first writer never reads it: with block_input every connector writes
        for index, read in enumerate(features):
            stream = self.repnet[index](stream) + read
        done = len(features)
        connectors = {shape.after_block: done + i for i, shape in enumerate(self.shapes[done:])}
        for index in range(max(0, self.prefix_blocks - 1), len(self.backbone.blocks)):
            if index >= self.prefix_blocks:
                block_input = feature
                feature = self.backbone.blocks[index](feature)
            if index in connectors:
                feature, stream = self._connect(connectors[index], stream, feature, block_input)
        return self._head(feature, stream)

    def _connect(self, index: int, stream: Tensor, feature: Tensor, block_input: Tensor) -> tuple[Tensor, Tensor]:
        """Runs module j, then the exchange [Yang2022repnet]; returns the new b and r_j."""
        shape = self.shapes[index]
        s = self.repnet[index](block_input if shape.reads_block_input else stream)
        if not shape.exchange.writes:
            return feature, s + feature
        feature = feature + self.gammas[index].view(-1, 1, 1) * s
        if isinstance(self.backbone, QuantisedBackbone):
            feature = self.backbone.merge(shape.after_block, feature)
        return feature, feature if shape.exchange is Exchange.BOTH else s

    def _head(self, feature: Tensor, stream: Tensor) -> Tensor:
        pooled = functional.adaptive_avg_pool2d(feature, 1).flatten(1)
        if self.head_reads_stream:
            pooled = torch.cat([pooled, functional.adaptive_avg_pool2d(stream, 1).flatten(1)], dim=1)
        return self.head(pooled)  # type: ignore[no-any-return]  # nn.Module.__call__ is typed Any

    def trainable_state(self) -> dict[str, Tensor]:
        """Returns the trainable parameters and norm statistics by name: what training changes, and nothing else."""
        trained = {name: value.detach() for name, value in self.named_parameters() if value.requires_grad}
        buffers = {f"repnet.{name}": value for name, value in self.repnet.named_buffers()}
        return trained | buffers

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `trainable_state` gave.

        Raises:
            KeyError: a name is missing or unknown.
            RuntimeError: a shape differs.
        """
        own = self.trainable_state()
        if own.keys() != state.keys():
            raise KeyError(sorted(own.keys() ^ state.keys())[0])
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])

    def saturation(self) -> dict[int, float]:
        """Returns the share of clamped elements of b behind each writing connector of an int8 backbone, by its block.

        Counted in evaluation mode since the model was made.
        """
        return self.backbone.saturation() if isinstance(self.backbone, QuantisedBackbone) else {}

    def head_parameters(self) -> list[nn.Parameter]:
        """Returns the head's parameters, which `head_lr_ratio` applies to."""
        return list(self.head.parameters())


def _create_backbone(
    resolved: ResolvedDesign, weights: Mapping[str, Tensor], calibration: Calibration | None
) -> FrozenBackbone | QuantisedBackbone:
    design = resolved.design
    if design.activation_bits == 32:
        return FrozenBackbone(resolved.table, weights, train_bias=design.train_bias)
    if calibration is None:
        raise SpecError(
            "A design with activation_bits 8 needs the ranges of its backbone's activations, but there is no "
            "calibration; calibrate on training images (models/calibration.py)."
        )
    written = tuple(shape.after_block for shape in resolved.modules if shape.exchange.writes)
    return QuantisedBackbone(resolved.table, weights, calibration, written=written, train_bias=design.train_bias)


def _leading_readers(resolved: ResolvedDesign) -> int:
    """Returns how many modules come in front of the first writer: they read features that never change."""
    return len(resolved.modules) if resolved.first_writer is None else resolved.first_writer


def _prefix_blocks(resolved: ResolvedDesign) -> int:
    """Returns how many blocks run before the first gradient: up to the first writer's, all where none writes."""
    if resolved.design.train_bias:
        return 0
    writer = resolved.first_writer
    return len(resolved.table.blocks) if writer is None else resolved.modules[writer].after_block + 1
