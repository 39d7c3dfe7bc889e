"""torchvision's own weights of a backbone, downloaded once and kept as safetensors.

torchvision publishes .pth files. They are read with `weights_only=True`, which builds tensors and runs no code.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from repnet_search.errors import WeightsError
from repnet_search.machine import cache_folder
from repnet_search.models.vision import torchvision
from repnet_search.spec.design import BackboneSpec
from repnet_search.spec.files import save_bytes

# The widths that torchvision has weights for, by their constructor's name.
_CONSTRUCTORS = {
    "mnasnet": {0.5: "mnasnet0_5", 0.75: "mnasnet0_75", 1.0: "mnasnet1_0", 1.3: "mnasnet1_3"},
    "mobilenet_v2": {1.0: "mobilenet_v2"},
    "mobilenet_v3_large": {1.0: "mobilenet_v3_large"},
    "mobilenet_v3_small": {1.0: "mobilenet_v3_small"},
    "resnet18": {1.0: "resnet18"},
    "resnet34": {1.0: "resnet34"},
    "resnet50": {1.0: "resnet50"},
}


def fetch_pretrained(backbone: BackboneSpec) -> Path:
    """Returns a safetensors file of torchvision's newest ImageNet weights of a backbone.

    Raises:
        WeightsError: torchvision has none for this backbone or width, or they cannot be downloaded, read or kept.
    """
    constructor = _constructor(backbone)
    weights = torchvision.models.get_model_weights(constructor).DEFAULT
    folder = cache_folder()
    if folder is None:
        raise WeightsError("There is no folder for downloaded weights; set REPNET_SEARCH_CACHE to one.")
    path = folder / "weights" / f"{constructor}-{weights.name}.safetensors"
    if not path.is_file():
        state = _download(weights.url, folder / "downloads", what=f"The weights of {constructor} that torchvision has")
        data = save(
            {key: value.contiguous() for key, value in state.items()},
            metadata={"input_range": "imagenet", "source": weights.url},
        )
        try:
            save_bytes(path, data, make_folder=True)
        except OSError as error:
            raise WeightsError(f"The weights cannot be kept in {path}: {error.strerror}.") from error
    return path


def _constructor(backbone: BackboneSpec) -> str:
    by_width = _CONSTRUCTORS.get(backbone.name, {})
    if not by_width:
        raise WeightsError(
            f"torchvision has no weights of {backbone.name}; leave --pretrained out, and give them with --weights "
            "FILE.safetensors."
        )
    if backbone.width_mult not in by_width:
        widths = " or ".join(f"{width:g}" for width in by_width)
        raise WeightsError(
            f"torchvision has weights of {backbone.name} with --width-mult {widths}, but got {backbone.width_mult:g}; "
            "change the width, or give weights with --weights FILE.safetensors."
        )
    return by_width[backbone.width_mult]


def _download(url: str, folder: Path, *, what: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Any] = torch.hub.load_state_dict_from_url(
            url, model_dir=str(folder), map_location="cpu", progress=False, check_hash=True, weights_only=True
        )
    except OSError as error:  # URLError is one
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise WeightsError(
            f"{what} cannot be downloaded from {url} ({reason}); where there is no network, give "
            "them as safetensors with --weights FILE.safetensors."
        ) from error
    except (RuntimeError, pickle.UnpicklingError, ValueError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{what} from {url} cannot be read ({detail}); give them with --weights FILE.safetensors."
        ) from error
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}
