"""Choices without effect, set to the first one: equal designs get equal rows, and a model sees no noise.

A width says nothing where no connector is in its half, `write` nothing where all connectors read. What is clamped by
the shapes of a module (kernels, pools, groups) is left alone: `Candidate.resolved.id` tells the rest apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from repnet_search.search.batch import Choices
from repnet_search.search.space import SearchSpace

Mask = NDArray[np.bool_]


class CanonicalChoices:
    """The canonical form of a space's choices."""

    def __init__(self, space: SearchSpace) -> None:
        self._columns = {name: column for column, name in enumerate(space.distributions)}
        half = len(space.table.blocks) / 2
        self._late = {f"stage_{stage}": np.array([0, *blocks]) >= half for stage, blocks in space.stages.items()}
        self._depths = np.array(space.spec.module.depth)
        self._block_input = np.array([mode == "block_input" for mode in space.spec.write])
        stages = len(space.stages)
        counts = [stages if readers == "all" else min(readers, stages) for readers in space.spec.readers]
        # By connectors and place: the first place that means as many readers.
        self._readers = np.array([[min(count, n) for count in counts] for n in range(stages + 1)])
        self._first_readers = np.array([[row.tolist().index(count) for count in row] for row in self._readers])
        streams = np.flatnonzero(~self._block_input)
        self._first_stream = int(streams[0]) if len(streams) else 0

    def __call__(self, choices: Choices) -> Choices:
        """Returns choices (N, parameters) that mean the same designs."""
        found = choices.copy()
        placed = [(self._get(found, name), late) for name, late in self._late.items()]
        late = _any([(chosen > 0) & late[chosen] for chosen, late in placed], len(found))
        early = _any([(chosen > 0) & ~late[chosen] for chosen, late in placed], len(found))
        self._exchanges(found, np.sum([chosen > 0 for chosen, _ in placed], axis=0, dtype=np.int64))
        self._modules(found, early, late)
        return found

    def _exchanges(self, found: Choices, connectors: NDArray[np.int64]) -> None:
        write = self._get(found, "write")
        block_input = self._block_input[write]
        self._clear(found, "readers", block_input)
        readers = np.where(block_input, 0, self._readers[connectors, self._get(found, "readers")])
        found[:, self._columns["readers"]] = np.where(
            block_input, 0, self._first_readers[connectors, self._get(found, "readers")]
        )
        # The last connector does both in any case, and the first module reads the image.
        alike = (connectors - readers <= 1) & ~block_input
        write[alike] = self._first_stream
        for name in ("readers", "write", "image_pool"):
            self._clear(found, name, connectors == 0)

    def _modules(self, found: Choices, early: Mask, late: Mask) -> None:
        deep = np.zeros(len(found), dtype=bool)
        for half, present in (("early", early), ("late", late)):
            self._clear(found, f"{half}_depth", ~present)
            convolves = present & (self._depths[self._get(found, f"{half}_depth")] > 0)
            self._clear(found, f"{half}_width", ~convolves)  # at depth 0 there are no channels in between
            deep |= convolves
        for name in ("kernel", "groups"):
            self._clear(found, name, ~deep)
        for name in ("pool", "norm", "weight_standardisation"):
            self._clear(found, name, ~(early | late))

    def _get(self, choices: Choices, name: str) -> Choices:
        return choices[:, self._columns[name]]

    def _clear(self, choices: Choices, name: str, where: Mask) -> None:
        choices[where, self._columns[name]] = 0


def _any(masks: list[Mask], size: int) -> Mask:
    return np.logical_or.reduce(masks) if masks else np.zeros(size, dtype=bool)
