"""The backbones that studies/backbone_contract.py checks, each with its original network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from repnet_search.models.traced import trace_backbone
from repnet_search.models.user_module import create_user_module
from repnet_search.models.vision import torchvision
from repnet_search.spec import BackboneSpec

OWN_FILE = Path(__file__).with_name("own_backbones.py")
OWN = ("mobilenet_v3_small", "resnet18", "mnasnet", "regnet_y_400mf", "efficientnet_b0", "resnext50", "tiny", "plain")
REGISTRY = (
    (BackboneSpec(name="mobilenet_v2", width_mult=1.0, last_conv=True), "mobilenet_v2"),
    (BackboneSpec(name="mobilenet_v3_small", last_conv=True), "mobilenet_v3_small"),
    (BackboneSpec(name="mobilenet_v3_large", last_conv=True), "mobilenet_v3_large"),
    (BackboneSpec(name="mnasnet", width_mult=0.5, last_conv=True), "mnasnet0_5"),
    (BackboneSpec(name="mnasnet", width_mult=0.75, last_conv=True), "mnasnet0_75"),
    (BackboneSpec(name="mnasnet", width_mult=1.0, last_conv=True), "mnasnet1_0"),
    (BackboneSpec(name="mnasnet", width_mult=1.3, last_conv=True), "mnasnet1_3"),
    (BackboneSpec(name="resnet18"), "resnet18"),
    (BackboneSpec(name="resnet34"), "resnet34"),
    (BackboneSpec(name="resnet50"), "resnet50"),
)


def create_subjects() -> Iterator[tuple[BackboneSpec, nn.Module]]:
    """Yields every backbone with its original network, norms shaken."""
    torch.manual_seed(0)
    for spec, name in REGISTRY:
        network = torchvision.models.get_model(name).eval()
        shake_norms(network)
        yield spec, network
    for name in OWN:
        spec, network = create_own(name)
        shake_norms(network)
        yield spec, network


def create_own(name: str) -> tuple[BackboneSpec, nn.Module]:
    """Returns a network of own_backbones.py, traced, and the network itself."""
    full_name = f"{OWN_FILE}:{name}"
    return trace_backbone(full_name), create_user_module(full_name).module


def shake_norms(network: nn.Module) -> None:
    """Gives every norm a scale, a shift and statistics of its own, which a fresh network lacks."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
            ):
                if value is not None:
                    value.data.uniform_(low, high, generator=generator)
