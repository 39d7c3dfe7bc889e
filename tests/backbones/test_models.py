"""The frozen models of all tables: their features against the originals, and a step of training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from repnet_search.backbones import default_width_mult, get_block_table, list_backbones
from repnet_search.errors import WeightsError
from repnet_search.models.backbone import FrozenBackbone
from repnet_search.models.repnet import RepNet
from repnet_search.models.vision import torchvision
from repnet_search.models.weights import create_random_weights, load_weights
from repnet_search.spec import BackboneSpec, Design, ResolvedDesign, get_preset, resolve
from tests.backbones.published import PROXYLESSNAS_MOBILE


def images(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def paper(name: str, resolution: int = 64) -> ResolvedDesign:
    return resolve(get_preset("paper", Design(backbone=BackboneSpec(name=name), connectors=(), resolution=resolution)))


def shake_norms(state: dict[str, Tensor]) -> None:
    """Gives every norm a scale, a shift and statistics of its own, which a fresh network lacks."""
    generator = torch.Generator().manual_seed(1)
    for key in [key for key in state if key.endswith("running_mean")]:
        norm = key.removesuffix("running_mean")
        for part, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.5, 0.5),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.5, 2.0),
        ):
            state[norm + part].uniform_(low, high, generator=generator)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_a_frozen_resnet_is_torchvisions(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name).eval()
    shake_norms(network.state_dict())
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    weights = load_weights(BackboneSpec(name=name), path=tmp_path / "weights.safetensors")
    table = get_block_table(name, width_mult=1.0, last_conv=False)
    seen: list[Tensor] = []
    network.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(images(64))
        features = FrozenBackbone(table, weights.tensors)(images(64))
    torch.testing.assert_close(features / seen[0].std(), seen[0] / seen[0].std(), rtol=1e-4, atol=1e-4)


def released_proxyless() -> dict[str, Tensor]:
    """Returns a state with the key names of the released network, and random values."""
    state: dict[str, Tensor] = {}

    def add(layer: str, *shape: int) -> None:
        state[f"{layer}.conv.weight"] = torch.randn(shape) * (2 / torch.Size(shape[1:]).numel()) ** 0.5
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{layer}.bn.{part}"] = torch.zeros(shape[0])
        state[f"{layer}.bn.num_batches_tracked"] = torch.tensor(0)

    torch.manual_seed(0)
    add("first_conv", 32, 3, 3, 3)
    for index, (in_channels, out_channels, kernel, _, expansion) in PROXYLESSNAS_MOBILE.items():
        key, hidden = f"blocks.{index}.mobile_inverted_conv", in_channels * expansion
        if expansion > 1:
            add(f"{key}.inverted_bottleneck", hidden, in_channels, 1, 1)
        add(f"{key}.depth_conv", hidden, 1, kernel, kernel)
        add(f"{key}.point_linear", out_channels, hidden, 1, 1)
    add("feature_mix_layer", 1280, 320, 1, 1)
    state["classifier.linear.weight"] = torch.zeros(10, 1280)
    shake_norms(state)
    return state


def proxyless_features(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Returns the features before the classifier, computed layer by layer with unfolded norms of ε = 0.001."""

    def layer(x: Tensor, key: str, *, stride: int = 1, linear: bool = False) -> Tensor:
        weight = state[f"{key}.conv.weight"]
        groups = x.shape[1] // weight.shape[1]
        x = functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        norm = (state[f"{key}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        x = functional.batch_norm(x, *norm, eps=1e-3)
        return x if linear else functional.relu6(x)

    x = layer(x, "first_conv", stride=2)
    for index, (in_channels, out_channels, _, stride, expansion) in PROXYLESSNAS_MOBILE.items():
        key = f"blocks.{index}.mobile_inverted_conv"
        out = layer(x, f"{key}.inverted_bottleneck") if expansion > 1 else x
        out = layer(layer(out, f"{key}.depth_conv", stride=stride), f"{key}.point_linear", linear=True)
        x = x + out if stride == 1 and in_channels == out_channels else out
    return layer(x, "feature_mix_layer")


def test_a_frozen_proxylessnas_mobile_is_the_released_network(tmp_path: Path) -> None:
    state = released_proxyless()
    save_file(state, tmp_path / "weights.safetensors")
    spec = BackboneSpec(name="proxylessnas_mobile", last_conv=True)
    table = get_block_table(spec.name, width_mult=1.0, last_conv=True)
    folded = load_weights(spec, path=tmp_path / "weights.safetensors").tensors
    with torch.no_grad():
        features = FrozenBackbone(table, folded)(images(64))
        torch.testing.assert_close(features, proxyless_features(state, images(64)), rtol=1e-4, atol=1e-4)
    # the same file without its last convolution
    cut = load_weights(BackboneSpec(name=spec.name), path=tmp_path / "weights.safetensors").tensors
    assert "feature_mix_layer.conv.weight" not in cut
    assert len(cut) == len(folded) - 2


def test_a_block_without_convolutions_returns_its_input() -> None:
    table = get_block_table("proxylessnas_mobile", width_mult=1.0, last_conv=False)
    backbone = FrozenBackbone(table, create_random_weights(table, seed=0))
    x = images(8)
    assert backbone.blocks[4](x) is x
    assert not list(backbone.blocks[5].parameters())


def test_the_names_of_a_frozen_backbones_parameters() -> None:
    table = get_block_table("resnet18", width_mult=1.0, last_conv=False)
    backbone = FrozenBackbone(table, create_random_weights(table, seed=0), train_bias=True)
    names = [name for name, _ in backbone.named_parameters()]
    assert names[:1] == ["blocks.0.convs.0.bias"]
    assert [name for name in names if name.startswith("blocks.3.")] == [
        "blocks.3.convs.0.bias",
        "blocks.3.convs.1.bias",
        "blocks.3.shortcut.bias",
    ]
    assert "blocks.3.shortcut.weight" in backbone.state_dict()
    assert backbone.blocks[1].shortcut is None


@pytest.mark.parametrize("name", list_backbones())
def test_random_weights_neither_die_nor_explode(name: str) -> None:
    table = get_block_table(name, width_mult=default_width_mult(name), last_conv=False)
    weights, again, other = (create_random_weights(table, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    assert not any(torch.equal(weights[key], other[key]) for key in weights)
    x = images(64)
    with torch.no_grad():
        for block in FrozenBackbone(table, weights).blocks:
            x = block(x)
            assert 0.05 < x.std() < 5


@pytest.mark.parametrize("name", list_backbones())
def test_the_papers_design_trains_a_step_on_every_backbone(name: str) -> None:
    resolved = paper(name)
    torch.manual_seed(0)
    model = RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=4)
    frozen = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    x, labels = images(64, 4), torch.arange(4)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.002)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), labels)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in parameters)
    assert all(torch.equal(value, frozen[key]) for key, value in model.backbone.state_dict().items())


