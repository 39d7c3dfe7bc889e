"""The live-bytes tracker on cases whose answer is known, and against the CPU allocator's own record."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from repnet_search.measure.tracker import LiveBytesTracker

KIB = 1024


def test_views_cost_nothing_and_clones_cost_their_bytes() -> None:
    with LiveBytesTracker() as tracker:
        x = torch.zeros(256)
        views = [x.view(16, 16), x[:8], x.detach(), x.t()]
        assert tracker.live_bytes == KIB
        copy = x.clone()
        assert tracker.live_bytes == 2 * KIB
        del x, copy
        assert tracker.live_bytes == KIB  # the views hold the storage
        del views
        assert tracker.live_bytes == 0
    assert tracker.peak_bytes == 2 * KIB


def test_what_was_there_before_counts_nothing() -> None:
    x = torch.zeros(256)
    with LiveBytesTracker() as tracker:
        x.add_(1)
        y = x[:4]
        assert tracker.live_bytes == 0
        del x, y
    assert tracker.live_bytes == 0


def test_sizes_are_rounded_up_as_in_the_account() -> None:
    with LiveBytesTracker() as tracker:
        mask = torch.zeros(5, dtype=torch.uint8)
        assert tracker.live_bytes == 8
        del mask


def test_a_chain_holds_two_values_and_training_all_that_is_saved() -> None:
    x, weight = torch.zeros(256), torch.ones(256, requires_grad=True)
    with LiveBytesTracker() as tracker:
        y = x + 1
        y = y + 1
        assert tracker.peak_bytes == 2 * KIB
        tracker.reset_peak()
        loss = (y * weight).sum()
        assert tracker.live_bytes == KIB + 4  # y is saved for the weight; the product is not
        loss.backward()
        assert weight.grad is not None
        del loss
        assert tracker.live_bytes == 2 * KIB  # y, the gradient


def test_adam_holds_two_floats_per_parameter() -> None:
    layer = nn.Linear(64, 64)
    optimizer = torch.optim.Adam(layer.parameters(), foreach=False)
    parameter_bytes = sum(value.nbytes for value in layer.parameters())
    with LiveBytesTracker() as tracker:
        layer(torch.ones(1, 64)).sum().backward()
        gradients = tracker.live_bytes
        optimizer.step()
        # the step counts are made of Python numbers, which is no operator's result
        assert tracker.live_bytes - gradients == 2 * parameter_bytes
    assert gradients >= parameter_bytes


@pytest.mark.parametrize("size", [8, 33])
def test_the_peak_is_the_allocators(size: int) -> None:
    """Element-wise operators alone: kernels of convolutions allocate memory that only the allocator sees."""

    def work() -> torch.Tensor:
        x = torch.zeros(size, 64)
        y = x.exp() + x.sin()
        return (y * x).sum()

    with LiveBytesTracker() as tracker:
        work()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    live = peak = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    assert tracker.peak_bytes == peak
