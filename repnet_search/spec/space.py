"""A search space as its YAML file has it: for every design field the list of choices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from repnet_search.spec.design import (
    FORMAT_VERSION,
    Depth,
    Groups,
    Kernel,
    Norm,
    NormChoice,
    Pool,
    Recipe,
    SpecModel,
    Width,
)

WriteMode = Literal["both", "to_backbone", "block_input"]
Readers = Annotated[int, Field(ge=0)] | Literal["all"]


# YAML has lists where the value classes have tuples.
_Choices = Field(strict=False, min_length=1)


class ModuleChoices(SpecModel):
    """Choices of the module fields; width and depth are chosen once per half of the backbone, the others once."""

    depth: Annotated[tuple[Depth, ...], _Choices] = (0, 1, 2)
    width: Annotated[tuple[Width, ...], _Choices] = (0.25, 0.5, 1.0, 2.0)
    kernel: Annotated[tuple[Kernel, ...], _Choices] = (3, 5)
    groups: Annotated[tuple[Groups, ...], _Choices] = (1, 2, 4, "depthwise")
    pool: Annotated[tuple[Pool, ...], _Choices] = (1, 2, 4)
    norm: Annotated[tuple[NormChoice, ...], _Choices] = (Norm.GROUP,)
    weight_standardisation: Annotated[tuple[bool, ...], _Choices] = (False,)


class SpaceSpec(SpecModel):
    """The designs that a search may propose.

    Each stage of the backbone has at most one connector, after one of `connector_blocks`. The first `readers`
    connectors only read (to_repnet), the ones behind them write as `write` says.
    """

    format: Literal[1] = FORMAT_VERSION
    resolution: Annotated[tuple[Annotated[int, Field(ge=1, le=2048)], ...], _Choices] = (48,)
    activation_bits: Annotated[tuple[Literal[8, 32], ...], _Choices] = (32,)
    image_pool: Annotated[tuple[Literal[1, 2, 4, 8], ...], _Choices] = (2, 4)
    connector_blocks: Literal["all"] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = "all"
    write: Annotated[tuple[WriteMode, ...], _Choices] = ("both", "to_backbone", "block_input")
    readers: Annotated[tuple[Readers, ...], _Choices] = (0, 1, 2, 3, "all")
    module: ModuleChoices = ModuleChoices()
    train_bias: Annotated[tuple[bool, ...], _Choices] = (False,)
    recipe: Annotated[tuple[Recipe, ...], _Choices] = (Recipe(),)

    @field_validator("*")
    @classmethod
    def _no_repeats(cls, value: object) -> object:
        if isinstance(value, tuple) and len(set(map(repr, value))) < len(value):
            raise ValueError("a list without repeated choices")
        return value
