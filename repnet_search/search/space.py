"""A search space on a backbone: Optuna's parameters, and the design that each set of their values means.

Every parameter is a categorical with its complete, fixed list of choices, because Optuna forbids changing it later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from random import Random

from optuna.distributions import CategoricalDistribution

from repnet_search.backbones import BlockTable
from repnet_search.spec.design import (
    BackboneSpec,
    Connector,
    Design,
    Exchange,
    ModuleInput,
    Recipe,
)
from repnet_search.spec.resolve import ResolvedDesign, check_connector_block, resolve
from repnet_search.spec.space import Readers, SpaceSpec
from repnet_search.spec.table import get_table

Choice = bool | int | float | str | None
Params = dict[str, Choice]
"""A value for each parameter, by name."""

_PER_HALF = ("depth", "width")
_ONCE = ("kernel", "groups", "pool", "norm", "weight_standardisation")


class SearchSpace:
    """The parameters of a space on one backbone; where it comes in several widths, the width is one of them."""

    def __init__(self, spec: SpaceSpec, *backbones: BackboneSpec) -> None:
        """Prepares the parameters.

        Args:
            spec: the choices.
            backbones: a backbone in one or several widths; they have the same blocks, with other channels.

        Raises:
            SpecError: a connector block that the backbone does not have, or that passes its input on unchanged.
        """
        self.spec = spec
        self.backbones = tuple(sorted(backbones, key=lambda backbone: backbone.width_mult))
        # In a narrow width two stages may have the same channels, and be one: the finest division holds for all.
        self.table = max(map(get_table, self.backbones), key=lambda table: len(table.stages))
        self.recipes = {_label(recipe): recipe for recipe in spec.recipe}
        self.stages = _stages(spec, self.table)
        self.distributions = {
            name: CategoricalDistribution(choices) for name, choices in self._choices().items() if choices
        }

    def _choices(self) -> dict[str, list[Choice]]:
        spec = self.spec
        choices: dict[str, list[Choice]] = {
            "width_mult": [value for width in self.widths for value in width.values()],
            "resolution": list(spec.resolution),
            "activation_bits": list(spec.activation_bits),
            "image_pool": list(spec.image_pool),
        }
        for stage, blocks in self.stages.items():
            choices[_stage(stage)] = [None, *blocks]
        choices["readers"] = list(spec.readers)
        choices["write"] = list(spec.write)
        for field in _PER_HALF:
            for half in ("early", "late"):
                choices[f"{half}_{field}"] = list(getattr(spec.module, field))
        for field in _ONCE:
            choices[field] = [getattr(value, "value", value) for value in getattr(spec.module, field)]
        choices["train_bias"] = list(spec.train_bias)
        choices["recipe"] = list(self.recipes)
        return choices

    @property
    def widths(self) -> list[Params]:
        """The widths of the backbone as parameters, the narrowest first; one alone is no parameter."""
        if len(self.backbones) == 1:
            return [{}]
        return [{"width_mult": backbone.width_mult} for backbone in self.backbones]

    def backbone_of(self, params: Mapping[str, object]) -> BackboneSpec:
        """Returns the backbone in the width that a set of values means."""
        width = params.get("width_mult", self.backbones[0].width_mult)
        return next(backbone for backbone in self.backbones if backbone.width_mult == width)

    @cached_property
    def combinations(self) -> int:
        """How many sets of parameter values there are; several may mean the same design."""
        return math.prod(len(distribution.choices) for distribution in self.distributions.values())

    def sample(self, random: Random) -> Params:
        """Returns a set of values drawn uniformly."""
        return {name: random.choice(item.choices) for name, item in self.distributions.items()}

    def design(self, params: Mapping[str, object]) -> ResolvedDesign:
        """Returns the design that a set of values means; group counts are lowered to a divisor."""
        chosen = [(stage, params[_stage(stage)]) for stage in self.stages]
        blocks = [block for _, block in chosen if isinstance(block, int)]
        readers = len(blocks) if params["readers"] == "all" else min(_int(params["readers"]), len(blocks))
        block_input = params["write"] == "block_input"
        connectors = []
        for index, block in enumerate(blocks):
            reads_only = index < readers and not block_input
            exchange = Exchange.TO_REPNET if reads_only else _written(params["write"])
            connectors.append(self._connector(params, block, exchange))
        design = Design(
            backbone=self.backbone_of(params),
            resolution=_int(params["resolution"]),
            activation_bits=8 if params["activation_bits"] == 8 else 32,
            image_pool=params["image_pool"],  # type: ignore[arg-type]  # one of the choices that SpaceSpec checked
            connectors=tuple(connectors),
            module_input=ModuleInput.BLOCK_INPUT if block_input else ModuleInput.STREAM,
            train_bias=bool(params["train_bias"]),
            recipe=self.recipes[str(params["recipe"])],
        )
        return resolve(design, clamp_groups=True)

    def _connector(self, params: Mapping[str, object], block: int, exchange: Exchange) -> Connector:
        half = "early" if block < len(self.table.blocks) / 2 else "late"
        fields = {field: params[f"{half}_{field}"] for field in _PER_HALF} | {field: params[field] for field in _ONCE}
        return Connector.model_validate({"after_block": block, "exchange": exchange, **fields})

    def last_layer(self) -> list[Params]:
        """Returns the last layer alone, with every width, resolution and recipe of the space."""
        base = self._first_choices()
        return [
            base | width | {"resolution": resolution, "recipe": recipe}
            for width in self.widths
            for resolution in self.spec.resolution
            for recipe in self.recipes
        ]

    def paper(self) -> list[Params]:
        """Returns the paper's preset, as near as the space has it, scaled down step by step.

        Its modules' width is halved until the least of the space, then its earliest connectors are dropped; and that at
        every resolution from the largest down, on the backbone in every width from the widest down, with every recipe.
        """
        base = self._first_choices() | {
            "write": "block_input" if "block_input" in self.spec.write else self.spec.write[0],
            "readers": self._fewest_readers(),
            "kernel": max(self.spec.module.kernel),
            "groups": _nearest(2, self.spec.module.groups),
            "pool": _nearest(2, self.spec.module.pool),
            "image_pool": _nearest(2, self.spec.image_pool),
        }
        depth = _nearest(1, self.spec.module.depth)
        base |= {"early_depth": depth, "late_depth": depth}
        return [
            base | shape | width | {"resolution": resolution, "recipe": recipe}
            for resolution in sorted(self.spec.resolution, reverse=True)
            for width in reversed(self.widths)
            for shape in self._paper_shapes()
            for recipe in self.recipes
        ]

    def _paper_shapes(self) -> list[Params]:
        """Returns placements and widths: all of the paper's connectors ever narrower, then ever fewer of them."""
        blocks: list[int | None] = [
            next((block for block in self.table.paper_blocks if block in choices), None)
            for choices in self.stages.values()
        ]
        widths = sorted(self.spec.module.width, reverse=True)
        scaled = [width for width in widths if width <= 1.0] or widths[-1:]
        shapes = [(blocks, width) for width in scaled]
        shapes += [([*[None] * dropped, *blocks[dropped:]], scaled[-1]) for dropped in range(1, len(blocks))]
        params: list[Params] = []
        for placed, width in shapes:
            chosen: Params = {_stage(stage): block for stage, block in zip(self.stages, placed, strict=True)}
            params.append(chosen | {"early_width": width, "late_width": width})
        return params

    def dense(self) -> list[Params]:
        """Returns the plainest modules, behind the last block of every stage, all reading and writing.

        At every resolution from the largest down, on the backbone in every width from the widest down. Such modules
        train few parameters, and over-fit least where images are few.
        """
        module = self.spec.module
        base = self._first_choices() | {
            "write": "block_input" if "block_input" in self.spec.write else self.spec.write[0],
            "readers": self._fewest_readers(),
            "pool": min(module.pool),
            "image_pool": max(self.spec.image_pool),
            **dict.fromkeys(("early_depth", "late_depth"), min(module.depth)),
            **{_stage(stage): blocks[-1] for stage, blocks in self.stages.items()},
        }
        return [
            base | width | {"resolution": resolution}
            for resolution in sorted(self.spec.resolution, reverse=True)
            for width in reversed(self.widths)
        ]

    def drop_one(self, params: Params) -> list[Params]:
        """Returns a set of values without one connector, for each that it has."""
        names = [_stage(stage) for stage in self.stages]
        return [params | {name: None} for name in names if params[name] is not None]

    def _fewest_readers(self) -> Readers:
        return min(self.spec.readers, key=lambda readers: math.inf if readers == "all" else readers)

    def _first_choices(self) -> Params:
        """Returns the first choice of every parameter, no connectors and frozen biases where the space has that."""
        first: Params = {name: item.choices[0] for name, item in self.distributions.items()}
        return first | ({"train_bias": False} if False in self.spec.train_bias else {})


