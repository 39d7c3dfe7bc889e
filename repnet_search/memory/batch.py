"""Batches of designs as arrays, and what their training takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from repnet_search.graph.build import create_tape
from repnet_search.graph.tape import FLOAT_BYTES
from repnet_search.spec.design import Recipe

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DesignBatch:
    """Designs as legs: one per connector, in order, and then the one that ends at the head; all designs in one row.

    Args:
        starts: of each design, its first leg.
        end: of each leg, the block of its connector; the number of blocks where it ends at the head.
        exchange: of each leg, its place in `EXCHANGES`; at the head that of `to_repnet`, for it writes nothing.
        module: of each leg, the row of its module, or of its head, in the tables that the batch is made for.
        image_bytes: of each design, r_0; 0 without connectors.
        block_input: of each design, whether its modules behind the first read their block's input.
        train_bias: of each design, whether the backbone's biases train.
        whole_gradients: of each design, whether its recipe needs a tensor's whole gradient.
        bytes_per_parameter: of each design, parameter, optimizer state and accumulated gradient.
    """

    starts: Integers
    end: Integers
    exchange: Integers
    module: Integers
    image_bytes: Integers
    block_input: NDArray[np.bool_]
    train_bias: NDArray[np.bool_]
    whole_gradients: NDArray[np.bool_]
    bytes_per_parameter: Integers

    def __len__(self) -> int:
        """Returns the number of designs."""
        return len(self.starts)

    @property
    def lengths(self) -> Integers:
        """The legs of each design."""
        return np.diff(self.starts, append=len(self.end))

    def chunks(self, designs: int) -> Iterator[DesignBatch]:
        """Yields the batch in pieces of so many designs, which a processor's cache holds."""
        for begin in range(0, len(self), designs):
            piece = slice(begin, begin + designs)
            first = int(self.starts[begin])
            last = int(self.starts[begin + designs]) if begin + designs < len(self) else len(self.end)
            legs = slice(first, last)
            yield DesignBatch(
                starts=self.starts[piece] - first,
                end=self.end[legs],
                exchange=self.exchange[legs],
                module=self.module[legs],
                image_bytes=self.image_bytes[piece],
                block_input=self.block_input[piece],
                train_bias=self.train_bias[piece],
                whole_gradients=self.whole_gradients[piece],
                bytes_per_parameter=self.bytes_per_parameter[piece],
            )


@dataclass(frozen=True, slots=True)
class BatchMemory:
    """What the designs of a batch take, an array each; `ram_bytes` is a lower bound of the placed training memory.

    It is the largest sum of live bytes with parameters, norm state, optimizer state and accumulated gradients; nearly
    every design can be placed in exactly that.
    """

    live_peak_bytes: Integers
    kept_bytes: Integers
    trainable_parameters: Integers
    norm_state_elements: Integers
    bytes_per_parameter: Integers

    @property
    def ram_bytes(self) -> Integers:
        """The lower bound of the training memory."""
        state = self.trainable_parameters * self.bytes_per_parameter + self.norm_state_elements * FLOAT_BYTES
        return self.live_peak_bytes + state


def needs_whole_gradients(recipe: Recipe) -> bool:
    """Returns whether a recipe needs a tensor's whole gradient as a live buffer."""
    return create_tape(recipe, batch=1, activation_bits=32).whole_gradients
