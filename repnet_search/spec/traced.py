"""A backbone of the user's own as a design holds it: its block table in short lines, and the hash of its code.

So a design, a study and a bundle are complete: nothing that reads them needs the file that the backbone came from.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from repnet_search.backbones import Activation, Block, BlockTable, Conv, SqueezeExcite
from repnet_search.errors import SpecError

_CONV = re.compile(
    r"(?P<key>\S+) (?P<norm>\S+) (?P<source>\d+)>(?P<out>\d+) k(?P<kernel>\d+) s(?P<stride>\d+) g(?P<groups>\d+) "
    r"(?P<activation>\w+)(?P<bias> bias)?"
)
_NO_NORM = "-"
_IMAGE_CHANNELS = 3


class _Lines(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SqueezeLines(_Lines):
    """A squeeze-and-excitation behind convolution `after`."""

    after: Annotated[int, Field(ge=0)]
    reduce: str
    expand: str


class BlockLines(_Lines):
    """A block; a convolution is one line, `KEY NORM-KEY IN>OUT kKERNEL sSTRIDE gGROUPS ACTIVATION [bias]`."""

    stage: Annotated[int, Field(ge=0)]
    convs: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    residual: bool = False
    shortcut: str | None = None
    activation: Annotated[Activation, Field(strict=False)] = Activation.NONE
    max_pool: bool = False
    squeeze: SqueezeLines | None = None
    pools_first: bool = False


class TracedSpec(_Lines):
    """The blocks of a traced network: with the sha256 of the file that it came from, and the ε of its norms."""

    sha256: str
    norm_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    blocks: Annotated[tuple[BlockLines, ...], Field(strict=False, min_length=1)]


def describe_blocks(blocks: tuple[Block, ...], *, norm_eps: float, sha256: str) -> TracedSpec:
    """Returns blocks as a design holds them."""
    return TracedSpec(sha256=sha256, norm_eps=norm_eps, blocks=tuple(map(_describe_block, blocks)))


def create_traced_table(name: str, traced: TracedSpec) -> BlockTable:
    """Returns the block table; the paper's preset has its connectors after the last block of each stage.

    Not so after a last 1×1 convolution and what follows it.

    Raises:
        SpecError: a line says nothing, or a convolution does not read what the one in front of it writes.
    """
    blocks: list[Block] = []
    channels = _IMAGE_CHANNELS
    for index, lines in enumerate(traced.blocks):
        block = _read_block(lines)
        _check_chain(block, channels, where=f"Block {index} of {name}")
        channels = block.channels
        blocks.append(block)
    ends = {block.stage: index for index, block in enumerate(blocks[: _body(blocks)])}
    return BlockTable(name=name, blocks=tuple(blocks), paper_blocks=tuple(ends.values()), norm_eps=traced.norm_eps)


def _body(blocks: list[Block]) -> int:
    """Returns how many blocks there are in front of the last 1×1 convolutions, which are a part of the head."""
    count = len(blocks)
    while count > 1 and not blocks[count - 1].residual and all(conv.kernel == 1 for conv in blocks[count - 1].convs):
        count -= 1
    return count


def _describe_block(block: Block) -> BlockLines:
    squeeze = block.squeeze
    return BlockLines(
        stage=block.stage,
        convs=tuple(map(_describe_conv, block.convs)),
        residual=block.residual,
        shortcut=_describe_conv(block.shortcut) if block.shortcut is not None else None,
        activation=block.activation,
        max_pool=block.max_pool,
        squeeze=SqueezeLines(
            after=squeeze.after, reduce=_describe_conv(squeeze.reduce), expand=_describe_conv(squeeze.expand)
        )
        if squeeze is not None
        else None,
        pools_first=block.pools_first,
    )


def _describe_conv(conv: Conv) -> str:
    numbers = f"{conv.in_channels}>{conv.out_channels} k{conv.kernel} s{conv.stride} g{conv.groups}"
    return f"{conv.key} {conv.norm_key or _NO_NORM} {numbers} {conv.activation.value}{' bias' if conv.bias else ''}"


def _read_block(lines: BlockLines) -> Block:
    squeeze = lines.squeeze
    convs = tuple(map(_read_conv, lines.convs))
    return Block(
        convs=convs,
        residual=lines.residual,
        stage=lines.stage,
        channels=convs[-1].out_channels,
        shortcut=_read_conv(lines.shortcut) if lines.shortcut is not None else None,
        activation=lines.activation,
        max_pool=lines.max_pool,
        squeeze=SqueezeExcite(squeeze.after, _read_conv(squeeze.reduce), _read_conv(squeeze.expand))
        if squeeze is not None
        else None,
        pools_first=lines.pools_first,
    )


def _read_conv(line: str) -> Conv:
    match = _CONV.fullmatch(line)
    if match is None or match["activation"] not in list(Activation):
        raise SpecError(
            "A convolution of a traced backbone is 'KEY NORM-KEY IN>OUT kKERNEL sSTRIDE gGROUPS ACTIVATION', but got "
            f"{line!r}; trace the backbone again."
        )
    return Conv(
        match["key"],
        "" if match["norm"] == _NO_NORM else match["norm"],
        int(match["source"]),
        int(match["out"]),
        int(match["kernel"]),
        int(match["stride"]),
        int(match["groups"]),
        Activation(match["activation"]),
        match["bias"] is not None,
    )


def _check_chain(block: Block, channels: int, *, where: str) -> None:
    source = channels
    chain = list(block.convs)
    if block.squeeze is not None:
        ends = block.squeeze.after < len(chain) and chain[block.squeeze.after].out_channels
        fits = ends == block.squeeze.reduce.in_channels == block.squeeze.expand.out_channels
        if not fits or block.squeeze.reduce.out_channels != block.squeeze.expand.in_channels:
            raise SpecError(f"{where} has a squeeze-and-excitation that does not fit; trace the backbone again.")
    for conv in chain:
        if conv.in_channels != source:
            raise SpecError(
                f"{where} has {conv.key}, which reads {conv.in_channels} channels, but gets {source}; trace the "
                "backbone again."
            )
        source = conv.out_channels
    if block.residual:
        by = (
            (channels, channels)
            if block.shortcut is None
            else (block.shortcut.in_channels, block.shortcut.out_channels)
        )
        if by != (channels, source):
            raise SpecError(f"{where} has a shortcut that does not fit; trace the backbone again.")
