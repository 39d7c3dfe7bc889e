"""The frozen backbone in int8, as a microcontroller runs it, trainable around and through.

Between blocks, features are real values on their tensor's int8 grid; inside a block all is integer
(models/quantised_block.py). Behind a writing connector the sum is brought back to int8 on a grid with head-room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from repnet_search.backbones import BlockTable
from repnet_search.models.calibration import Calibration
from repnet_search.models.lean import apply
from repnet_search.models.quantisation import QuantParams, pass_unclamped, requantise
from repnet_search.models.quantised_block import QuantisedBlock, QuantisedConv

HEADROOM = 1.5
"""How much wider than the frozen feature's range the grid behind a writing connector is."""


class _Requantise(Function):
    """Real values onto a grid; the gradient passes where nothing was clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, params: QuantParams) -> Tensor:
        codes = requantise(x.double() / params.scale, params)
        ctx.save_for_backward(codes)
        ctx.params = params
        return (codes * params.scale).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (codes,) = ctx.saved_tensors
        return pass_unclamped(gradient, codes, ctx.params), None


class QuantisedMerge(nn.Module):
    """b behind a writing connector: the sum in fp32, brought back to int8 on a grid with head-room.

    `saturated` and `merged` count the elements that were clamped and all of them, in evaluation mode.
    """

    def __init__(self, params: QuantParams) -> None:
        super().__init__()
        self.params = params
        self.saturated = 0
        self.merged = 0

    def forward(self, x: Tensor) -> Tensor:
        """Returns x (N, C, H, W) on the grid."""
        output: Tensor = apply(_Requantise, x, self.params)
        if not self.training:
            self.saturated += int(((output - x).abs() > self.params.scale).sum())
            self.merged += x.numel()
        return output


class QuantisedBackbone(nn.Module):
    """All blocks in int8; behind each block that a connector writes to, its merge."""

    def __init__(
        self,
        table: BlockTable,
        weights: Mapping[str, Tensor],
        calibration: Calibration,
        *,
        written: tuple[int, ...] = (),
        train_bias: bool = False,
    ) -> None:
        """Quantises folded weights.

        Args:
            table: what the backbone is made of.
            weights: its folded weights.
            calibration: the ranges of its activations at the design's resolution.
            written: the blocks behind which a connector writes.
            train_bias: whether all biases train.

        Raises:
            SpecError: the table has `SMOOTH_PARTS`.
        """
        super().__init__()
        table.check_int8()
        self.image = calibration.params("image")
        self.blocks = nn.ModuleList()
        self.merges = nn.ModuleDict()
        params = self.image
        for index, block in enumerate(table.blocks):
            quantised = QuantisedBlock(block, index, weights, calibration, params)
            self.blocks.append(quantised)
            params = quantised.output
            if index in written:
                params = calibration.params(f"b{index}", headroom=HEADROOM)
                self.merges[str(index)] = QuantisedMerge(params)
        for module in self.modules():
            if isinstance(module, QuantisedConv):
                module.bias.requires_grad_(train_bias)

    def quantise_image(self, image: Tensor) -> Tensor:
        """Returns a normalised image (N, 3, H, W), whole or pooled, on the image's grid; a device looks it up."""
        return self.image.quantise(image) * self.image.scale

    def feature_grid(self, block: int | None) -> QuantParams:
        """Returns the grid of a block's output, which a merge may change, or of the image for None."""
        output = self.image if block is None else self.blocks[block].output
        assert isinstance(output, QuantParams)
        return output

    def merge(self, after_block: int, feature: Tensor) -> Tensor:
        """Returns b behind the connector after a block."""
        merged: Tensor = self.merges[str(after_block)](feature)
        return merged

    def saturation(self) -> dict[int, float]:
        """Returns the share of clamped elements behind each writing connector, counted in evaluation mode."""
        merges = {name: merge for name, merge in self.merges.items() if isinstance(merge, QuantisedMerge)}
        return {int(block): merge.saturated / max(1, merge.merged) for block, merge in merges.items()}

    def forward(self, x: Tensor) -> Tensor:
        """Returns the last block's output for a normalised image (N, 3, H, W)."""
        x = self.quantise_image(x)
        for block in self.blocks:
            x = block(x)
        return x
