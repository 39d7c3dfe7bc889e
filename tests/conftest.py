"""What several test folders share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from repnet_search.backbones import BlockTable, get_block_table
from repnet_search.spec import BackboneSpec
from repnet_search.training.task import Task, TaskOptions, load_task


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Memory tables that tests make stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPNET_SEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def table() -> BlockTable:
    """Returns the embedded backbone's table."""
    return get_block_table("mobilenet_v2", width_mult=0.35, last_conv=False)


@pytest.fixture(scope="session")
def task() -> Task:
    """Returns the embedded default: letter weights and digits."""
    return load_task(TaskOptions(accelerator="cpu"), BackboneSpec())
