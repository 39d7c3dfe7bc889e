"""What --data may say, and the sentence where it says something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from repnet_search.data import EmbeddedDigits, ImageFolders, NpzImages, create_source
from repnet_search.errors import DataError


def _refused(data: str | None, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        create_source(None if data is None else Path(data), **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_each_kind_of_source(flowers: Path) -> None:
    assert isinstance(create_source(None), EmbeddedDigits)
    assert isinstance(create_source(flowers), ImageFolders)
    np.savez(flowers / "set.NPZ.npz", x=np.zeros((20, 8, 8), dtype=np.uint8), y=np.arange(20) % 2)
    assert isinstance(create_source(flowers / "set.NPZ.npz"), NpzImages)


def test_a_folder_of_the_name_of_a_set_is_the_folder(flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(flowers.parent)
    flowers.rename("cifar10")
    assert isinstance(create_source(Path("cifar10")), ImageFolders)
    assert "cifar-10-batches-py" in _refused("cifar10", root=Path("."))


def test_a_name_without_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "The data set cifar10 needs --data-root DIR" in _refused("cifar10")
    assert "The data set cifar10 needs --data-root DIR" in _refused("cifar10", download=True)


def test_an_unknown_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _refused("cifer10").endswith("but 'cifer10' is none of them; correct it. Did you mean 'cifar10'?")
    message = _refused("flower102", root=tmp_path)
    assert "must be a data set by name (cifar10, cifar100, " in message
    assert message.endswith("Did you mean 'flowers102'?")
    assert "'nowhere' does not exist" in _refused("nowhere")


def test_options_of_sets_without_a_set(tmp_path: Path) -> None:
    assert "are for data sets by name; name one with --data." in _refused(None, root=tmp_path)
    assert "are for data sets by name; name one with --data." in _refused(None, download=True)


def test_a_file_that_is_neither(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("")
    assert f"in a folder or an .npz file, but '{tmp_path / 'x.csv'}' is a file" in _refused(str(tmp_path / "x.csv"))
