"""How a frozen feature is stored, and what training reads back.

An int8 backbone's features are codes on a grid, so one byte each is exact. Those of an fp32 backbone are stored as they
are, or where a study says so as float16, or as bytes on a grid per channel and chunk of images.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from repnet_search.models.input_range import InputRange
from repnet_search.models.quantisation import LOWEST, QuantParams
from repnet_search.spec.training import FeatureType
from repnet_search.training.cache import KeptArray, RowSink

CHUNK_ROWS = 64
"""Images that are computed and encoded at a time: fixed, so that features do not depend on who computes them."""

_LARGEST_FP16 = 65504.0
_LEVELS = 255


class Encoding(Protocol):
    """Turns features (N, C, H, W) into rows of H W C, as convolutions read them fastest, and back."""

    tag: str
    dtype: str
    exact: bool

    def write(self, sink: RowSink, feature: Tensor, notes: list[Tensor]) -> None:
        """Appends a chunk to an array; `notes` collects what must be noted of each chunk."""
        ...

    def read(self, kept: KeptArray) -> Reader:
        """Returns what gives rows of an array back."""
        ...


Reader = Callable[[Tensor], Tensor]
"""Returns the features (B, C, H, W) of some rows (B,)."""


class FloatEncoding:
    """Floating point, exact in float32."""

    def __init__(self, *, half: bool) -> None:
        self.tag, self.dtype, self.exact = ("fp16", "<f2", False) if half else ("fp32", "<f4", True)

    def write(self, sink: RowSink, feature: Tensor, notes: list[Tensor]) -> None:
        """Appends a chunk to an array; what is too large for float16 becomes its largest value."""
        if not self.exact:
            feature = feature.clamp(-_LARGEST_FP16, _LARGEST_FP16).half()
        sink.append(_rows(feature))

    def read(self, kept: KeptArray) -> Reader:
        """Returns what gives rows back as float32."""
        return lambda rows: _maps(kept.values.index_select(0, rows).float())


class CodeEncoding:
    """A byte per code of an int8 tensor: exact."""

    tag, dtype, exact = "codes", "|u1", True

    def __init__(self, grid: QuantParams) -> None:
        self._scale, self._lowest = grid.scale, LOWEST - grid.zero_point

    def write(self, sink: RowSink, feature: Tensor, notes: list[Tensor]) -> None:
        """Appends a chunk of real values that lie on the grid."""
        sink.append(_rows((feature / self._scale).round_().sub_(self._lowest).to(torch.uint8)))

    def read(self, kept: KeptArray) -> Reader:
        """Returns what gives rows back, each value to its last bit."""
        return lambda rows: _maps(kept.values.index_select(0, rows).float().add_(self._lowest).mul_(self._scale))


class ByteEncoding:
    """The bytes that a normalised image came from: exact."""

    tag, dtype, exact = "bytes", "|u1", True

    def __init__(self, input_range: InputRange, read_image: Callable[[Tensor], Tensor]) -> None:
        self._input_range, self._read_image = input_range, read_image

    def write(self, sink: RowSink, feature: Tensor, notes: list[Tensor]) -> None:
        """Appends a chunk of normalised images."""
        scale, shift = (
            feature.new_tensor(part).view(3, 1, 1) for part in (self._input_range.scale, self._input_range.shift)
        )
        sink.append(_rows(((feature - shift) / scale).round_().to(torch.uint8)))

    def read(self, kept: KeptArray) -> Reader:
        """Returns what gives rows back as the backbone reads images."""
        return lambda rows: self._read_image(self._input_range.normalise(_maps(kept.values.index_select(0, rows))))


class AffineEncoding:
    """A byte per value, between the least and the largest of its channel among the images of a chunk."""

    tag, dtype, exact = "uint8", "|u1", False

    def write(self, sink: RowSink, feature: Tensor, notes: list[Tensor]) -> None:
        """Appends a chunk to an array."""
        low, high = feature.amin((0, 2, 3)), feature.amax((0, 2, 3))
        step = ((high - low) / _LEVELS).clamp_min(torch.finfo(torch.float32).tiny)
        notes.append(torch.stack([low, step]).cpu())
        levels = (feature - low.view(-1, 1, 1)) / step.view(-1, 1, 1)
        sink.append(_rows(levels.round_().clamp_(0, _LEVELS).to(torch.uint8)))

    def read(self, kept: KeptArray) -> Reader:
        """Returns what gives rows back, each value to half a step."""
        low, step = _load_grids(kept.notes).to(kept.values.device).unbind(1)

        def read_rows(rows: Tensor) -> Tensor:
            chunks = rows // CHUNK_ROWS
            levels = kept.values.index_select(0, rows).float()
            return _maps(levels.mul_(step[chunks][:, None, None]).add_(low[chunks][:, None, None]))

        return read_rows


def choose_encoding(kind: FeatureType, grid: QuantParams | None) -> Encoding:
    """Returns how a feature is stored: on its grid where it has one, else as the study says."""
    if grid is not None:
        return CodeEncoding(grid)
    return AffineEncoding() if kind is FeatureType.UINT8 else FloatEncoding(half=kind is FeatureType.FP16)


def finish_sink(sink: RowSink, notes: list[Tensor]) -> None:
    """Ends an array with what was noted of its chunks."""
    if not notes:
        sink.finish({})
        return
    grids: NDArray[np.float32] = torch.stack(notes).numpy()
    sink.finish({"grids": base64.b64encode(grids.tobytes()).decode(), "chunks": len(notes)})


def _load_grids(notes: Mapping[str, Any]) -> Tensor:
    """Returns the least values and steps of each chunk and channel (chunks, 2, C)."""
    flat = np.frombuffer(base64.b64decode(notes["grids"]), dtype=np.float32)
    return torch.from_numpy(flat.reshape(notes["chunks"], 2, -1).copy())


def _rows(feature: Tensor) -> NDArray[Any]:
    rows: NDArray[Any] = feature.permute(0, 2, 3, 1).cpu().numpy()
    return rows


def _maps(rows: Tensor) -> Tensor:
    return rows.permute(0, 3, 1, 2)
