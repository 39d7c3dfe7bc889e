"""Random designs over all that a design file can say, for tests and studies that compare two ways of counting."""

from __future__ import annotations

from random import Random

from repnet_search.errors import SpecError
from repnet_search.spec import (
    BackboneSpec,
    Connector,
    Design,
    Exchange,
    ModuleInput,
    Norm,
    Optimizer,
    Recipe,
    ResolvedDesign,
    resolve,
)
from repnet_search.spec.table import get_table

NORMS = (Norm.GROUP, Norm.LAYER, Norm.NONE)
BACKBONE = BackboneSpec()


def random_design(
    random: Random,
    *,
    norms: tuple[Norm, ...] = NORMS,
    resolutions: tuple[int, ...] = (48, 64),
    backbone: BackboneSpec = BACKBONE,
) -> Design:
    """Returns a design that need not be legal: block_input goes with `both` alone."""
    table = get_table(backbone)
    blocks = sorted(random.sample(range(len(table.blocks)), random.randint(0, min(6, len(table.blocks)))))
    connectors = tuple(
        Connector(
            after_block=block,
            exchange=random.choice(list(Exchange)),
            depth=random.choice([0, 1, 2]),
            width=random.choice([0.5, 1.0, 2.0]),
            kernel=random.choice([3, 5]),
            groups=random.choice([1, 2, 4, "depthwise"]),
            pool=random.choice([1, 2, 4]),
            norm=random.choice(norms),
            weight_standardisation=random.random() < 0.3,
        )
        for block in blocks
    )
    return Design(
        backbone=backbone,
        connectors=connectors,
        resolution=random.choice(resolutions),
        image_pool=random.choice((1, 2, 4)),
        train_bias=random.random() < 0.25,
        module_input=random.choice(list(ModuleInput)),
        recipe=Recipe(optimizer=random.choice(list(Optimizer)), accumulate=random.choice([1, 8])),
    )


def random_resolved(
    random: Random,
    *,
    norms: tuple[Norm, ...] = NORMS,
    resolutions: tuple[int, ...] = (48, 64),
    backbone: BackboneSpec = BACKBONE,
) -> ResolvedDesign:
    """Returns a random legal design in its explicit form."""
    while True:
        design = random_design(random, norms=norms, resolutions=resolutions, backbone=backbone)
        try:
            return resolve(design, clamp_groups=True)
        except SpecError:
            continue


def six_connectors(exchange: Exchange = Exchange.BOTH, **fields: object) -> Design:
    """Returns six connectors over all of MobileNetV2; `fields` go to every connector."""
    return Design(
        connectors=tuple(
            Connector.model_validate({"after_block": block, "exchange": exchange, **fields})
            for block in (1, 3, 6, 10, 13, 17)
        )
    )
