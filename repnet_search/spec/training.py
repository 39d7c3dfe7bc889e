"""How long and from which seed a design is trained on this machine, and by what it is judged."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from repnet_search.spec.design import SpecModel


class Metric(StrEnum):
    """What a search maximises and a table shows: the share of images put into their class, or its mean over classes."""

    ACCURACY = "accuracy"
    BALANCED_ACCURACY = "balanced_accuracy"

    @property
    def label(self) -> str:
        """The metric in words."""
        return self.value.replace("_", " ")

    def of(self, images: str) -> str:
        """Returns what its value on some images is called, such as "test": a plain accuracy goes without saying."""
        return images if self is Metric.ACCURACY else f"{images} (balanced)"


class FeatureType(StrEnum):
    """How frozen features of an fp32 backbone are kept; those of an int8 one are kept exactly in any case."""

    FP32 = "fp32"
    FP16 = "fp16"
    UINT8 = "uint8"


class TrainingSpec(SpecModel):
    """Proxy training: epochs over the training images' views, cosine schedule to 0; the recipe is the design's."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    views: Annotated[int, Field(ge=1, le=64)] = 8
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    metric: Metric = Field(default=Metric.ACCURACY, strict=False)
    feature_cache_type: FeatureType = Field(default=FeatureType.FP32, strict=False)
