"""What does not fit into memory is refused before it is made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repnet_search.errors import DataError
from repnet_search.spec import Design, resolve
from repnet_search.spec.training import TrainingSpec
from repnet_search.training import room
from repnet_search.training.cache import PrefixCache
from repnet_search.training.proxy import train_design
from repnet_search.training.task import Task


@pytest.mark.parametrize(
    ("views", "sentence"), [(4, "The 4 views of 100 images must fit"), (1, "features of 100 images or views must fit")]
)
def test_views_and_features_must_fit(views: int, sentence: str, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory_bytes", lambda: 10_000)
    fresh = replace(task, cache=PrefixCache())
    with pytest.raises(DataError, match=rf"{sentence} .* 9\.8 KiB are free; use fewer images with --proxy-images"):
        train_design(resolve(Design(connectors=(), resolution=32)), fresh, TrainingSpec(epochs=1, views=views))
    monkeypatch.setattr(room, "free_memory_bytes", lambda: None)
    train_design(resolve(Design(connectors=(), resolution=32)), fresh, TrainingSpec(epochs=1, views=views))
