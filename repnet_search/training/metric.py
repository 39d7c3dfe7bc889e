"""How good predictions are: the share that is right, of all images or as the mean over the classes."""

from __future__ import annotations

import torch
from torch import Tensor

from repnet_search.spec.training import Metric


def measure_predictions(metric: Metric, predicted: Tensor, labels: Tensor) -> float:
    """Returns the metric of predicted against true labels (N,), in 0..1; classes without images do not count."""
    right = (predicted == labels).double()
    if metric is Metric.ACCURACY:
        return float(right.mean())
    totals = torch.bincount(labels)
    hits = torch.bincount(labels, weights=right)
    return float((hits[totals > 0] / totals[totals > 0]).mean())
