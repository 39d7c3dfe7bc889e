"""What an int8 step needs beside its state: on which grid each of its tensors lies, and the codes of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from repnet_search.graph import Op, OpKind, Role, TrainingGraph
from repnet_search.measure.arena_memory import ArenaViolationError
from repnet_search.models.quantisation import QuantParams
from repnet_search.models.quantised import QuantisedBackbone, QuantisedMerge
from repnet_search.models.quantised_block import QuantisedBlock, QuantisedConv
from repnet_search.spec import Exchange


@dataclass(frozen=True, slots=True)
class Int8Step:
    """The constants of an int8 backbone, and the grid of every int8 tensor by its index, workspaces included."""

    backbone: QuantisedBackbone
    grids: Mapping[int, QuantParams]

    def conv(self, weight: str) -> QuantisedConv:
        """Returns the convolution that a weight's name in the state belongs to."""
        conv = self.backbone.get_submodule(weight.removeprefix("backbone.").removesuffix(".weight"))
        assert isinstance(conv, QuantisedConv)
        return conv

    def block(self, place: str) -> QuantisedBlock:
        """Returns the block that an operator's place names."""
        block = self.backbone.blocks[int(place.removeprefix("block "))]
        assert isinstance(block, QuantisedBlock)
        return block


def describe_int8_step(graph: TrainingGraph, backbone: QuantisedBackbone) -> Int8Step:
    """Returns which of a step's tensors are int8, and on which grids they lie."""
    grids = {0: backbone.image}
    step = Int8Step(backbone, grids)
    merges = iter(backbone.merges.values())  # in the order of the writing connectors
    for op in graph.ops[: graph.forward_ops]:
        match op.kind:
            case OpKind.IMAGE_POOL:
                grids[op.writes[0]] = backbone.image
            case OpKind.CONV | OpKind.STREAMED_BLOCK if not op.weight_trains:
                grids.update(_conv_grids(graph, op, step))
            case OpKind.RESIDUAL_ADD:
                grids[op.writes[0]] = step.block(op.place).output
            case OpKind.MAX_POOL:
                grids[op.writes[0]] = grids[op.reads[0]]
            case OpKind.EXCHANGE if op.layer is not Exchange.TO_REPNET:
                merge = next(merges)
                assert isinstance(merge, QuantisedMerge)
                grids[op.writes[0]] = merge.params
    return step


def _conv_grids(graph: TrainingGraph, op: Op, step: Int8Step) -> Iterator[tuple[int, QuantParams]]:
    """Yields the grids of an output and of the workspaces: a streamed block has those of its hidden channels."""
    outputs = [step.conv(parameter.name).output for parameter in op.parameters[::2]]
    yield op.writes[0], outputs[-1]
    workspaces = [tensor for tensor in op.writes if graph.tensors[tensor].role is Role.WORKSPACE]
    # Behind a streamed block's two comes the accumulator, which holds integers of 4 bytes.
    yield from zip(workspaces[:2], outputs, strict=False)


def encode(codes: Tensor, grid: QuantParams) -> Tensor:
    """Returns centred codes as the int8 that the arena holds.

    Raises:
        ArenaViolationError: a value is no code of the grid.
    """
    values = codes + grid.zero_point
    stored = values.to(torch.int8)
    if not torch.equal(stored.to(values.dtype), values):
        raise ArenaViolationError(f"A value that a kernel stores in int8 is no code of its grid ({grid}).")
    return stored
