from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from repnet_search.errors import UsageError, WeightsError
from repnet_search.models.input_range import parse_input_range
from repnet_search.models.vision import torchvision
from repnet_search.models.weights import load_weights
from repnet_search.spec import BackboneSpec


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns torchvision's own state of a whole MobileNetV2, its classifier and last convolution included."""
    path = tmp_path_factory.mktemp("weights") / "full.safetensors"
    save_file(torchvision.models.mobilenet_v2(width_mult=0.35).state_dict(), path)
    return path


def changed(full: Path, to: Path, **updates: torch.Tensor | None) -> Path:
    state = load_file(full)
    for key, value in updates.items():
        name = key.replace("__", ".")
        if value is None:
            del state[name]
        else:
            state[name] = value
    save_file(state, to)
    return to


def test_torchvisions_own_file_fits_with_and_without_its_last_convolution(full: Path) -> None:
    assert "features.18.0.weight" not in load_weights(BackboneSpec(), path=full).tensors
    assert "features.18.0.weight" in load_weights(BackboneSpec(last_conv=True), path=full).tensors


def test_the_input_range_is_the_files_then_imagenet_and_an_option_overrides_both(full: Path, tmp_path: Path) -> None:
    assert load_weights(BackboneSpec(), path=full).input_range.text == "imagenet"
    marked = tmp_path / "marked.safetensors"
    save_file(load_file(full), marked, metadata={"input_range": "0,1"})
    assert load_weights(BackboneSpec(), path=marked).input_range.text == "0,1"
    assert load_weights(BackboneSpec(), path=marked, input_range="-1,1").input_range.text == "-1,1"


def test_input_ranges_normalise_as_torchvision_does() -> None:
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(parse_input_range("imagenet").normalise(pixels), normalise(pixels / 255))
    torch.testing.assert_close(parse_input_range("-1,1").normalise(pixels), pixels / 127.5 - 1)


@pytest.mark.parametrize("text", ["1,-1", "0", "a,b", "", "0,1,2", "nan,1"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="An input range is"):
        parse_input_range(text)


def test_another_width_is_named_key_by_key_with_the_width_that_fits(full: Path) -> None:
    with pytest.raises(WeightsError) as error:
        load_weights(BackboneSpec(width_mult=0.5), path=full)
    text = str(error.value)
    assert ". They fit mobilenet_v2 with --width-mult 0.35 --no-last-conv. First wrong: features.2.conv" in text
    assert text.count("must have shape") == 1
    assert text.endswith(" more keys.")


def test_missing_and_unknown_keys_are_named(full: Path, tmp_path: Path) -> None:
    path = changed(full, tmp_path / "odd.safetensors", features__0__0__weight=None, extra=torch.zeros(1))
    with pytest.raises(WeightsError, match=r"features\.0\.0\.weight is missing; extra is unknown\."):
        load_weights(BackboneSpec(), path=path)


def test_values_that_are_not_finite_are_refused(full: Path, tmp_path: Path) -> None:
    path = changed(full, tmp_path / "nan.safetensors", features__0__1__bias=torch.full((16,), float("nan")))
    with pytest.raises(WeightsError, match=r"not finite, first in features\.0\.0\.bias"):
        load_weights(BackboneSpec(), path=path)


def test_a_negative_variance_is_named(full: Path, tmp_path: Path) -> None:
    path = changed(full, tmp_path / "var.safetensors", features__0__1__running_var=torch.full((16,), -0.5))
    with pytest.raises(WeightsError, match=r"must not be negative, but features\.0\.1\.running_var .* down to -0\.5;"):
        load_weights(BackboneSpec(), path=path)


def test_half_precision_is_read(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file(
        {name: value.half() if value.is_floating_point() else value for name, value in load_file(full).items()}, path
    )
    assert load_weights(BackboneSpec(), path=path).tensors["features.0.0.weight"].dtype is torch.float32


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        load_weights(BackboneSpec(), path=tmp_path / "nowhere.safetensors")


def test_a_truncated_file_is_one_sentence(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(full.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="may be truncated: copy it again"):
        load_weights(BackboneSpec(), path=path)


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\xff" * 64, b"{}" * 100])
def test_what_is_no_safetensors_file_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="no readable safetensors file"):
        load_weights(BackboneSpec(), path=path)


@pytest.mark.parametrize(
    "save", [lambda state, path: torch.save(state, path), lambda state, path: path.write_bytes(pickle.dumps(1))]
)
def test_a_pickle_is_never_opened(save: object, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    save({"a": torch.zeros(1)}, path)  # type: ignore[operator]
    with pytest.raises(WeightsError, match="is a pickle"):
        load_weights(BackboneSpec(), path=path)


def test_a_header_as_long_as_a_pickles_first_byte_says_is_read(full: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.safetensors"
    lengths = []
    for count in range(0, 256, 8):
        save_file(load_file(full), path, metadata={"note": "x" * count})
        lengths.append(path.read_bytes()[0])
        assert load_weights(BackboneSpec(), path=path).tensors
    assert 0x80 in lengths


def test_the_embedded_weights_fit_one_backbone_alone() -> None:
    with pytest.raises(WeightsError, match="give its weights with --weights"):
        load_weights(BackboneSpec(width_mult=1.0), path=None)
