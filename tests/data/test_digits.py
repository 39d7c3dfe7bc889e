"""The embedded digits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from repnet_search.data import EmbeddedDigits, Split, create_source
from repnet_search.data.digits import _load_digits
from repnet_search.errors import DataError


def test_create_source_without_a_path_gives_the_digits() -> None:
    source = create_source(None)
    assert source.name == "digits"
    assert source.classes == tuple("0123456789")
    assert source.skipped == ()


def test_splits_are_ten_then_forty_then_the_rest_of_each_class_by_the_hash_of_the_row() -> None:
    source = EmbeddedDigits()
    _, labels = _load_digits()
    assert {split: source.count(split) for split in Split} == {"train": 100, "validation": 400, "test": 1297}
    for digit in range(10):
        rows = torch.nonzero(labels == digit).flatten().tolist()
        rows.sort(key=lambda row: hashlib.sha256(str(row).encode()).hexdigest())
        expected = {Split.TRAIN: rows[:10], Split.VALIDATION: rows[10:50], Split.TEST: rows[50:]}
        for split, indices in expected.items():
            own = [row for row in source._indices[split].tolist() if labels[row] == digit]
            assert own == indices


def test_images_are_grey_bytes_over_the_whole_range() -> None:
    images, labels = _load_digits()
    assert images.shape == (1797, 8, 8)
    assert labels.dtype == torch.int64
    assert sorted(set(images.flatten().tolist())) == [(value * 255 + 8) // 16 for value in range(17)]
    loaded = EmbeddedDigits().load(Split.TRAIN, resolution=24)
    assert loaded.images.shape == (100, 3, 24, 24)
    assert loaded.images.dtype == torch.uint8
    assert torch.equal(loaded.images[:, 0], loaded.images[:, 1])
    assert torch.equal(loaded.images[:, 0], loaded.images[:, 2])


def test_resizing_is_bilinear_and_the_identity_at_eight_pixels() -> None:
    source = EmbeddedDigits()
    plain = source.load(Split.VALIDATION, resolution=8).images
    assert torch.equal(plain[:, 0], _load_digits()[0][source._indices[Split.VALIDATION]])
    double = source.load(Split.VALIDATION, resolution=16).images[:, 0].float()
    # With align_corners=False the second row and column of a doubled image lie 1/4 of the way to the next pixel.
    columns = 0.75 * plain[:, 0, :, 0].float() + 0.25 * plain[:, 0, :, 1].float()
    expected = 0.75 * columns[:, 0] + 0.25 * columns[:, 1]
    assert (double[:, 1, 1] - expected).abs().max() <= 0.5


def test_sets_are_kept_but_the_test_set_is_not() -> None:
    source = EmbeddedDigits()
    assert source.load(Split.TRAIN, resolution=8) is source.load(Split.TRAIN, resolution=8)
    assert source.load(Split.TRAIN, resolution=8) is not source.load(Split.TRAIN, resolution=9)
    assert source.load(Split.TEST, resolution=8) is not source.load(Split.TEST, resolution=8)


def test_batches_hold_what_load_holds() -> None:
    source = EmbeddedDigits()
    parts = list(source.batches(Split.TEST, resolution=12, batch=100))
    assert [len(part) for part in parts] == [100] * 12 + [97]
    whole = source.load(Split.TEST, resolution=12)
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def test_sha256_depends_on_the_proxy_alone() -> None:
    source = EmbeddedDigits()
    before = source.sha256()
    source.load(Split.TRAIN, resolution=32)
    assert source.sha256() == before == EmbeddedDigits().sha256()
    assert len(bytes.fromhex(before)) == hashlib.sha256().digest_size
    assert EmbeddedDigits(proxy_images=100).sha256() != before
    assert EmbeddedDigits(proxy_images=5000).sha256() == before


def test_a_proxy_keeps_the_proportion_and_the_test_set() -> None:
    source = EmbeddedDigits(proxy_images=100)
    assert [source.count(split) for split in Split] == [20, 80, 1297]
    labels = source.load(Split.VALIDATION, resolution=8).labels
    assert np.bincount(labels.numpy()).tolist() == [8] * 10
    full = EmbeddedDigits()
    kept, every = source._indices[Split.TRAIN].tolist(), full._indices[Split.TRAIN].tolist()
    assert set(kept) < set(every)


def test_a_proxy_too_small_for_ten_classes_is_refused() -> None:
    assert EmbeddedDigits(proxy_images=20).count(Split.TRAIN) == 10
    with pytest.raises(DataError, match=r"--proxy-images .* at least 20 for 10 classes, but is 19; give a larger"):
        EmbeddedDigits(proxy_images=19)
