"""The reference methods: a backbone without a Rep-Net, its norms apart, of which head, norms or everything trains."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from repnet_search.backbones import SMOOTH_PARTS, Activation, Block, BlockTable, Conv
from repnet_search.errors import SpecError
from repnet_search.graph import Trained

_ACTIVATIONS = {Activation.NONE: nn.Identity, Activation.RELU: nn.ReLU, Activation.RELU6: nn.ReLU6}


class NormedConv(nn.Conv2d):
    """A convolution, its batch norm, then its activation: (N, C_in, H, W) → (N, C_out, H', W')."""

    def __init__(self, conv: Conv, *, norm_eps: float) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel,
            stride=conv.stride,
            padding=conv.kernel // 2,
            groups=conv.groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(conv.out_channels, eps=norm_eps)
        self.activate = _ACTIVATIONS[conv.activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalised and activated convolution."""
        output: Tensor = self.activate(self.norm(super().forward(x)))
        return output


class NormedBlock(nn.Module):
    """A block of the table: convolutions in a chain and, where it has them, shortcut, activation and max pool."""

    def __init__(self, block: Block, *, norm_eps: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(NormedConv(conv, norm_eps=norm_eps) for conv in block.convs)
        self.shortcut = NormedConv(block.shortcut, norm_eps=norm_eps) if block.shortcut is not None else None
        self.residual = block.residual
        self.activate = _ACTIVATIONS[block.activation]()
        self.max_pool = block.max_pool

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's output (N, C_i, H_i, W_i); a block without convolutions returns `x` itself."""
        out = x
        for conv in self.convs:
            out = conv(out)
        if self.residual:
            out = (x if self.shortcut is None else self.shortcut(x)) + out
        out = self.activate(out)
        return functional.max_pool2d(out, 3, stride=2, padding=1) if self.max_pool else out


class NormedBackbone(nn.Module):
    """All blocks in order, with the norms apart from the convolutions.

    Norms that train take their statistics from the batch; those that do not keep their running ones in training too.
    """

    def __init__(
        self,
        table: BlockTable,
        *,
        trained: Trained = Trained.DESIGN,
        train_bias: bool = False,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Builds the backbone and sets what of it trains.

        Args:
            table: what the backbone is made of.
            trained: everything, the norms, or with `design` nothing but what `train_bias` says.
            train_bias: whether the shifts of all norms train, which are all the biases that there are.
            state: pretrained values under the key names of the backbone's origin, as its safetensors file has them;
                without it the backbone is as torch initialises it.

        Raises:
            KeyError: `state` lacks a key of the table.
            SpecError: the backbone has `SMOOTH_PARTS`.
        """
        super().__init__()
        if table.has_smooth_parts:
            raise SpecError(
                f"{table.name} has {SMOOTH_PARTS}, through which this version trains no whole network; use another "
                "backbone."
            )
        self.norms_train = trained is not Trained.DESIGN
        self.blocks = nn.ModuleList(NormedBlock(block, norm_eps=table.norm_eps) for block in table.blocks)
        for conv, spec in zip(self._convs(), table.convs(), strict=True):
            if state is not None:
                _load(conv, spec, state)
            conv.weight.requires_grad_(trained is Trained.EVERYTHING)
            conv.norm.weight.requires_grad_(self.norms_train)
            conv.norm.bias.requires_grad_(self.norms_train or train_bias)

    def _convs(self) -> list[NormedConv]:
        return [module for module in self.modules() if isinstance(module, NormedConv)]

    def train(self, mode: bool = True) -> NormedBackbone:
        """Sets training or evaluation; norms that do not train stay in evaluation."""
        super().train(mode)
        for conv in self._convs():
            conv.norm.train(mode and self.norms_train)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Returns the last block's output for a normalised image (N, 3, H, W)."""
        for block in self.blocks:
            x = block(x)
        return x


class FineTunedBackbone(nn.Module):
    """A backbone and a head: normalised images (N, 3, H, W) → logits (N, classes).

    Parameters have the names that the graph of the same method gives them. The head starts at 0, as a Rep-Net's does.
    """

    def __init__(
        self,
        table: BlockTable,
        *,
        classes: int,
        trained: Trained,
        train_bias: bool = False,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Builds the method; see `NormedBackbone` for the arguments; `classes` are the outputs of the head."""
        super().__init__()
        self.backbone = NormedBackbone(table, trained=trained, train_bias=train_bias, state=state)
        self.head = nn.Linear(table.feature_channels, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.train()

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits (N, classes)."""
        pooled = functional.adaptive_avg_pool2d(self.backbone(image), 1).flatten(1)
        logits: Tensor = self.head(pooled)
        return logits


def _load(conv: NormedConv, spec: Conv, state: Mapping[str, Tensor]) -> None:
    """Copies a convolution's weight and its norm's parameters and running statistics in."""
    with torch.no_grad():
        conv.weight.copy_(state[f"{spec.key}.weight"])
        for name, value in chain(conv.norm.named_parameters(), conv.norm.named_buffers()):
            if name != "num_batches_tracked":
                value.copy_(state[f"{spec.norm_key}.{name}"])
