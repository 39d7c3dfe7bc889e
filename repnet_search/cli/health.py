"""What `run` and `train` say of a backbone's features before they train anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from repnet_search.training.task import Task


def report_features(task: Task, *, resolutions: Sequence[int]) -> None:
    """Prints a warning on stderr for each thing that is wrong with a task's features; nothing where they are healthy.

    Args:
        task: the weights, of which each width is looked at, and the images.
        resolutions: what is trained at; the smallest is looked at, which costs least.

    Raises:
        WeightsError: nothing can be learnt from the features.
    """
    from repnet_search.cli.render import create_console
    from repnet_search.training.health import check_features

    console = create_console(stderr=True)
    for backbone in task.weights:
        for warning in check_features(task, backbone, resolution=min(resolutions)).warnings:
            console.print(f"Warning: {warning}", style="yellow", soft_wrap=True)
