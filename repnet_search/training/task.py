"""What designs are trained on: weights, images, this machine's device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from repnet_search.data import DataSource, create_source
from repnet_search.data.decoded_cache import DEFAULT_LIMIT_BYTES
from repnet_search.errors import UsageError, WeightsError
from repnet_search.models.calibration import Calibration
from repnet_search.models.weight_shapes import describe_backbone
from repnet_search.models.weights import BackboneWeights
from repnet_search.models.widths import load_widths
from repnet_search.spec.design import BackboneSpec
from repnet_search.training.cache import DEFAULT_LIMIT_BYTES as DEFAULT_FEATURE_BYTES
from repnet_search.training.cache import FeatureCache, create_feature_cache


@dataclass(frozen=True, slots=True)
class Task:
    """Weights of each width of a backbone, images and device; frozen features and calibrations are kept in it."""

    weights: Mapping[BackboneSpec, BackboneWeights]
    source: DataSource
    device: torch.device
    cache: FeatureCache = field(default_factory=FeatureCache)
    calibrations: dict[tuple[BackboneSpec, int], Calibration] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Outputs of the head."""
        return len(self.source.classes)

    def weights_of(self, backbone: BackboneSpec) -> BackboneWeights:
        """Returns the weights of a backbone.

        Raises:
            WeightsError: they are not among those that were loaded.
        """
        if backbone not in self.weights:
            known = " and ".join(map(describe_backbone, self.weights))
            raise WeightsError(
                f"The weights are those of {known}, but a design is on {describe_backbone(backbone)}; give its weights "
                "with --weights FILE.safetensors."
            )
        return self.weights[backbone]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Where a task comes from, as the command line has it; None means what is embedded."""

    data: Path | None = None
    proxy_images: int | None = None
    skip_broken: bool = False
    weights: tuple[Path, ...] = ()
    input_range: str | None = None
    accelerator: str = "auto"
    data_root: Path | None = None
    download: bool = False
    data_cache_bytes: int = DEFAULT_LIMIT_BYTES
    feature_cache_bytes: int = DEFAULT_FEATURE_BYTES


def load_task(options: TaskOptions, *backbones: BackboneSpec) -> Task:
    """Returns the weights of backbones, each from the file that fits it, images and device.

    Raises:
        WeightsError, DataError, UsageError: the weights, the images or the accelerator cannot be used.
    """
    weights = load_widths(backbones, paths=options.weights, input_range=options.input_range)
    source = create_source(
        options.data,
        proxy_images=options.proxy_images,
        skip_broken=options.skip_broken,
        root=options.data_root,
        download=options.download,
        cache_bytes=options.data_cache_bytes,
    )
    cache = create_feature_cache(limit_bytes=options.feature_cache_bytes)
    return Task(weights, source, select_device(options.accelerator), cache)


def select_device(accelerator: str) -> torch.device:
    """Returns the device for auto, cpu or cuda.

    On a CPU one thread is faster than several for networks of this size, and reproducible.

    Raises:
        UsageError: there is no CUDA device.
    """
    available = torch.cuda.is_available()
    if accelerator == "cuda" and not available:
        raise UsageError(
            "--accelerator cuda needs a CUDA device that torch can see, but there is none; use cpu or auto."
        )
    if accelerator == "cuda" or (accelerator == "auto" and available):
        return torch.device("cuda")
    torch.set_num_threads(1)
    return torch.device("cpu")
