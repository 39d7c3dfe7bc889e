"""Arrays of frozen features by key: computed once, then mapped from disk by all processes, or kept in memory.

On disk within a limit (see data/array_files.py); what does not fit there, or cannot be written, is kept in this
process's memory, the least recently used going first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repnet_search.data.array_files import ArrayFiles, ArrayForm
from repnet_search.machine import cache_folder
from repnet_search.training.room import check_room
from repnet_search.units import GIB

DEFAULT_LIMIT_BYTES = 2 * GIB
DEFAULT_MEMORY_BYTES = GIB
MAPPED_FILES = 128  # each holds a file open
_TRAILER = "repnet-search frozen features 1"


@dataclass(frozen=True, slots=True)
class KeptArray:
    """An array as it was made: its values, what was noted with it, and the memory that it takes in this process."""

    values: Tensor
    notes: Mapping[str, Any]
    memory_bytes: int


class RowSink(Protocol):
    """Takes the rows of an array, from the first to the last."""

    def append(self, rows: NDArray[Any]) -> None:
        """Takes the next rows."""
        ...

    def finish(self, notes: Mapping[str, Any]) -> None:
        """Ends the array."""
        ...


Fill = Callable[[Mapping[str, RowSink]], None]
"""Fills and finishes every sink that it is given, by the array's name."""


class FeatureCache:
    """Arrays by name, on disk and in memory, each within a limit of bytes."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        """Touches nothing.

        Args:
            folder: where files are; None keeps arrays in memory alone.
            limit_bytes: of all files together; 0 keeps none.
            memory_bytes: of what is in memory; an array larger than that is not kept.
        """
        self.memory_bytes = memory_bytes
        self._files = ArrayFiles(folder, prefix="features", what=_TRAILER, limit_bytes=limit_bytes)
        self._kept: OrderedDict[str, KeptArray] = OrderedDict()

    def find(self, name: str, form: ArrayForm) -> KeptArray | None:
        """Returns an array that is kept, None where there is none of this form."""
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
            self._files.touch(name)
            return kept
        mapped = self._files.open(name, form)
        return None if mapped is None else self._keep(name, KeptArray(torch.from_numpy(mapped.values), mapped.notes, 0))

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Waits until no other process makes arrays under this name; where nothing can be written, nobody waits."""
        with ExitStack() as stack:
            if self._files.folder is not None:
                with suppress(OSError):
                    stack.enter_context(self._files.locked(name))
            yield

    def make(self, forms: Mapping[str, ArrayForm], fill: Fill, *, what: str) -> dict[str, KeptArray]:
        """Returns new arrays, made all at once, on disk where they fit and can be written.

        Args:
            forms: of the arrays, by name.
            fill: makes them; called again where the disk turns out to be full.
            what: they are, as the beginning of a sentence.

        Raises:
            DataError: what must be in memory does not fit.
        """
        try:
            made = self._make(forms, self._choose(forms), fill, what=what)
        except OSError:
            made = self._make(forms, (), fill, what=what)
        return {name: self._keep(name, kept) for name, kept in made.items()}

    def move(self, name: str, kept: KeptArray, device: torch.device) -> KeptArray:
        """Returns an array on a device, if that is not the processor and the array is small enough to stay there."""
        size_bytes = kept.values.nbytes
        if device.type == kept.values.device.type or size_bytes > self.memory_bytes:
            return kept
        return self._keep(name, KeptArray(kept.values.to(device), kept.notes, size_bytes))

    def _choose(self, forms: Mapping[str, ArrayForm]) -> tuple[str, ...]:
        """Returns the names of the arrays that go to disk: those that fit there together."""
        chosen, left = [], self._files.limit_bytes
        for name, form in forms.items():
            if self._files.takes(form) and form.size_bytes <= left:
                chosen.append(name)
                left -= form.size_bytes
        return tuple(chosen)

    def _make(
        self, forms: Mapping[str, ArrayForm], on_disk: Iterable[str], fill: Fill, *, what: str
    ) -> dict[str, KeptArray]:
        files = {name: forms[name] for name in on_disk}
        in_memory = {name: form for name, form in forms.items() if name not in files}
        check_room(sum(form.size_bytes for form in in_memory.values()), what=what)
        if files:
            self._files.make_room(sum(form.size_bytes for form in files.values()))
        arrays = {name: _MemorySink(form) for name, form in in_memory.items()}
        with ExitStack() as stack:
            sinks: dict[str, RowSink] = dict(arrays)
            for name, form in files.items():
                sinks[name] = stack.enter_context(self._files.create(name, form))
            fill(sinks)
        made = {name: sink.kept() for name, sink in arrays.items()}
        for name, form in files.items():
            mapped = self._files.open(name, form)
            if mapped is None:
                raise OSError("what was written is not there")
            made[name] = KeptArray(torch.from_numpy(mapped.values), mapped.notes, 0)
        return made

    def _keep(self, name: str, kept: KeptArray) -> KeptArray:
        if kept.memory_bytes <= self.memory_bytes:
            self._kept[name] = kept
            self._kept.move_to_end(name)
        while self._memory_used() > self.memory_bytes or len(self._kept) > MAPPED_FILES:
            self._kept.popitem(last=False)
        return kept

    def _memory_used(self) -> int:
        return sum(kept.memory_bytes for kept in self._kept.values())


class _MemorySink:
    """Rows in memory."""

    def __init__(self, form: ArrayForm) -> None:
        self._values = np.empty(form.shape, dtype=form.dtype)
        self._done = 0
        self._notes: Mapping[str, Any] = {}

    def append(self, rows: NDArray[Any]) -> None:
        self._values[self._done : self._done + len(rows)] = rows
        self._done += len(rows)

    def finish(self, notes: Mapping[str, Any]) -> None:
        assert self._done == len(self._values)
        self._notes = notes

    def kept(self) -> KeptArray:
        return KeptArray(torch.from_numpy(self._values), self._notes, self._values.nbytes)


def create_feature_cache(*, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> FeatureCache:
    """Returns the user's cache of frozen features; with a limit of 0 in memory alone."""
    return FeatureCache(cache_folder(), limit_bytes=limit_bytes)
