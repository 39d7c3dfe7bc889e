"""Backbone weights: read from safetensors with the key names of their origin, checked key by key, norms folded.

Nothing that a user gives is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from repnet_search.backbones import (
    Activation,
    Block,
    BlockTable,
    Conv,
    default_width_mult,
    has_last_conv,
    has_widths,
    list_backbones,
)
from repnet_search.errors import SpecError, WeightsError
from repnet_search.models.input_range import InputRange, parse_input_range
from repnet_search.models.user_module import load_own_state
from repnet_search.spec.design import BackboneSpec
from repnet_search.spec.table import get_table

EMBEDDED_BACKBONE = BackboneSpec(name="mobilenet_v2", width_mult=0.35, last_conv=False)
EMBEDDED_FILE = "letters_mobilenet_v2_w035_r48.safetensors"

PRETRAINED = Path("torchvision's own")
"""Stands for the path of torchvision's own weights, which are downloaded."""

_SHOWN_KEYS = 6
_COMMON_WIDTHS = (0.1, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
_CLASSIFIERS = ("classifier.", "fc.")
_RANDOM_BIAS_STD = 0.05
_RANDOM_RESIDUAL_GAIN = 0.2


@dataclass(frozen=True, slots=True)
class BackboneWeights:
    """Folded weights by convolution key (`KEY.weight`, `KEY.bias`), where they come from, and their input range."""

    tensors: Mapping[str, Tensor]
    name: str
    sha256: str
    input_range: InputRange


def load_weights(spec: BackboneSpec, *, path: Path | None, input_range: str | None = None) -> BackboneWeights:
    """Returns the weights of a backbone.

    Args:
        spec: the backbone that they must fit.
        path: a safetensors file with the key names of the backbone's origin (torchvision, ProxylessNAS, the user's own
            module); a classifier's keys are ignored. `PRETRAINED` means torchvision's own. None means the embedded
            letter weights, or of a user's own module the values that it is made with.
        input_range: overrides what the file says of its input ("imagenet" where it says nothing).

    Raises:
        WeightsError: the file is missing, truncated, a pickle, or belongs to another backbone; or torchvision's own are
            not to be had.
        SpecError: the user's own file cannot be used.
    """
    if path is None and spec.traced is not None:
        return _own_weights(spec, input_range)
    if path == PRETRAINED:
        path = _fetch_pretrained(spec)
    data = _embedded_bytes(spec) if path is None else _read(path)
    name = "letters (embedded)" if path is None else path.name
    try:
        state = load_safetensors(data)
        metadata = _metadata(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(
            f"The weights {name} are no readable safetensors file ({error}); it may be truncated: copy it again."
        ) from error
    range_text = input_range or metadata.get("input_range", "imagenet")
    return BackboneWeights(
        tensors=_fold(state, spec, name=name),
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        input_range=parse_input_range(range_text),
    )


def _own_weights(spec: BackboneSpec, input_range: str | None) -> BackboneWeights:
    """Returns the values that a user's own module is made with; their hash stands for the file's."""
    tensors = _fold(load_own_state(spec), spec, name=f"that {spec.name} makes")
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].numpy().tobytes())
    name = f"as {spec.name} makes them"
    return BackboneWeights(tensors, name, digest.hexdigest(), parse_input_range(input_range or "imagenet"))


def _fetch_pretrained(spec: BackboneSpec) -> Path:
    # torchvision takes a second to import, and nothing else here needs it.
    from repnet_search.models.pretrained import fetch_pretrained

    return fetch_pretrained(spec)


