"""The backbones by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from repnet_search.backbones.mnasnet import create_mnasnet
from repnet_search.backbones.mobilenet_v2 import create_mobilenet_v2
from repnet_search.backbones.mobilenet_v3 import create_mobilenet_v3_large, create_mobilenet_v3_small
from repnet_search.backbones.proxylessnas_mobile import create_proxylessnas_mobile
from repnet_search.backbones.resnet import create_resnet18, create_resnet34, create_resnet50
from repnet_search.backbones.table import BlockTable
from repnet_search.errors import SpecError, suggest


@dataclass(frozen=True, slots=True)
class _Backbone:
    """How a backbone's table is made of a width and whether its last 1×1 convolution stays; which of them it has."""

    create: Callable[[float, bool], BlockTable]
    default_width_mult: float = 1.0
    has_widths: bool = False
    has_last_conv: bool = False


_BACKBONES = {
    "mnasnet": _Backbone(
        lambda width_mult, last_conv: create_mnasnet(width_mult=width_mult, last_conv=last_conv),
        default_width_mult=0.5,
        has_widths=True,
        has_last_conv=True,
    ),
    "mobilenet_v2": _Backbone(
        lambda width_mult, last_conv: create_mobilenet_v2(width_mult=width_mult, last_conv=last_conv),
        default_width_mult=0.35,
        has_widths=True,
        has_last_conv=True,
    ),
    "mobilenet_v3_large": _Backbone(
        lambda width_mult, last_conv: create_mobilenet_v3_large(width_mult=width_mult, last_conv=last_conv),
        has_widths=True,
        has_last_conv=True,
    ),
    "mobilenet_v3_small": _Backbone(
        lambda width_mult, last_conv: create_mobilenet_v3_small(width_mult=width_mult, last_conv=last_conv),
        has_widths=True,
        has_last_conv=True,
    ),
    "proxylessnas_mobile": _Backbone(
        lambda _, last_conv: create_proxylessnas_mobile(last_conv=last_conv), has_last_conv=True
    ),
    "resnet18": _Backbone(lambda *_: create_resnet18()),
    "resnet34": _Backbone(lambda *_: create_resnet34()),
    "resnet50": _Backbone(lambda *_: create_resnet50()),
}


def list_backbones() -> tuple[str, ...]:
    """Returns the names that `get_block_table` knows."""
    return tuple(sorted(_BACKBONES))


def default_width_mult(name: str) -> float:
    """Returns the width of a backbone where none is asked for.

    Raises:
        SpecError: there is no such backbone.
    """
    return _backbone(name).default_width_mult


def has_widths(name: str) -> bool:
    """Whether a backbone comes in any width, not in width 1 alone; raises as `default_width_mult` does."""
    return _backbone(name).has_widths


def has_last_conv(name: str) -> bool:
    """Whether a backbone has a last 1×1 convolution to keep or to cut off; raises as `default_width_mult` does."""
    return _backbone(name).has_last_conv


@lru_cache(maxsize=32)
def get_block_table(name: str, *, width_mult: float, last_conv: bool) -> BlockTable:
    """Returns the block table of a backbone.

    Raises:
        SpecError: there is no such backbone, or not in this width or with a last convolution.
    """
    backbone = _backbone(name)
    if width_mult != 1.0 and not backbone.has_widths:
        raise SpecError(f"{name} comes in width 1 alone, but got {width_mult}; leave --width-mult out.")
    if last_conv and not backbone.has_last_conv:
        raise SpecError(f"{name} has no last 1x1 convolution to keep, but got --last-conv; leave it out.")
    return backbone.create(width_mult, last_conv)


def is_own(name: str) -> bool:
    """Whether a name is a network of the user's own, path/to/file.py:function."""
    return ".py:" in name


def _refuse_own(*_: object) -> BlockTable:
    raise SpecError(
        "A backbone of your own must be traced into the design, but this one is not; name it on the command line, "
        "such as: repnet-search estimate --preset paper --backbone FILE.py:FUNCTION."
    )


def _backbone(name: str) -> _Backbone:
    if is_own(name):
        return _Backbone(_refuse_own)
    if name not in _BACKBONES:
        raise SpecError(
            f"The backbone must be one of {', '.join(list_backbones())}, or your own by --backbone FILE.py:FUNCTION, "
            f"but got {name!r}." + suggest(name, _BACKBONES)
        )
    return _BACKBONES[name]
