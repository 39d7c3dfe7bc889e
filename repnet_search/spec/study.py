"""What a study is about: stored with it, so that a later run cannot mix two different ones."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from repnet_search.boards import Region, get_board
from repnet_search.spec.design import BackboneSpec, SpecModel
from repnet_search.spec.space import SpaceSpec
from repnet_search.spec.target import DeviceLimits, Schedule
from repnet_search.spec.training import FeatureType, Metric, TrainingSpec

_NAMELESS = ("flash_bytes", "board")
"""Settings that the digest leaves out where they are not set: such studies keep the names that they had before.

The same goes for the metric where it is the accuracy, and for a search by default.
"""


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


class WidthSpec(WeightsSpec):
    """The weights of another width of the backbone."""

    width_mult: float


class Sampler(StrEnum):
    """What proposes designs, once the starts are trained."""

    TPE = "tpe"
    RANDOM = "random"
    NSGA2 = "nsga2"
    EXHAUSTIVE = "exhaustive"


class SearchSpec(SpecModel):
    """How a study proposes designs.

    `pruned_per_design`: of the over-budget designs that the sampler would have liked, so many become pruned trials for
    each trained one, so that the study shows what the budget cut off. `reduction`: at each rung of its epochs one in so
    many designs of a stratum of memory goes on; 1 means that all do.
    """

    sampler: Sampler = Field(default=Sampler.TPE, strict=False)
    pruned_per_design: int = Field(default=1, ge=0)
    reduction: int = Field(default=1, ge=1)


class StudySpec(SpecModel):
    """The resolved settings of a study: everything that its results depend on.

    Where the backbone's width is searched too, `backbone` and `weights` are the narrowest, `wider` the others.
    """

    budget_bytes: int = Field(ge=1)
    reserve_bytes: int = Field(default=0, ge=0)
    flash_bytes: int | None = Field(default=None, ge=1)
    board: str | None = None
    schedule: Schedule = Field(default=Schedule.LAYER, strict=False)
    backbone: BackboneSpec
    weights: WeightsSpec
    wider: Annotated[tuple[WidthSpec, ...], Field(strict=False)] = ()
    data: DataSpec
    space: SpaceSpec
    training: TrainingSpec
    search: SearchSpec = SearchSpec()

    @property
    def available_bytes(self) -> int:
        """What a design may take: the budget less the reserve."""
        return self.budget_bytes - self.reserve_bytes

    @property
    def all_weights(self) -> dict[BackboneSpec, WeightsSpec]:
        """The weights of the backbone in each of its widths, the narrowest first."""
        others = {self.backbone.model_copy(update={"width_mult": item.width_mult}): item for item in self.wider}
        return {self.backbone: self.weights} | others

    @property
    def backbones(self) -> tuple[BackboneSpec, ...]:
        """The backbone in each of its widths, the narrowest first."""
        return tuple(self.all_weights)

    @property
    def limits(self) -> DeviceLimits:
        """What a design may take: RAM, flash, and the regions of the board.

        Raises:
            SpecError: there is no such board.
        """
        regions: tuple[Region, ...] = ()
        if self.board is not None:
            regions = DeviceLimits.of_board(get_board(self.board), reserve_bytes=self.reserve_bytes).regions
        return DeviceLimits(self.available_bytes, self.flash_bytes, regions)

    @property
    def digest(self) -> str:
        """The first six characters of the settings' sha256, for a study's default name."""
        values = self.model_dump(mode="json")
        if self.training.metric is Metric.ACCURACY:
            del values["training"]["metric"]
        if self.training.feature_cache_type is FeatureType.FP32:
            del values["training"]["feature_cache_type"]
        if not self.wider:
            del values["wider"]
        if self.search == SearchSpec():
            del values["search"]
        set_values = {name: value for name, value in values.items() if value is not None or name not in _NAMELESS}
        text = json.dumps(set_values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:6]

    def differences(self, other: StudySpec) -> list[str]:
        """Returns the names of the settings in which two studies differ; those of another width are weights too."""
        names = (name for name in type(self).model_fields if getattr(self, name) != getattr(other, name))
        return list(dict.fromkeys("weights" if name == "wider" else name for name in names))
