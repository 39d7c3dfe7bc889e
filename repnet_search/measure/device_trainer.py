"""Training as the device would: image after image through the planned arena, and what each term of the account takes.

The reference kernels of executor.py compute every step; between two steps nothing lives but the weights, what the
optimizer keeps, and with `accumulate` the gradients of the update that is under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from repnet_search.graph import TrainingGraph
from repnet_search.measure.executor import ArenaExecutor
from repnet_search.memory import Arena
from repnet_search.models.input_range import InputRange
from repnet_search.models.quantised import QuantisedBackbone
from repnet_search.models.repnet import RepNet
from repnet_search.spec import Recipe


@dataclass(frozen=True, slots=True)
class Learnt:
    """The trained weights behind the last update that is complete, and the images that made them."""

    images: int
    state: Mapping[str, Tensor]


class DeviceTrainer(ArenaExecutor):
    """Trains a model's parameters in its recipe, one image at a time, inside a planned arena.

    `learnt` is always whole: it is exchanged at once when an update is complete, so an interrupt in the middle of a
    step costs that update alone.
    """

    def __init__(
        self,
        model: RepNet,
        graph: TrainingGraph,
        arena: Arena,
        *,
        recipe: Recipe,
        input_range: InputRange,
    ) -> None:
        """Copies the model's state.

        Args:
            model: where the training starts; it is not changed.
            graph: the step at micro-batch 1.
            arena: where its buffers lie.
            recipe: the update.
            input_range: what the image's bytes mean.
        """
        super().__init__(
            graph,
            arena,
            model.state_dict(),
            recipe=recipe,
            input_range=input_range,
            backbone=model.backbone if isinstance(model.backbone, QuantisedBackbone) else None,
        )
        parameters = {name for name, value in model.named_parameters() if value.requires_grad}
        self._parameters = parameters
        self._trained = tuple(model.trainable_state())
        self._gradient_bytes = 0
        self.learnt = Learnt(0, self._copy_trained())

    def learn(self, images: Tensor, labels: Tensor, *, rate_scale: float = 1.0) -> float:
        """Returns the mean loss of the images of one update, after it.

        Args:
            images: uint8 (K, 3, H, W) with K at most the recipe's `accumulate`; they are run one by one.
            labels: int64 (K,).
            rate_scale: a factor on the learning rate.
        """
        self._rate_scale = rate_scale
        losses = [self.run(image[None], label[None]) for image, label in zip(images, labels, strict=True)]
        if self._recipe.accumulate > 1:
            self._gradient_bytes = max(self._gradient_bytes, sum(value.nbytes for value in self.gradients.values()))
        self.step(len(losses))
        # What the proof compares; of a thousand steps it would fill the memory.
        for kept in (self.gradients, self.sides, self.codes):
            kept.clear()
        self.learnt = Learnt(self.learnt.images + len(losses), self._copy_trained())
        return sum(losses) / len(losses)

    @property
    def measured_terms(self) -> dict[str, int]:
        """What each term of the arena account has really taken so far, in bytes, by the account's names."""
        parameters = sum(self.state[name].nbytes for name in self._parameters)
        statistics = sum(self.state[name].nbytes for name in self._trained if name not in self._parameters)
        terms = (
            ("arena", self.touched_bytes),
            ("parameters", parameters),
            ("norm state", statistics),
            ("optimizer state", self._rule.state_bytes()),
            ("accumulated gradients", self._gradient_bytes),
        )
        return {name: size for name, size in terms if size or name == "arena"}

    def _copy_trained(self) -> dict[str, Tensor]:
        return {name: self.state[name].clone() for name in self._trained}