def create_random_weights(table: BlockTable, *, seed: int) -> dict[str, Tensor]:
    """Returns folded weights of a table that nothing was trained for, for tests and checks of computations.

    Drawn so that a normalised image neither dies nor explodes on its way [He2015delving]: variance 2 / fan-in in front
    of a ReLU, 1 / fan-in elsewhere, less at the end of a residual chain, which would double the variance each time.

    [He2015delving] K. He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    generator = torch.Generator().manual_seed(seed)
    weights: dict[str, Tensor] = {}
    for block in table.blocks:
        for conv in block.all_convs():
            shape = weight_shape(conv)
            std = math.sqrt(_random_gain(block, conv) / math.prod(shape[1:]))
            weights[f"{conv.key}.weight"] = torch.randn(shape, generator=generator) * std
            weights[f"{conv.key}.bias"] = torch.randn(conv.out_channels, generator=generator) * _RANDOM_BIAS_STD
    return weights


def create_random_backbone(spec: BackboneSpec, *, seed: int) -> BackboneWeights:
    """Returns a backbone's random weights, for images normalised as ImageNet's; there is no file to hash."""
    tensors = create_random_weights(_table(spec), seed=seed)
    return BackboneWeights(tensors, f"random, seed {seed}", "", parse_input_range("imagenet"))


def _random_gain(block: Block, conv: Conv) -> float:
    if block.residual and conv is block.convs[-1]:
        return _RANDOM_RESIDUAL_GAIN
    # In front of it a squeeze-and-excitation halves the map.
    halved = block.squeeze is not None and conv is not block.convs[0] and conv is block.convs[-1]
    gain = 1.0 if conv.activation is Activation.NONE or conv.activation.is_gate else 2.0
    return gain * (4.0 if halved else 1.0)


def _embedded_bytes(spec: BackboneSpec) -> bytes:
    if spec != EMBEDDED_BACKBONE:
        raise WeightsError(
            "The embedded weights fit mobilenet_v2 with --width-mult 0.35 --no-last-conv alone, but the backbone is "
            f"{_describe(spec)}; give its weights with --weights FILE.safetensors."
        )
    return (resources.files("repnet_search.data") / "embedded" / EMBEDDED_FILE).read_bytes()


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"The weights {path} cannot be read: {error.strerror}.") from error
    # A safetensors header's length may begin with a pickle's first byte (ResNet-50's does); then "{" is at byte 8.
    if data.startswith(_PICKLE_STARTS) and data[8:9] != b"{":
        raise WeightsError(
            f"Weights must be a safetensors file, but {path} is a pickle (as torch.save writes), which may run code "
            "when opened; convert it where you trust it: "
            "safetensors.torch.save_file(torch.load(FILE, weights_only=True), 'FILE.safetensors')."
        )
    return data


def _metadata(data: bytes) -> dict[str, str]:
    """Returns the header's `__metadata__` of a safetensors file that is known to be well-formed."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return {str(key): str(value) for key, value in metadata.items()}


def _fold(state: Mapping[str, Tensor], spec: BackboneSpec, *, name: str) -> dict[str, Tensor]:
    """Returns every convolution with its batch norm folded in."""
    table = _table(spec)
    problems = _mismatches(state, spec)
    if problems:
        shown = "; ".join(problems[:_SHOWN_KEYS])
        more = f"; and {len(problems) - _SHOWN_KEYS} more keys" if len(problems) > _SHOWN_KEYS else ""
        raise WeightsError(f"The weights {name} do not fit {_describe(spec)}: {shown}{more}.{_hint(state, spec)}")
    return fold_weights(state, table, name=name)


def fold_weights(state: Mapping[str, Tensor], table: BlockTable, *, name: str) -> dict[str, Tensor]:
    """Returns every convolution of a table with its norm folded in, from a state that has all its keys.

    Raises:
        WeightsError: a value is not finite; `name` says whose it is.
    """
    folded: dict[str, Tensor] = {}
    for conv in table.convs():
        folded[f"{conv.key}.weight"], folded[f"{conv.key}.bias"] = _fold_conv(state, conv, norm_eps=table.norm_eps)
    for key, value in folded.items():
        if not torch.isfinite(value).all():
            raise WeightsError(
                f"The weights {name} hold values that are not finite, first in {key}; use other weights."
            )
    return folded


