"""A bundle that goes on learning, as its device would: the proof that the exported thing does its job.

Every image goes alone through the planned arena, in the reference kernels of the memory proof and the bundle's own
recipe; the bytes that are touched must be those of plan.json. What is judged is what the model says of an image before
it learns from it (in a stream that is its prequential accuracy [Gama2013evaluating]) and of images that are held out.

[Gama2013evaluating] J. Gama et al., On evaluating stream learning algorithms, Machine Learning 90 (2013).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from torch import Tensor

from repnet_search.data import ImageSet, Split
from repnet_search.errors import RepnetSearchError, UsageError
from repnet_search.export.adapt_subject import PLAN_FILE, AdaptSubject
from repnet_search.export.bundle import save_bundle
from repnet_search.export.card import Adapted
from repnet_search.export.evaluate import Evaluation, evaluate_bundle
from repnet_search.export.place import BundlePlace
from repnet_search.measure.device_trainer import DeviceTrainer
from repnet_search.spec.training import Metric
from repnet_search.training.proxy import TrainingDivergedError

DEFAULT_STEPS = 1000
CURVE_POINTS = 10

Listener = Callable[[int, float], None]
"""Is told how many images are learnt from, and the share of the last of them that was right before it was learnt."""

_RECENT = 100


class Decay(StrEnum):
    """How the learning rate falls: to 0 over the steps, half a cosine as in training; or never.

    What never falls is half the recipe's rate: the mean of the cosine, with which the recipe was searched. At the whole
    one, the last few images of an sgd at micro-batch 1 decide: on turned digits two orders ended 28 points apart, at
    half of it 9, decayed 1.
    """

    COSINE = "cosine"
    NONE = "none"

    def factor(self, share: float) -> float:
        """Returns the factor on the learning rate behind a share of the steps."""
        return 0.5 * (1 + math.cos(math.pi * share)) if self is Decay.COSINE else 0.5


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """How long and in which order a bundle learns.

    Args:
        steps: images to learn from; None means DEFAULT_STEPS, or of a stream all that it has.
        stream: whether each image is seen once; else the training images come again, shuffled each time.
        seed: of the order.
        rate_scale: a factor on the recipe's learning rate.
        decay: how the rate falls.
        metric: what the curve shows.
    """

    steps: int | None = None
    stream: bool = False
    seed: int = 0
    rate_scale: float = 1.0
    decay: Decay = Decay.COSINE
    metric: Metric = Metric.ACCURACY


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The state after so many images.

    Args:
        images: learnt from so far.
        right_before: the share of those since the last point that was right before they were learnt from; None at 0.
        loss: the mean of these.
        validation: the metric on the validation images, in 0..1.
    """

    images: int
    right_before: float | None
    loss: float | None
    validation: float


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What learning has changed.

    Args:
        images: learnt from.
        updates: of the weights.
        right_before: the share of these images that was right before they were learnt from.
        curve: along the way, from 0 images on.
        before: the test images before.
        after: the same behind the last update.
        planned: bytes of each term of the account, as plan.json has them.
        measured: bytes of each term, as they were really taken.
        step_seconds: of this machine per image, judging not counted.
        options: what it was asked for; `interruption`: what ended it before its time.
    """

    images: int
    updates: int
    right_before: float
    curve: tuple[CurvePoint, ...]
    before: Evaluation
    after: Evaluation
    planned: dict[str, int]
    measured: dict[str, int]
    step_seconds: float
    options: AdaptOptions
    interruption: KeyboardInterrupt | None = None


def adapt(subject: AdaptSubject, options: AdaptOptions, *, on_images: Listener | None = None) -> Adaptation:
    """Returns how a bundle's model did before, while and after it learnt; the subject's model is then the adapted one.

    Ctrl-C ends the learning behind its last complete update; what has been learnt is then judged as any other.

    Args:
        subject: the bundle and its images.
        options: how long and in which order.
        on_images: called after every update.

    Raises:
        UsageError: a stream has fewer images than asked for.
        RepnetSearchError: a step has taken other bytes than were planned.
        TrainingDivergedError: the loss became NaN or infinite.
        KeyboardInterrupt: before the first update.
    """
    images = subject.task.source.load(Split.TRAIN, resolution=subject.model.resolution)
    steps = choose_steps(options, available=len(images))
    before = _judge(subject, Split.TEST)
    learning = _Learning(subject, options, images)
    interruption = learning.run(steps, on_images)
    return Adaptation(
        images=learning.seen,
        updates=learning.updates,
        right_before=learning.share_right(),
        curve=tuple(learning.curve),
        before=before,
        after=_judge(subject, Split.TEST),
        planned=subject.plan.terms,
        measured=learning.trainer.measured_terms,
        step_seconds=learning.seconds / learning.seen,
        options=options,
        interruption=interruption,
    )


def choose_steps(options: AdaptOptions, *, available: int) -> int:
    """Returns how many images are learnt from; raises UsageError where a stream has fewer than asked for."""
    if not options.stream:
        return DEFAULT_STEPS if options.steps is None else options.steps
    if options.steps is not None and options.steps > available:
        raise UsageError(
            f"A stream sees each image once, and there are {available} to learn from, but --steps is {options.steps}; "
            "give at most as many, or leave --stream out to see them again."
        )
    return available if options.steps is None else options.steps


def draw_updates(available: int, *, steps: int, accumulate: int, seed: int) -> Iterator[Tensor]:
    """Yields the positions of each update's images: all of them shuffled, pass after pass, `steps` in all.

    As in proxy training no update takes images of two passes, so the last one of a pass may be smaller.
    """
    order = torch.Generator().manual_seed(seed)
    for done in range(0, steps, available):
        yield from torch.randperm(available, generator=order)[: steps - done].split(accumulate)


def save_adapted(
    place: BundlePlace, subject: AdaptSubject, adaptation: Adaptation, *, metric: Metric, onnx: bool = False
) -> None:
    """Writes the adapted model as a bundle with its accuracy by a metric; raises as `save_bundle`."""
    options = adaptation.options
    adapted = Adapted(adaptation.images, options.stream, options.seed, adaptation.before.value(metric))
    accuracies = {
        metric.of("validation"): adaptation.curve[-1].validation,
        metric.of("test"): adaptation.after.value(metric),
    }
    save_bundle(
        place,
        subject.model.resolved,
        subject.model.repnet,
        subject.task,
        subject.memory,
        accuracies=accuracies,
        provenance=replace(subject.provenance, adapted=adapted),
        onnx=onnx,
    )


class _Learning:
    """A model on its way: it always has the weights behind the last complete update."""

    def __init__(self, subject: AdaptSubject, options: AdaptOptions, images: ImageSet) -> None:
        model = subject.model
        self.recipe = model.resolved.design.recipe
        self.trainer = DeviceTrainer(
            model.repnet, subject.plan.graph, subject.plan.arena, recipe=self.recipe, input_range=model.input_range
        )
        self.updates = 0
        self.seconds = 0.0
        self.curve: list[CurvePoint] = []
        self._right: list[bool] = []
        self._losses: list[float] = []
        self._subject, self._options, self._images = subject, options, images

    @property
    def seen(self) -> int:
        """How many images the weights come from."""
        return self.trainer.learnt.images

    def share_right(self, *, start: int = 0) -> float:
        """Returns the share of the images from one on that was right before it was learnt."""
        chosen = self._right[start:]
        return sum(chosen) / max(1, len(chosen))

    def run(self, steps: int, on_images: Listener | None) -> KeyboardInterrupt | None:
        """Learns, and returns what has ended it before all steps were done."""
        marks = [math.ceil(steps * number / CURVE_POINTS) for number in range(1, CURVE_POINTS + 1)]
        options = self._options
        self._note()
        order = draw_updates(len(self._images), steps=steps, accumulate=self.recipe.accumulate, seed=options.seed)
        try:
            for chosen in order:
                self._learn(chosen, rate_scale=options.rate_scale * options.decay.factor(self.seen / steps))
                if on_images is not None:
                    on_images(self.seen, self.share_right(start=-_RECENT))
                if self.seen >= marks[0]:
                    marks = [mark for mark in marks if mark > self.seen]
                    self._note()
        except KeyboardInterrupt as error:
            if not self.seen:
                raise
            self._subject.model.repnet.load_trainable_state(self.trainer.learnt.state)
            if self.curve[-1].images < self.seen:
                self._note()
            return error
        return None

    def _learn(self, chosen: Tensor, *, rate_scale: float) -> None:
        """Asks the model, then trains it by one update."""
        model = self._subject.model
        images = ImageSet(self._images.images[chosen], self._images.labels[chosen])
        with torch.inference_mode():
            predicted = model(images.images).argmax(dim=1)
        started = time.perf_counter()
        loss = self.trainer.learn(images.images, images.labels, rate_scale=rate_scale)
        self.seconds += time.perf_counter() - started
        self._check(loss)
        model.repnet.load_trainable_state(self.trainer.learnt.state)
        self._right += (predicted == images.labels).tolist()
        self._losses += [loss] * len(images)
        self.updates += 1

    def _check(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"The loss became {loss} behind {self.seen} images; use a smaller --lr-scale than "
                f"{self._options.rate_scale:g}."
            )
        planned, measured = self._subject.plan.terms, self.trainer.measured_terms
        wrong = next((name for name in (*planned, *measured) if planned.get(name) != measured.get(name)), None)
        if wrong is not None:
            raise RepnetSearchError(
                f"A step must take what {PLAN_FILE} plans, but its {wrong} took {measured.get(wrong, 0)} bytes in "
                f"place of {planned.get(wrong, 0)}; export the bundle again with this version."
            )

    def _note(self) -> None:
        """Adds a point to the curve."""
        start = self.curve[-1].images if self.curve else 0
        losses = self._losses[start:]
        point = CurvePoint(
            images=self.seen,
            right_before=self.share_right(start=start) if losses else None,
            loss=sum(losses) / len(losses) if losses else None,
            validation=_judge(self._subject, Split.VALIDATION).value(self._options.metric),
        )
        self.curve.append(point)


def _judge(subject: AdaptSubject, split: Split) -> Evaluation:
    return evaluate_bundle(subject.model, subject.task.source, splits=(split,))
