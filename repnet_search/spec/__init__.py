"""Value classes of designs, spaces and studies, and their YAML."""

from repnet_search.spec.design import (
    BackboneSpec,
    Connector,
    Design,
    Exchange,
    ModuleInput,
    ModuleSpec,
    Norm,
    Optimizer,
    Recipe,
)
from repnet_search.spec.files import design_to_yaml, load_design, load_spec, parse_spec, save_text
from repnet_search.spec.presets import get_preset, list_presets
from repnet_search.spec.resolve import ResolvedDesign, resolve, snap_lr
from repnet_search.spec.shapes import IMAGE_CHANNELS, ModuleShape

__all__ = [
    "IMAGE_CHANNELS",
    "BackboneSpec",
    "Connector",
    "Design",
    "Exchange",
    "ModuleInput",
    "ModuleShape",
    "ModuleSpec",
    "Norm",
    "Optimizer",
    "Recipe",
    "ResolvedDesign",
    "design_to_yaml",
    "get_preset",
    "list_presets",
    "load_design",
    "load_spec",
    "parse_spec",
    "resolve",
    "save_text",
    "snap_lr",
]
