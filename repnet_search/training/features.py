"""Frozen features, computed once: what no trainable parameter influences is the same at every step and in many trials.

They are cached per place: the image, r_0, and b behind each block that a design reads. Any design combines what is
there; what is missing is computed from the nearest place in front of it that is kept exactly, chunk by chunk, so that
the images and features of a split need not fit into memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from repnet_search.data import Split
from repnet_search.data.array_files import ArrayForm
from repnet_search.data.decode import DECODING
from repnet_search.models.repnet import Prefix, RepNet
from repnet_search.spec.resolve import ResolvedDesign
from repnet_search.spec.training import FeatureType, TrainingSpec
from repnet_search.training.cache import KeptArray, RowSink
from repnet_search.training.encoding import (
    CHUNK_ROWS,
    ByteEncoding,
    Encoding,
    Reader,
    choose_encoding,
    finish_sink,
)
from repnet_search.training.task import Task
from repnet_search.training.views import Views

VIEWS_SEED = 0  # of the views alone: the same for every study, so that seeds differ in training and in nothing else
_FORMAT = 1  # of what is computed; a change makes older files unknown


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a feature is taken: b behind `block`, or in front of all blocks the image pooled by `pool`."""

    block: int = -1
    pool: int = 1

    @property
    def name(self) -> str:
        """As files call it."""
        return f"block{self.block}" if self.block >= 0 else f"pool{self.pool}"


IMAGE = Place()


class Features:
    """The frozen part's features of a split's views, as a design reads them."""

    def __init__(self, model: RepNet, readers: Mapping[Place, Reader], *, device: torch.device) -> None:
        """Notes where the parts of a prefix come from.

        Args:
            model: the design's.
            readers: what gives the features at each of its places.
            device: where the model is.
        """
        self._readers, self._device = readers, device
        self._stream = _stream_place(model)
        self._read = [Place(block) for block in model.prefix_readers]
        self._feature = Place(model.prefix_blocks - 1)

    def select(self, rows: Tensor) -> Prefix:
        """Returns the prefix of a batch of views, by their numbers (B,)."""
        at = {place: read(rows) for place, read in self._readers.items()}
        stream = at[self._stream] if self._stream is not None else torch.empty(len(rows), 0, device=self._device)
        return Prefix(stream, tuple(at[place] for place in self._read), at[self._feature])


def load_features(
    model: RepNet, resolved: ResolvedDesign, task: Task, split: Split, training: TrainingSpec
) -> tuple[Features, Tensor]:
    """Returns the frozen features of a split's views and their labels (N,); validation images have one view.

    Args:
        model: the design's, on the task's device.
        resolved: the design.
        task: weights, images and cache.
        split: TRAIN or VALIDATION.
        training: the views, and how features are kept.

    Raises:
        DataError: what is kept in memory does not fit there.
    """
    images = task.source.load(split, resolution=resolved.design.resolution)
    count = training.views if split is Split.TRAIN else 1
    views = Views(images, views=count, seed=VIEWS_SEED)
    frozen = _Frozen(model, resolved, task, views, kind=training.feature_cache_type)
    places = {Place(model.prefix_blocks - 1), *(Place(block) for block in model.prefix_readers)}
    stream = _stream_place(model)
    if stream is not None:
        places.add(stream)
    key = _identify(model, resolved, task, split, views=count)
    readers = _read(frozen, sorted(places), task, key)
    return Features(model, readers, device=task.device), views.labels


def layout_on(device: torch.device) -> torch.memory_format:
    """Returns the order of a map's elements that convolutions are fastest with.

    On processors H W C: 0.35 to 0.97 of the time of a training step on inverted residuals, at batches of 1 to 32 and 48
    to 96 px; on a ResNet-18 half of it at batch 1, but 1.1 times as much at batch 16.
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def _stream_place(model: RepNet) -> Place | None:
    return Place(pool=model.image_pool) if len(model.repnet) else None


def _identify(model: RepNet, resolved: ResolvedDesign, task: Task, split: Split, *, views: int) -> str:
    """Returns the hash of all that the features of a split depend on, but for the place."""
    calibration, weights = model.calibration, task.weights_of(resolved.design.backbone)
    on = (task.device.type, torch.__version__, torch.backends.cpu.get_cpu_capability())
    parts = [
        (_FORMAT, DECODING, *on),
        (weights.sha256, weights.input_range.text, repr(resolved.table)),
        None if calibration is None else sorted(calibration.ranges.items()),
        (task.source.sha256(), split.value, resolved.design.resolution, views, VIEWS_SEED),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


class _Frozen:
    """Computes the features of one split's views."""

    def __init__(self, model: RepNet, resolved: ResolvedDesign, task: Task, views: Views, *, kind: FeatureType) -> None:
        self.model, self.views, self._task, self._kind = model, views, task, kind
        self._sizes = resolved.table.output_sizes(resolved.design.resolution)
        self._channels = [block.channels for block in resolved.table.blocks]
        self._resolution = resolved.design.resolution
        self._input_range = task.weights_of(resolved.design.backbone).input_range

    def encoding(self, place: Place) -> Encoding:
        """Returns how the features at a place are stored."""
        if place == IMAGE:
            return ByteEncoding(self._input_range, self.model.read_image)
        return choose_encoding(self._kind, self.model.feature_grid(place.block if place.block >= 0 else None))

    def form(self, place: Place) -> ArrayForm:
        """Returns what the array of a place looks like."""
        size, channels = self._resolution // place.pool, 3
        if place.block >= 0:
            size, channels = self._sizes[place.block], self._channels[place.block]
        return ArrayForm((len(self.views), size, size, channels), self.encoding(place).dtype)

    def image(self, start: int, stop: int) -> Tensor:
        """Returns normalised views (N, 3, H, W)."""
        images = self.views.load(start, stop).to(self._task.device)
        normalised = self._input_range.normalise(images)
        return normalised.contiguous(memory_format=layout_on(self._task.device))

    def compute(
        self, rows: slice, places: Iterable[Place], known: Mapping[Place, Reader]
    ) -> Iterator[tuple[Place, Tensor]]:
        """Yields the features (N, C, H, W) of a chunk of views at places in ascending order."""
        image: Tensor | None = None
        feature: Tensor | None = None
        done = 0
        for place in places:
            start = max((other for other in known if other.block < place.block), default=IMAGE)
            if start.block >= 0 and (feature is None or start.block >= done):
                feature, done = known[start](torch.arange(rows.start, rows.stop)), start.block + 1
            if image is None and (place.block < 0 or feature is None):
                image = self.image(rows.start, rows.stop)
            if place.block < 0:
                assert image is not None
                yield place, image if place == IMAGE else self.model.read_image(image, pool=place.pool)
                continue
            if feature is None:
                assert image is not None
                feature = self.model.read_image(image)
            feature, done = self.model.run_blocks(feature, done, place.block + 1), place.block + 1
            yield place, feature


