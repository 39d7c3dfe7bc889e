"""Other divisions of the same images."""

from __future__ import annotations

import torch

from repnet_search.data import Split
from repnet_search.data.digits import EmbeddedDigits
from repnet_search.data.folds import DividedSource, _choose, divides_anew


def rows(images: torch.Tensor) -> list[bytes]:
    return sorted(image.numpy().tobytes() for image in images)


def test_divisions_are_of_the_same_images_and_sizes() -> None:
    source = EmbeddedDigits(proxy_images=400)
    whole = rows(torch.cat([source.load(s, resolution=16).images for s in (Split.TRAIN, Split.VALIDATION)]))
    for division in range(3):
        divided = DividedSource(source, division=division)
        parts = [divided.load(split, resolution=16) for split in (Split.TRAIN, Split.VALIDATION)]
        assert rows(torch.cat([part.images for part in parts])) == whole
        for split, part in zip((Split.TRAIN, Split.VALIDATION), parts, strict=True):
            assert torch.bincount(part.labels).tolist() == source.class_counts(split)
        assert divided.sha256() != source.sha256()
        assert torch.equal(
            divided.load(Split.TEST, resolution=16).labels, source.load(Split.TEST, resolution=16).labels
        )


def test_validation_sets_are_disjoint_while_there_are_images() -> None:
    labels = torch.tensor([0] * 10 + [1] * 5)
    validation = torch.tensor([0, 0, 1])
    chosen = [_choose(labels, validation, division=division) for division in range(5)]
    assert all(torch.bincount(labels[each]).tolist() == [2, 1] for each in chosen)
    assert torch.stack(chosen).sum(dim=0).tolist() == [1] * 15


def test_a_division_is_the_same_at_every_resolution_and_time() -> None:
    source = EmbeddedDigits()
    one, two = DividedSource(source, division=1), DividedSource(EmbeddedDigits(), division=1)
    assert torch.equal(one.load(Split.TRAIN, resolution=16).labels, one.load(Split.TRAIN, resolution=24).labels)
    assert torch.equal(one.load(Split.TRAIN, resolution=16).images, two.load(Split.TRAIN, resolution=16).images)
    parts = list(one.batches(Split.VALIDATION, resolution=16, batch=64))
    assert torch.equal(torch.cat([part.images for part in parts]), one.load(Split.VALIDATION, resolution=16).images)


def test_given_validation_images_are_left_as_they_are() -> None:
    source = EmbeddedDigits()
    assert divides_anew(source)
    source.validation_held_out = False
    assert not divides_anew(source)