_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _fold_conv(state: Mapping[str, Tensor], conv: Conv, *, norm_eps: float) -> tuple[Tensor, Tensor]:
    """Returns a convolution's weight and bias with its norm, where it has one, folded in."""
    weight = state[f"{conv.key}.weight"].float().reshape(weight_shape(conv))
    bias = state[f"{conv.key}.bias"].float() if conv.bias else torch.zeros(conv.out_channels)
    if not conv.norm_key:
        return weight, bias
    norm = {part: state[f"{conv.norm_key}.{part}"].float() for part in _NORM_PARTS}
    scale = norm["weight"] / torch.sqrt(norm["running_var"] + norm_eps)
    return weight * scale.view(-1, 1, 1, 1), norm["bias"] + (bias - norm["running_mean"]) * scale


def weight_shape(conv: Conv) -> tuple[int, ...]:
    """Returns the shape of a convolution's weight; a linear layer's in a file lacks the two ones at its end."""
    return conv.out_channels, conv.in_channels // conv.groups, conv.kernel, conv.kernel


def _expected_shapes(table: BlockTable) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for conv in table.convs():
        shapes[f"{conv.key}.weight"] = weight_shape(conv)
        shapes |= {f"{conv.key}.bias": (conv.out_channels,)} if conv.bias else {}
        shapes |= {f"{conv.norm_key}.{part}": (conv.out_channels,) for part in _NORM_PARTS} if conv.norm_key else {}
    return shapes


def _mismatches(state: Mapping[str, Tensor], spec: BackboneSpec) -> list[str]:
    """Returns a phrase per key that is missing, misshapen or unknown."""
    expected = _expected_shapes(_table(spec))
    known = _expected_shapes(_table(spec.model_copy(update={"last_conv": has_last_conv(spec.name)})))
    problems = []
    for key, shape in expected.items():
        if key not in state:
            problems.append(f"{key} is missing")
        elif tuple(state[key].shape) not in (shape, _linear_shape(shape)):
            problems.append(f"{key} must have shape {shape}, but has {tuple(state[key].shape)}")
    # `known` has the last convolution in any case: one that is cut off is no mistake in the file.
    if spec.traced is None:  # of a network of the user's own nobody knows which keys are its head's
        problems += [f"{key} is unknown" for key in sorted(state) if key not in known and not _ignored(key)]
    return problems


def _linear_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:2] if shape[2:] == (1, 1) else shape


def _ignored(key: str) -> bool:
    """Whether a key is a classifier's or a norm's counter of batches."""
    return key.startswith(_CLASSIFIERS) or key.endswith("num_batches_tracked")


def _hint(state: Mapping[str, Tensor], spec: BackboneSpec) -> str:
    """Returns which backbone these weights fit, where one of those that there are does in a common width."""
    for candidate in _candidates(spec):
        if candidate != spec and not _mismatches(state, candidate):
            return f" They fit {_describe(candidate)}."
    return ""


def _candidates(spec: BackboneSpec) -> Iterator[BackboneSpec]:
    """Yields the backbones of the same name in other widths and with or without last convolution, then the others."""
    for name in sorted(list_backbones(), key=lambda name: name != spec.name):
        for width in _COMMON_WIDTHS if has_widths(name) else (default_width_mult(name),):
            for last_conv in (spec.last_conv, not spec.last_conv):
                if has_last_conv(name) or not last_conv:
                    yield BackboneSpec(name=name, width_mult=width, last_conv=last_conv)


def _table(spec: BackboneSpec) -> BlockTable:
    try:
        return get_table(spec)
    except SpecError as error:
        raise WeightsError(str(error)) from error


def _describe(spec: BackboneSpec) -> str:
    """Returns a backbone's name and the options that it has."""
    options = [f"--width-mult {spec.width_mult:g}"] if has_widths(spec.name) else []
    options += [f"--{'' if spec.last_conv else 'no-'}last-conv"] if has_last_conv(spec.name) else []
    return f"{spec.name} with {' '.join(options)}" if options else spec.name