def _read(frozen: _Frozen, places: list[Place], task: Task, key: str) -> dict[Place, Reader]:
    """Returns what gives the features at some places; what is not kept is computed, by one process at a time."""
    found = _find(frozen, places, task, key)
    if len(found) < len(places):
        with task.cache.locked(key):
            found = _find(frozen, places, task, key)  # another process may have made them while this one waited
            missing = [place for place in places if place not in found]
            if missing:
                found |= _make(frozen, missing, task, key)
    return {place: _reader(frozen, place, kept, task, key) for place, kept in found.items()}


def _find(frozen: _Frozen, places: Iterable[Place], task: Task, key: str) -> dict[Place, KeptArray]:
    found = {place: _find_one(frozen, place, task, key) for place in places}
    return {place: kept for place, kept in found.items() if kept is not None}


def _find_one(frozen: _Frozen, place: Place, task: Task, key: str) -> KeptArray | None:
    originals = frozen.views.originals
    if place == IMAGE and originals is not None and task.device.type == "cpu":
        return KeptArray(originals.permute(0, 2, 3, 1), {}, 0)  # the source has them already
    return task.cache.find(_name(frozen, place, key), frozen.form(place))


def _name(frozen: _Frozen, place: Place, key: str) -> str:
    return f"{key}-{place.name}-{frozen.encoding(place).tag}"


def _reader(frozen: _Frozen, place: Place, kept: KeptArray, task: Task, key: str) -> Reader:
    """Returns what gives an array's rows on the task's device."""
    kept = task.cache.move(_name(frozen, place, key), kept, task.device)
    read, at, device = frozen.encoding(place).read(kept), kept.values.device, task.device
    if device.type == "cpu":
        return read
    return lambda rows: read(rows.to(at)).to(device).contiguous(memory_format=layout_on(device))


def _make(frozen: _Frozen, missing: list[Place], task: Task, key: str) -> dict[Place, KeptArray]:
    """Returns new arrays at places in ascending order, from what is kept in front of them."""
    names = {_name(frozen, place, key): place for place in missing}
    known = _starts(frozen, missing, task, key)

    @torch.no_grad()
    def fill(sinks: Mapping[str, RowSink]) -> None:
        sink_of = {place: sinks[name] for name, place in names.items()}
        encodings = {place: frozen.encoding(place) for place in missing}
        notes: dict[Place, list[Tensor]] = {place: [] for place in missing}
        for start in range(0, len(frozen.views), CHUNK_ROWS):
            rows = slice(start, min(start + CHUNK_ROWS, len(frozen.views)))
            for place, feature in frozen.compute(rows, missing, known):
                encodings[place].write(sink_of[place], feature, notes[place])
        for place in missing:
            finish_sink(sink_of[place], notes[place])

    forms = {name: frozen.form(place) for name, place in names.items()}
    made = task.cache.make(forms, fill, what=f"The frozen features of {len(frozen.views)} images or views")
    return {place: made[name] for name, place in names.items()}


def _starts(frozen: _Frozen, missing: list[Place], task: Task, key: str) -> dict[Place, Reader]:
    """Returns the nearest exact array in front of each missing one, where there is one.

    What was made of inexact features would depend on which of them happened to be there.
    """
    starts: dict[Place, Reader] = {}
    for place in missing:
        for block in range(place.block - 1, -1, -1):
            if Place(block) in missing or Place(block) in starts:
                break
            found = _find(frozen, [Place(block)], task, key) if frozen.encoding(Place(block)).exact else {}
            if found:
                starts[Place(block)] = _reader(frozen, Place(block), found[Place(block)], task, key)
                break
    return starts
