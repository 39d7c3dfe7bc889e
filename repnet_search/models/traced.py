"""Bringing a backbone of one's own: a network is traced, cut into blocks, and checked to compute what they do.

[Reed2022fx] J. Reed et al., torch.fx: Practical Program Capture and Transformation for Deep Learning in Python,
MLSys 2022.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from repnet_search.backbones import Block
from repnet_search.errors import SpecError
from repnet_search.models.backbone import FrozenBackbone
from repnet_search.models.fx_blocks import cut_blocks
from repnet_search.models.fx_items import Item, PoolItem, all_convs, list_items
from repnet_search.models.fx_steps import NotCutError, list_steps
from repnet_search.models.user_module import UserModule, create_user_module
from repnet_search.models.weights import fold_weights
from repnet_search.spec.design import BackboneSpec
from repnet_search.spec.table import get_table
from repnet_search.spec.traced import describe_blocks

TOLERANCE = 1e-4
"""Of the largest feature: what folding norms and another order of summation may cost in float32."""

_CHECK_RESOLUTION = 96
_IMAGE_CHANNELS = 3
_WHAT_A_BLOCK_IS = (
    "A block is a chain of convolutions with batch norm and ReLU, ReLU6, h-swish or SiLU, with or without a shortcut "
    "or a squeeze-and-excitation; give a network of such blocks."
)
_DEFAULT_EPS = 1e-5


def trace_backbone(name: str, *, cut: tuple[str, ...] = ()) -> BackboneSpec:
    """Returns the backbone that `path/to/file.py:function` gives, traced [Reed2022fx] and cut into blocks.

    Args:
        name: the file and its function, which is called without arguments and returns an nn.Module.
        cut: submodules whose outputs end blocks; () cuts at every residual sum and module boundary.

    Raises:
        SpecError: the file cannot be used, or the network cannot be cut: says at which module and why.
    """
    user = create_user_module(name)
    try:
        items = list_items(list_steps(user.module))
        _check_channels(items)
        blocks = _with_stages(cut_blocks(user.module, items, cut))
        norm_eps = _norm_eps(items)
    except NotCutError as error:
        way_out = f"; {error.way_out}." if error.way_out else f". {_WHAT_A_BLOCK_IS}"
        raise SpecError(f"{name} cannot be cut into blocks, for {error.where}: {error.why}{way_out}") from error
    traced = describe_blocks(blocks, norm_eps=norm_eps, sha256=user.sha256)
    spec = BackboneSpec(name=name, width_mult=1.0, last_conv=False, traced=traced)
    _check(user, spec, items)
    return spec


def _with_stages(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Returns the blocks with their stages: runs of the same width on the same map; the stem is one of its own."""
    staged: list[Block] = []
    for block in blocks:
        if not staged:
            stage = 0
        else:
            last = staged[-1]
            shrinks = block.max_pool or block.pools_first or any(conv.stride > 1 for conv in block.convs)
            stage = last.stage + (shrinks or block.channels != last.channels or last.stage == 0)
        staged.append(replace(block, stage=stage))
    return tuple(staged)


def _check_channels(items: Iterable[Item]) -> None:
    """Raises NotCutError unless the first convolution reads RGB images."""
    first = next(iter(all_convs(items)))
    channels = first.conv.in_channels
    if channels != _IMAGE_CHANNELS:
        way_out = f"images are RGB, {_IMAGE_CHANNELS} channels: let the first convolution read those"
        raise NotCutError(first.where, f"it reads images of {channels} channel{'s'[: channels > 1]}", way_out=way_out)


def _norm_eps(items: Iterable[Item]) -> float:
    """Returns the ε of all norms.

    Raises:
        NotCutError: they do not agree.
    """
    found: float | None = None
    for item in all_convs(items):
        if item.norm_eps is None:
            continue
        if found is not None and item.norm_eps != found:
            raise NotCutError(item.conv.norm_key, f"its norm's eps is {item.norm_eps:g}, but others' is {found:g}")
        found = item.norm_eps
    return _DEFAULT_EPS if found is None else found


def _check(user: UserModule, spec: BackboneSpec, items: tuple[Item, ...]) -> None:
    """Checks that the blocks compute what the network does.

    Raises:
        SpecError: they do not.
    """
    features = [item for item in items if not (isinstance(item, PoolItem) and item.is_global)]
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, 3, _CHECK_RESOLUTION, _CHECK_RESOLUTION, generator=generator)
    table = get_table(spec)
    with torch.no_grad():
        try:
            wanted = _value_at(user.module, image, features[-1].end)
        except Exception as error:
            raise SpecError(
                f"{spec.name} must take images of {_CHECK_RESOLUTION} px, but raised {type(error).__name__}; run with "
                "--debug for its traceback."
            ) from error
        weights = fold_weights(user.module.state_dict(), table, name=f"of {spec.name}")
        found = FrozenBackbone(table, weights)(image)
    difference = float((found.flatten(1) - wanted.flatten(1)).abs().max() / wanted.abs().max().clamp_min(1e-12))
    if found.numel() != wanted.numel() or not difference <= TOLERANCE:
        raise SpecError(
            f"The blocks that {spec.name} was cut into do not compute what it computes (off by {difference:.0e} of the "
            "largest feature): it does something that tracing does not show, such as changing in place what is read "
            "again later."
        )


def _value_at(module: nn.Module, image: Tensor, node: fx.Node) -> Tensor:
    """Returns what a network computes at a node."""
    recorder = _Recorder(fx.GraphModule(module, node.graph), node.name)
    recorder.run(image)
    assert recorder.value is not None
    return recorder.value


class _Recorder(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, name: str) -> None:
        super().__init__(module)
        self._name = name
        self.value: Tensor | None = None

    def run_node(self, n: fx.Node) -> Any:
        """Returns a node's value, and keeps a copy of the one that is asked for, which may change in place."""
        value = super().run_node(n)
        if n.name == self._name:
            self.value = value.clone()
        return value
