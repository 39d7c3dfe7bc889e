"""The calibration of an int8 backbone on a task's training images: once per backbone and resolution."""

from __future__ import annotations

import torch

from repnet_search.data import Split
from repnet_search.models.calibration import CALIBRATION_IMAGES, Calibration, calibrate
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.training.task import Task


def get_calibration(resolved: ResolvedDesign, task: Task) -> Calibration | None:
    """Returns the activation ranges that a design's int8 backbone needs, None for fp32.

    The images are spread evenly over the training images, so that every class has its part.
    """
    design = resolved.design
    if design.activation_bits == 32:
        return None
    key = (design.backbone, design.resolution)
    calibration = task.calibrations.get(key)
    if calibration is None:
        images = task.source.load(Split.TRAIN, resolution=design.resolution).images
        chosen = torch.linspace(0, len(images) - 1, min(CALIBRATION_IMAGES, len(images))).round().long()
        weights = task.weights_of(design.backbone)
        normalised = weights.input_range.normalise(images[chosen].to(task.device))
        calibration = task.calibrations[key] = calibrate(resolved.table, weights.tensors, normalised)
    return calibration
