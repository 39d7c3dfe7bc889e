"""What a source holds, counted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from repnet_search.data import EmbeddedDigits, ImageFolders, Split
from repnet_search.data.summary import Sides, measure_imbalance, summarise
from tests.data.conftest import write_image

MakeClass = Callable[..., Path]


def test_counts_sizes_and_formats(flowers: Path) -> None:
    Image.new("L", (31, 47)).save(flowers / "rose" / "grey.png")
    source = ImageFolders(flowers)
    summary = summarise(source)
    assert summary.images == 61
    assert summary.class_totals == [10, 21, 30]
    assert summary.counts[Split.TEST] == source.class_counts(Split.TEST)
    assert (summary.widths, summary.heights) == (Sides(8, 8, 31), Sides(8, 8, 47))
    assert summary.modes == {"RGB": 60, "L": 1}
    assert summary.unusable == {}
    assert summary.decode_seconds is not None
    assert summary.decode_seconds > 0


def test_imbalance_names_the_extremes() -> None:
    found = measure_imbalance(("a", "b", "c", "d"), [7, 2, 8, 2])
    assert (found.smallest, found.least, found.largest, found.most, found.ratio) == ("b", 2, "c", 8, 4.0)


def test_the_same_content_in_several_splits_and_classes(tmp_path: Path, make_class: MakeClass) -> None:
    for split in ("train", "test"):
        for place, name in enumerate(("a", "b")):
            for index in range(8):
                write_image(
                    tmp_path / split / name / f"{index}.png", value=100 * place + index + 50 * (split == "test")
                )
    assert summarise(ImageFolders(tmp_path)).duplicates is not None
    shutil.copy(tmp_path / "train" / "a" / "3.png", tmp_path / "test" / "a" / "again.png")
    shutil.copy(tmp_path / "train" / "b" / "3.png", tmp_path / "train" / "a" / "other.png")
    found = summarise(ImageFolders(tmp_path)).duplicates
    assert found is not None
    assert found.extra == 2
    assert found.across_classes == 1
    assert found.across_splits >= 1
    assert any("test/a/again.png" in place for place in found.first_across) or found.across_splits == 2


def test_files_that_cannot_be_used_are_listed_with_their_reasons(flowers: Path) -> None:
    (flowers / "rose" / "x.jpg").write_bytes(b"")
    Image.effect_noise((64, 64), 80).convert("RGB").save(flowers / "rose" / "cut.png")
    content = (flowers / "rose" / "cut.png").read_bytes()
    (flowers / "rose" / "cut.png").write_bytes(content[:2000])
    assert "rose/x.jpg" in summarise(ImageFolders(flowers, skip_broken=True)).unusable
    summary = summarise(ImageFolders(flowers, skip_broken=True), decode_all=True)
    assert set(summary.unusable) == {"rose/cut.png", "rose/x.jpg"}
    assert summary.unusable["rose/x.jpg"] == "is empty (0 bytes)"
    assert summary.unusable["rose/cut.png"].startswith("cannot be decoded (")
    assert summary.images == 60


def test_the_digits_are_counted_too() -> None:
    summary = summarise(EmbeddedDigits())
    assert summary.images == 1797
    assert (summary.widths, summary.duplicates, summary.decode_seconds) == (None, None, None)


@pytest.mark.parametrize("deeper", [".", "..", "../.."])
def test_a_link_to_a_folder_above_adds_no_other_class(flowers: Path, deeper: str) -> None:
    (flowers / "rose" / "up").symlink_to(deeper)
    assert summarise(ImageFolders(flowers)).class_totals == [10, 20, 30]