def _stages(spec: SpaceSpec, table: BlockTable) -> dict[int, tuple[int, ...]]:
    """Returns the connector blocks of each stage that has any."""
    if spec.connector_blocks == "all":
        allowed = {index for index, block in enumerate(table.blocks) if not block.is_identity}
    else:
        for position, block in enumerate(spec.connector_blocks):
            check_connector_block(table, block, field=f"connector_blocks[{position}]")
        allowed = set(spec.connector_blocks)
    stages = {index: tuple(block for block in stage if block in allowed) for index, stage in enumerate(table.stages)}
    return {index: blocks for index, blocks in stages.items() if blocks}


def _stage(index: int) -> str:
    return f"stage_{index}"


def _label(recipe: Recipe) -> str:
    ratio = f" head×{recipe.head_lr_ratio:g}" if recipe.head_lr_ratio != 1 else ""
    return f"{recipe.optimizer.value} x{recipe.accumulate} lr {recipe.lr:g}{ratio}"


def _written(mode: object) -> Exchange:
    return Exchange.TO_BACKBONE if mode == "to_backbone" else Exchange.BOTH


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _nearest(wanted: float, choices: tuple[int | float | str, ...]) -> int | float | str:
    """Returns the choice nearest to a number, in ratio; names come last."""
    return min(
        choices,
        key=lambda choice: abs(math.log((choice + 1) / (wanted + 1))) if isinstance(choice, int | float) else math.inf,
    )
