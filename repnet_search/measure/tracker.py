"""The live bytes of every torch storage, operator by operator.

A dispatch mode sees each operator's results; a weak reference on each new storage tells when it dies. What the tracker
does not see: storages that were there before (parameters, the image), memory inside an operator's kernel (such as a
convolution's packed weights), and numpy's temporaries where masks are packed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from repnet_search.memory.liveness import align

Operator = Callable[..., Any]


class LiveBytesTracker(TorchDispatchMode):
    """Counts the bytes of storages made inside `with LiveBytesTracker() as tracker:`, aligned as in the account."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Operator, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors([args, kwargs]):
            self._meet(tensor, size_bytes=0)
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            self._meet(tensor, size_bytes=align(tensor.untyped_storage().nbytes()))
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return result

    def reset_peak(self) -> None:
        """Starts a new peak from what is alive now."""
        self.peak_bytes = self.live_bytes

    def _meet(self, tensor: Tensor, *, size_bytes: int) -> None:
        """Counts a storage that is new; an operator's argument that is new was there before and counts nothing."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return

        def forget(_: object) -> None:
            self.live_bytes -= size_bytes
            del self._known[key]

        self._known[key] = weakref.ref(storage, forget)
        self.live_bytes += size_bytes


def _tensors(value: object) -> Iterator[Tensor]:
    """Yields the tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
