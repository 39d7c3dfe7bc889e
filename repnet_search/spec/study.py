"""What a study is about: stored with it, so that a later run cannot mix two different ones."""

from __future__ import annotations

import hashlib
import json

from pydantic import Field

from repnet_search.spec.design import BackboneSpec, SpecModel
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.target import Schedule
from repnet_search.spec.training import TrainingSpec


class DataSpec(SpecModel):
    """The images, by name and content."""

    name: str
    sha256: str
    classes: int
    proxy_images: int | None = None


class WeightsSpec(SpecModel):
    """The backbone's weights, by name and content, and the input range that they want."""

    name: str
    sha256: str
    input_range: str


class StudySpec(SpecModel):
    """The resolved settings of a study: everything that its results depend on."""

    budget_bytes: int = Field(ge=1)
    reserve_bytes: int = Field(default=0, ge=0)
    schedule: Schedule = Field(default=Schedule.LAYER, strict=False)
    backbone: BackboneSpec
    weights: WeightsSpec
    data: DataSpec
    space: SpaceSpec
    training: TrainingSpec

    @property
    def available_bytes(self) -> int:
        """What a design may take: the budget less the reserve."""
        return self.budget_bytes - self.reserve_bytes

    @property
    def digest(self) -> str:
        """The first six characters of the settings' sha256, for a study's default name."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:6]

    def differences(self, other: StudySpec) -> list[str]:
        """Returns the names of the settings in which two studies differ."""
        return [name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)]
