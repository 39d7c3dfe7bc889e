"""What does not fit into memory is refused before it is made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repnet_search.errors import DataError
from repnet_search.spec import Design, resolve
from repnet_search.spec.training import TrainingSpec
from repnet_search.training import room
from repnet_search.training.cache import FeatureCache
from repnet_search.training.proxy import train_design
from repnet_search.training.task import Task


@pytest.mark.parametrize("views", [4, 1])
def test_features_in_memory_must_fit(views: int, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 10_000)
    fresh = replace(task, cache=FeatureCache())
    sentence = f"The frozen features of {100 * views} images or views must fit into memory"
    with pytest.raises(DataError, match=rf"{sentence}, .* 9\.8 KiB are free; use a larger --feature-cache"):
        train_design(resolve(Design(connectors=(), resolution=32)), fresh, TrainingSpec(epochs=1, views=views))
    monkeypatch.setattr(room, "free_memory_bytes", lambda: None)
    train_design(resolve(Design(connectors=(), resolution=32)), fresh, TrainingSpec(epochs=1, views=views))
