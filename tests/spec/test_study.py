"""What a study is about, and what of it its name tells."""

from __future__ import annotations

import pytest

from repnet_search.boards import Region
from repnet_search.errors import SpecError
from repnet_search.spec import BackboneSpec
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.study import DataSpec, StudySpec, WeightsSpec, WidthSpec
from repnet_search.spec.training import TrainingSpec
from repnet_search.units import KIB


def study(**fields: object) -> StudySpec:
    return StudySpec.model_validate(
        {
            "budget_bytes": 320 * KIB,
            "backbone": BackboneSpec(),
            "weights": WeightsSpec(name="letters", sha256="0", input_range="-1,1"),
            "data": DataSpec(name="digits", sha256="1", classes=10),
            "space": SpaceSpec(),
            "training": TrainingSpec(),
            **fields,
        }
    )


def test_a_budget_is_one_piece_of_ram() -> None:
    limits = study(reserve_bytes=20 * KIB).limits
    assert (limits.ram_bytes, limits.flash_bytes, limits.regions) == (300 * KIB, None, ())


def test_a_board_has_regions_without_the_reserve() -> None:
    limits = study(board="stm32f746", reserve_bytes=32 * KIB, flash_bytes=1000 * KIB).limits
    assert limits.ram_bytes == sum(region.size_bytes for region in limits.regions) == 288 * KIB
    assert limits.flash_bytes == 1000 * KIB
    assert limits.regions[0] == Region("dtcm", 32 * KIB)
    with pytest.raises(SpecError, match="A board is one of"):
        _ = study(board="gone").limits


def test_boards_and_flash_are_in_the_name_where_they_are_set() -> None:
    plain, board, flash = study(), study(board="stm32f746"), study(flash_bytes=KIB)
    assert len({plain.digest, board.digest, flash.digest}) == 3
    assert plain.digest == study(board=None, flash_bytes=None).digest
    assert plain.differences(board) == ["board"]


def test_further_widths_are_in_the_name_and_are_called_weights() -> None:
    plain = study()
    two = study(wider=[{"width_mult": 0.5, "name": "w050", "sha256": "2", "input_range": "imagenet"}])
    assert plain.digest == "08ff3e"  # as before there were any
    assert plain.digest != two.digest
    assert plain.differences(two) == ["weights"]
    assert plain.differences(study(weights=WeightsSpec(name="x", sha256="3", input_range="-1,1"))) == ["weights"]
    assert plain.backbones == (BackboneSpec(),)
    assert two.backbones == (BackboneSpec(), BackboneSpec(width_mult=0.5))
    described = WidthSpec(width_mult=0.5, name="w050", sha256="2", input_range="imagenet")
    assert two.all_weights[BackboneSpec(width_mult=0.5)] == described
    assert StudySpec.model_validate(two.model_dump(mode="json")) == two
