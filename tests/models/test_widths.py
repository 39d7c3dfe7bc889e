"""Several weights files of one backbone: which width each has, and which file a width takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from repnet_search.backbones import has_widths, list_backbones
from repnet_search.errors import WeightsError
from repnet_search.models.vision import torchvision
from repnet_search.models.weight_shapes import list_widths
from repnet_search.models.weights import PRETRAINED
from repnet_search.models.widths import find_width, find_widths, load_widths, pair_widths
from repnet_search.spec import BackboneSpec
from repnet_search.spec.table import get_table
from tests.weights_files import save_random_weights

NARROW, WIDE, ODD = (BackboneSpec(width_mult=width) for width in (0.35, 0.5, 0.6))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """Returns a file for each of three widths, one of them as torchvision writes it."""
    folder = tmp_path_factory.mktemp("widths")
    paths = {spec.width_mult: save_random_weights(folder / f"{spec.width_mult}", spec) for spec in (NARROW, ODD)}
    save_file(torchvision.models.mobilenet_v2(width_mult=0.5).state_dict(), folder / "0.5")
    return paths | {0.5: folder / "0.5"}


def test_shapes_tell_the_width(files: dict[float, Path]) -> None:
    assert find_widths([files[0.5], files[0.35]], BackboneSpec(width_mult=1.0)) == (NARROW, WIDE)


@pytest.mark.parametrize("name", [name for name in list_backbones() if has_widths(name)])
def test_no_two_common_widths_have_the_same_shapes(name: str) -> None:
    tables = [get_table(spec) for spec in list_widths(BackboneSpec(name=name))]
    shapes = {tuple((conv.in_channels, conv.out_channels) for conv in table.convs()) for table in tables}
    assert len(shapes) == len(tables)
    assert len({tuple(block.is_identity for block in table.blocks) for table in tables}) == 1


def test_a_single_file_tells_its_width_too(files: dict[float, Path]) -> None:
    assert find_width(files[0.5], NARROW) == WIDE
    assert find_width(files[0.35], NARROW) == NARROW
    assert find_width(files[0.6], NARROW) == NARROW  # `load_weights` then says what is wrong
    assert find_width(PRETRAINED, NARROW) == NARROW
    resnet = BackboneSpec(name="resnet18", width_mult=1.0)
    assert find_width(files[0.5], resnet) == resnet


def test_an_uncommon_width_is_recognised_where_it_is_named(files: dict[float, Path]) -> None:
    with pytest.raises(
        WeightsError, match=r"0\.6 fit mobilenet_v2 in none of the widths 0\.1, .* name all with --width"
    ):
        find_widths([files[0.35], files[0.6]], NARROW)
    assert pair_widths([files[0.6], files[0.35]], [NARROW, ODD]) == (NARROW, ODD)
    with pytest.raises(
        WeightsError, match=r"0\.5 fit mobilenet_v2 in none of the widths 0\.35, 0\.6\. They fit mobile"
    ):
        pair_widths([files[0.5], files[0.35]], [NARROW, ODD])


def test_two_files_of_one_width_are_refused(files: dict[float, Path]) -> None:
    with pytest.raises(
        WeightsError, match=r"must be another width .* are both --width-mult 0\.35; leave one of them out"
    ):
        find_widths([files[0.35], files[0.5], files[0.35]], NARROW)


def test_a_backbone_of_one_width_has_one_file(files: dict[float, Path]) -> None:
    for name in ("resnet18", "nets.py:create"):
        with pytest.raises(WeightsError, match="comes in one width alone, but got 2 --weights; give one"):
            find_widths([files[0.35], files[0.5]], BackboneSpec(name=name, width_mult=1.0))


def test_each_width_takes_its_own_file(files: dict[float, Path]) -> None:
    loaded = load_widths([NARROW, WIDE], paths=[files[0.6], files[0.5], files[0.35]])
    assert [weights.name for weights in loaded.values()] == ["0.35", "0.5"]
    assert loaded[WIDE].tensors["features.17.conv.2.weight"].shape == (160, 480, 1, 1)
    assert load_widths([NARROW], paths=())[NARROW].name == "letters (embedded)"
    assert list(load_widths([WIDE], paths=[files[0.5]])) == [WIDE]
    with pytest.raises(WeightsError, match=r"None of the weights 0\.35, 0\.6 fits mobilenet_v2 with --width-mult 0\.5"):
        load_widths([WIDE], paths=[files[0.35], files[0.6]])
    with pytest.raises(WeightsError, match=r"0\.35 do not fit .* They fit mobilenet_v2 with --width-mult 0\.35"):
        load_widths([WIDE], paths=[files[0.35]])


def test_random_files_hold_what_was_drawn(files: dict[float, Path]) -> None:
    tensors = load_widths([NARROW], paths=[files[0.35]])[NARROW].tensors
    assert all(torch.isfinite(value).all() for value in tensors.values())
