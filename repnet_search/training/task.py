"""What designs are trained on: weights, images, this machine's device."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from repnet_search.data import DataSource, create_source
from repnet_search.data.decoded_cache import DEFAULT_LIMIT_BYTES
from repnet_search.errors import UsageError
from repnet_search.models.calibration import Calibration
from repnet_search.models.weights import BackboneWeights, load_weights
from repnet_search.spec.design import BackboneSpec
from repnet_search.training.cache import PrefixCache


@dataclass(frozen=True, slots=True)
class Task:
    """Weights, images and device; frozen features are kept in its cache, and the calibration of each resolution."""

    weights: BackboneWeights
    source: DataSource
    device: torch.device
    cache: PrefixCache = field(default_factory=PrefixCache)
    calibrations: dict[tuple[BackboneSpec, int], Calibration] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Outputs of the head."""
        return len(self.source.classes)


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """Where a task comes from, as the command line has it; None means what is embedded."""

    data: Path | None = None
    proxy_images: int | None = None
    skip_broken: bool = False
    weights: Path | None = None
    input_range: str | None = None
    accelerator: str = "auto"
    data_root: Path | None = None
    download: bool = False
    data_cache_bytes: int = DEFAULT_LIMIT_BYTES


def load_task(options: TaskOptions, backbone: BackboneSpec) -> Task:
    """Returns weights, images and device.

    Raises:
        WeightsError, DataError, UsageError: the weights, the images or the accelerator cannot be used.
    """
    weights = load_weights(backbone, path=options.weights, input_range=options.input_range)
    source = create_source(
        options.data,
        proxy_images=options.proxy_images,
        skip_broken=options.skip_broken,
        root=options.data_root,
        download=options.download,
        cache_bytes=options.data_cache_bytes,
    )
    return Task(weights, source, select_device(options.accelerator))


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
