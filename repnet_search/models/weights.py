"""Backbone weights: read from safetensors with the key names of their origin, checked key by key, norms folded.

Nothing that a user gives is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor

from repnet_search.backbones import Activation, Block, BlockTable, Conv
from repnet_search.errors import WeightsError
from repnet_search.models.input_range import InputRange, parse_input_range
from repnet_search.models.user_module import load_own_state
from repnet_search.models.weight_shapes import (
    NORM_PARTS,
    check_fits,
    describe_backbone,
    weight_shape,
    weights_table,
)
from repnet_search.spec.design import BackboneSpec

EMBEDDED_BACKBONE = BackboneSpec(name="mobilenet_v2", width_mult=0.35, last_conv=False)
EMBEDDED_FILE = "letters_mobilenet_v2_w035_r48.safetensors"
EMBEDDED_NAME = "letters (embedded)"

PRETRAINED = Path("torchvision's own")
"""Stands for the path of torchvision's own weights, which are downloaded."""

_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
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
    name = EMBEDDED_NAME if path is None else path.name
    state, metadata = _parse(data, name=name)
    range_text = input_range or metadata.get("input_range", "imagenet")
    return BackboneWeights(
        tensors=_fold(state, spec, name=name),
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        input_range=parse_input_range(range_text),
    )


def load_state(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a weights file as they are; raises as `load_weights`."""
    return _parse(_read(path), name=path.name)[0]


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
    tensors = create_random_weights(weights_table(spec), seed=seed)
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
            f"{describe_backbone(spec)}; give its weights with --weights FILE.safetensors."
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


def _parse(data: bytes, *, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors and the metadata of a safetensors file."""
    try:
        return load_safetensors(data), _metadata(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(
            f"The weights {name} are no readable safetensors file ({error}); it may be truncated: copy it again."
        ) from error


def _metadata(data: bytes) -> dict[str, str]:
    """Returns the header's `__metadata__` of a safetensors file that is known to be well-formed."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return {str(key): str(value) for key, value in metadata.items()}


def _fold(state: Mapping[str, Tensor], spec: BackboneSpec, *, name: str) -> dict[str, Tensor]:
    """Returns every convolution with its batch norm folded in."""
    check_fits(state, spec, name=name)
    return fold_weights(state, weights_table(spec), name=name)


def fold_weights(state: Mapping[str, Tensor], table: BlockTable, *, name: str) -> dict[str, Tensor]:
    """Returns every convolution of a table with its norm folded in, from a state that has all its keys.

    Raises:
        WeightsError: a value is not finite, or a variance negative; `name` says whose it is.
    """
    folded: dict[str, Tensor] = {}
    for conv in table.convs():
        variance = f"{conv.norm_key}.running_var"
        if conv.norm_key and bool((state[variance] < 0).any()):
            least = float(state[variance].min())
            raise WeightsError(
                f"A running variance must not be negative, but {variance} of the weights {name} goes down to "
                f"{least:g}; use other weights."
            )
        folded[f"{conv.key}.weight"], folded[f"{conv.key}.bias"] = _fold_conv(state, conv, norm_eps=table.norm_eps)
    for key, value in folded.items():
        if not torch.isfinite(value).all():
            raise WeightsError(
                f"The weights {name} hold values that are not finite, first in {key}; use other weights."
            )
    return folded


def _fold_conv(state: Mapping[str, Tensor], conv: Conv, *, norm_eps: float) -> tuple[Tensor, Tensor]:
    """Returns a convolution's weight and bias with its norm, where it has one, folded in."""
    weight = state[f"{conv.key}.weight"].float().reshape(weight_shape(conv))
    bias = state[f"{conv.key}.bias"].float() if conv.bias else torch.zeros(conv.out_channels)
    if not conv.norm_key:
        return weight, bias
    norm = {part: state[f"{conv.norm_key}.{part}"].float() for part in NORM_PARTS}
    scale = norm["weight"] / torch.sqrt(norm["running_var"] + norm_eps)
    return weight * scale.view(-1, 1, 1, 1), norm["bias"] + (bias - norm["running_mean"]) * scale
