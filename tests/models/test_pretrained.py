"""torchvision's own weights, from a file in place of the network."""

from __future__ import annotations

import hashlib
from enum import Enum
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from repnet_search.errors import WeightsError
from repnet_search.models import pretrained
from repnet_search.models.vision import torchvision
from repnet_search.models.weights import PRETRAINED, load_weights
from repnet_search.spec import BackboneSpec


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("ran"),)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the folder of what stands for torchvision's server; every file there is offered for every network."""
    monkeypatch.setenv("REPNET_SEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def offer(_: str) -> SimpleNamespace:
        file = next(iter(tmp_path.glob("weights-*.pth")), tmp_path / "weights-00000000.pth")
        return SimpleNamespace(DEFAULT=SimpleNamespace(name="TEST", url=file.as_uri()))

    monkeypatch.setattr(torchvision.models, "get_model_weights", offer)
    return tmp_path


def publish(folder: Path, value: object) -> None:
    torch.save(value, folder / "weights.pth")
    digest = hashlib.sha256((folder / "weights.pth").read_bytes()).hexdigest()[:8]
    (folder / "weights.pth").rename(folder / f"weights-{digest}.pth")


def test_they_are_downloaded_once_and_kept_as_safetensors(published: Path) -> None:
    network = torchvision.models.mnasnet0_5()
    publish(published, network.state_dict())
    spec = BackboneSpec(name="mnasnet", width_mult=0.5)
    first = load_weights(spec, path=PRETRAINED)
    next(published.glob("*.pth")).unlink()
    again = load_weights(spec, path=PRETRAINED)
    assert first.sha256 == again.sha256
    assert first.name == "mnasnet0_5-TEST.safetensors"
    assert first.input_range.text == "imagenet"
    torch.testing.assert_close(
        first.tensors["layers.0.weight"], network.state_dict()["layers.0.weight"] / (1 + 1e-5) ** 0.5
    )


def test_a_pickle_that_runs_code_is_refused(published: Path) -> None:
    publish(published, {"features.0.0.weight": Malicious()})
    with pytest.raises(WeightsError, match=r"cannot be read .*; give them with --weights FILE\.safetensors"):
        load_weights(BackboneSpec(name="mobilenet_v3_small"), path=PRETRAINED)
    assert not Path("ran").exists()


def test_a_file_with_another_hash_is_refused(published: Path) -> None:
    torch.save({}, published / "weights-00000000.pth")
    with pytest.raises(WeightsError, match="invalid hash value"):
        load_weights(BackboneSpec(name="resnet18"), path=PRETRAINED)


def test_without_a_network_weights_is_the_way_out(published: Path) -> None:
    with pytest.raises(WeightsError) as error:
        load_weights(BackboneSpec(name="resnet18"), path=PRETRAINED)
    assert "cannot be downloaded from" in str(error.value)
    assert str(error.value).endswith("give them as safetensors with --weights FILE.safetensors.")


def test_what_torchvision_does_not_have_is_said() -> None:
    with pytest.raises(WeightsError, match="torchvision has no weights of proxylessnas_mobile; leave --pretrained out"):
        load_weights(BackboneSpec(name="proxylessnas_mobile"), path=PRETRAINED)
    with pytest.raises(WeightsError, match=r"mnasnet with --width-mult 0\.5 or 0\.75 or 1 or 1\.3, but got 0\.6"):
        load_weights(BackboneSpec(name="mnasnet", width_mult=0.6), path=PRETRAINED)


def test_every_offered_network_is_torchvisions() -> None:
    for by_width in pretrained._CONSTRUCTORS.values():
        for constructor in by_width.values():
            weights = torchvision.models.get_model_weights(constructor)
            assert isinstance(weights.DEFAULT, Enum)
            assert str(weights.DEFAULT.url).endswith(".pth")
