"""A design: which side network adapts which backbone, and the recipe that trains it.

Every field but `connectors` has a default, so that a design file says only what matters. `resolve` (in resolve.py)
makes every field explicit and effective.

[Yang2022repnet] L. Yang, A. S. Rakin, D. Fan, Rep-Net: Efficient On-Device Learning via Feature Reprogramming, CVPR
2022.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from repnet_search.backbones import default_width_mult
from repnet_search.spec.traced import TracedSpec

FORMAT_VERSION: Literal[1] = 1


class Exchange(StrEnum):
    """What an activation connector passes, s being its module's output and b the backbone's feature [Yang2022repnet].

    BOTH: b ← b + γ⊙s, r = the new b. TO_BACKBONE: b ← b + γ⊙s, r = s. TO_REPNET: b unchanged, r = s + b.
    """

    BOTH = "both"
    TO_BACKBONE = "to_backbone"
    TO_REPNET = "to_repnet"

    @property
    def writes(self) -> bool:
        """Whether the backbone's feature changes."""
        return self is not Exchange.TO_REPNET


class Norm(StrEnum):
    """The norm of the Rep-Net modules: 8 channels per group, one group, the batch, or none."""

    GROUP = "group"
    LAYER = "layer"
    BATCH = "batch"
    NONE = "none"


class ModuleInput(StrEnum):
    """What module j ≥ 2 reads: the Rep-Net's stream r, or the merged feature in front of its connector's block."""

    STREAM = "stream"
    BLOCK_INPUT = "block_input"


class Optimizer(StrEnum):
    """The update rules; what each keeps per parameter is counted in memory/parameters.py."""

    SGD = "sgd"
    SIGN_SGD = "sign_sgd"
    NORMALISED_SGD = "normalised_sgd"
    MOMENTUM = "momentum"
    ADAM = "adam"


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("an odd number")
    return kernel


Groups = Annotated[int, Field(ge=1)] | Literal["depthwise"]
Width = Annotated[float, Field(gt=0, le=8, allow_inf_nan=False)]
Depth = Annotated[int, Field(ge=0, le=8)]
Kernel = Annotated[int, Field(ge=1, le=15), AfterValidator(_odd)]
Pool = Annotated[int, Field(ge=1, le=64)]
# The YAML reader gives plain text for an enumeration; everything else is taken strictly ("2" is not 2).
NormChoice = Annotated[Norm, Field(strict=False)]


class SpecModel(BaseModel):
    """A frozen value class that refuses unknown fields and mistyped values."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BackboneSpec(SpecModel):
    """The frozen backbone, by its name in the registry; a `width_mult` that is left out is the backbone's default.

    A network of the user's own is named `path/to/file.py:function`, and `traced` holds what it consists of.
    """

    name: str = "mobilenet_v2"
    width_mult: Annotated[float, Field(gt=0, le=4, allow_inf_nan=False)] = 0.35
    last_conv: bool = False
    traced: TracedSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_width(cls, value: Any) -> Any:
        """Makes the width explicit, so that two files that mean the same backbone are the same design.

        Raises:
            SpecError: there is no such backbone; no ValueError, which pydantic would make its own sentence of.
        """
        if not isinstance(value, dict) or "width_mult" in value or not isinstance(value.get("name"), str):
            return value
        return value | {"width_mult": default_width_mult(value["name"])}

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `traced` out where there is none, and in it what is as usual: a design stays short."""
        value: dict[str, Any] = handler(self)
        value.pop("traced", None)
        if self.traced is not None:
            value["traced"] = self.traced.model_dump(mode="json", exclude_defaults=True)
        return value


class ModuleSpec(SpecModel):
    """The fields of a Rep-Net module: average pool, [conv, norm, ReLU] × depth, 1×1 conv, norm, resize."""

    depth: Depth = 1
    width: Width = 1.0
    kernel: Kernel = 3
    groups: Groups = 2
    pool: Pool = 2
    norm: NormChoice = Norm.GROUP
    weight_standardisation: bool = False


class Connector(SpecModel):
    """An activation connector after a block; a module field that it names overrides the design's `module`."""

    after_block: Annotated[int, Field(ge=0)]
    exchange: Annotated[Exchange, Field(strict=False)] = Exchange.BOTH
    depth: Depth | None = None
    width: Width | None = None
    kernel: Kernel | None = None
    groups: Groups | None = None
    pool: Pool | None = None
    norm: NormChoice | None = None
    weight_standardisation: bool | None = None


class Recipe(SpecModel):
    """How the trainable parameters are updated; the memory budget pays for it.

    `accumulate` images make one update, their gradients averaged; 1 fuses the update into the backward pass.
    """

    optimizer: Annotated[Optimizer, Field(strict=False)] = Optimizer.SIGN_SGD
    accumulate: Annotated[int, Field(ge=1, le=4096)] = 1
    lr: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 0.001
    head_lr_ratio: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] = 1.0


class Design(SpecModel):
    """A whole design, as its YAML file has it."""

    format: Literal[1] = FORMAT_VERSION
    backbone: BackboneSpec = BackboneSpec()
    resolution: Annotated[int, Field(ge=1, le=2048)] = 48
    activation_bits: Literal[8, 32] = 32
    image_pool: Literal[1, 2, 4, 8] = 4
    connectors: Annotated[tuple[Connector, ...], Field(strict=False)]
    module: ModuleSpec = ModuleSpec()
    module_input: Annotated[ModuleInput, Field(strict=False)] = ModuleInput.STREAM
    train_bias: bool = False
    recipe: Recipe = Recipe()

    def module_of(self, index: int) -> ModuleSpec:
        """Returns the module fields of connector `index`, its overrides applied."""
        connector = self.connectors[index]
        overrides = {name: value for name in ModuleSpec.model_fields if (value := getattr(connector, name)) is not None}
        return self.module.model_copy(update=overrides) if overrides else self.module
