"""How long and from which seed a design is trained on this machine."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from repnet_search.spec.design import SpecModel


class TrainingSpec(SpecModel):
    """Proxy training: epochs over the training images' views, cosine schedule to 0; the recipe is the design's."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    views: Annotated[int, Field(ge=1, le=64)] = 8
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
