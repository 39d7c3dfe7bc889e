"""Weights files of one backbone in several widths: which width a file has, and which file a width takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from repnet_search.backbones import has_widths
from repnet_search.errors import WeightsError
from repnet_search.models.weight_shapes import describe_backbone, describe_fitting, fits, list_widths
from repnet_search.models.weights import PRETRAINED, BackboneWeights, load_state, load_weights
from repnet_search.spec.design import BackboneSpec


def find_width(path: Path, backbone: BackboneSpec) -> BackboneSpec:
    """Returns the backbone in the width of a file, told from its shapes; as it is where the file has no common width.

    Args:
        path: a safetensors file, or `PRETRAINED`, which comes in any width.
        backbone: in the width to prefer.

    Raises:
        WeightsError: the file cannot be read.
    """
    if path == PRETRAINED or not has_widths(backbone.name):
        return backbone
    state = load_state(path)
    return next((width for width in (backbone, *list_widths(backbone)) if fits(state, width)), backbone)


def find_widths(paths: Sequence[Path], backbone: BackboneSpec) -> tuple[BackboneSpec, ...]:
    """Returns the backbone in the width of each file, the narrowest first, told from the files' shapes.

    Args:
        paths: safetensors files, as `load_weights` wants them.
        backbone: in any width; only common widths are recognised.

    Raises:
        WeightsError: a file cannot be read, fits the backbone in no common width, or has the width of another one; or
            the backbone has no widths.
    """
    if not has_widths(backbone.name):
        raise WeightsError(f"{backbone.name} comes in one width alone, but got {len(paths)} --weights; give one.")
    return pair_widths(paths, list_widths(backbone))


def pair_widths(paths: Sequence[Path], backbones: Sequence[BackboneSpec]) -> tuple[BackboneSpec, ...]:
    """Returns which of some backbones, all widths of one, the files fit, the narrowest first; raises `WeightsError`."""
    found: dict[BackboneSpec, Path] = {}
    for path in paths:
        state = load_state(path)
        backbone = next((candidate for candidate in backbones if fits(state, candidate)), None)
        if backbone is None:
            widths = ", ".join(f"{candidate.width_mult:g}" for candidate in backbones)
            other = describe_fitting(state, backbones[0]) or " Where they have another one, name all with --width-mult."
            raise WeightsError(
                f"The weights {path.name} fit {backbones[0].name} in none of the widths {widths}.{other}"
            )
        if backbone in found:
            raise WeightsError(
                f"Each of several --weights must be another width of {backbone.name}, but {found[backbone]} and {path} "
                f"are both --width-mult {backbone.width_mult:g}; leave one of them out."
            )
        found[backbone] = path
    return tuple(sorted(found, key=lambda spec: spec.width_mult))


def load_widths(
    backbones: Iterable[BackboneSpec], *, paths: Sequence[Path], input_range: str | None = None
) -> dict[BackboneSpec, BackboneWeights]:
    """Returns the weights of backbones, each from the file that fits it.

    Args:
        backbones: what weights are wanted of.
        paths: files, of which some may fit none of the backbones; none or one as `load_weights` takes it.
        input_range: overrides what the files say of their input.

    Raises:
        WeightsError: no file fits, or as `load_weights` does.
    """
    return {
        backbone: load_weights(backbone, path=_choose_file(backbone, paths), input_range=input_range)
        for backbone in backbones
    }


def _choose_file(backbone: BackboneSpec, paths: Sequence[Path]) -> Path | None:
    """Returns the file of a backbone; where there is one alone, that one, so that `load_weights` says what is wrong."""
    if len(paths) < 2:
        return next(iter(paths), None)
    for path in paths:
        if fits(load_state(path), backbone):
            return path
    names = ", ".join(path.name for path in paths)
    raise WeightsError(f"None of the weights {names} fits {describe_backbone(backbone)}; give its file too.")