@pytest.mark.parametrize("name", ["proxylessnas_mobile", "resnet18"])
def test_gradients_reach_every_bias_but_a_dead_one(name: str) -> None:
    base = Design(backbone=BackboneSpec(name=name), connectors=(), resolution=48, train_bias=True)
    resolved = resolve(base)
    model = RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=4)
    torch.nn.init.normal_(model.head.weight)
    functional.cross_entropy(model(images(48)), torch.tensor([0, 1])).backward()
    biases = [parameter for key, parameter in model.backbone.named_parameters() if key.endswith("bias")]
    assert len(biases) == len(list(resolved.table.convs()))
    assert all(bias.grad is not None and bias.grad.abs().sum() > 0 for bias in biases)


def test_module_2_reads_what_two_idle_blocks_passed_on() -> None:
    resolved = paper("proxylessnas_mobile")
    model = RepNet(resolved, create_random_weights(resolved.table, seed=0), classes=4).eval()
    seen: list[Tensor] = []
    written: list[Tensor] = []
    model.repnet[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.backbone.blocks[3].register_forward_hook(lambda _, __, output: written.append(output))
    with torch.no_grad():
        model(images(64))
    assert seen[0] is written[0]


def test_weights_of_another_backbone_say_which_one_they_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(torchvision.models.resnet34().state_dict(), path)
    with pytest.raises(WeightsError) as error:
        load_weights(BackboneSpec(name="resnet18"), path=path)
    assert str(error.value).startswith("The weights weights.safetensors do not fit resnet18. They fit resnet34. First ")
    save_file(torchvision.models.mobilenet_v2(width_mult=0.5).state_dict(), path)
    with pytest.raises(WeightsError) as error:
        load_weights(BackboneSpec(name="proxylessnas_mobile"), path=path)
    assert "They fit mobilenet_v2 with --width-mult 0.5 --no-last-conv. First wrong: first_conv" in str(error.value)


def test_a_backbone_that_there_is_not_has_no_weights() -> None:
    with pytest.raises(WeightsError, match=r"but the backbone is resnet18; give its weights with --weights"):
        load_weights(BackboneSpec(name="resnet18"), path=None)
