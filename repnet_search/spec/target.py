"""How a target trains: what is a property of the device, not of the design."""

from __future__ import annotations

from enum import StrEnum


class Schedule(StrEnum):
    """How a target runs the frozen backbone.

    layer: one operator at a time, as the lean runtime does. inplace: depthwise convolutions overwrite their input,
    channel by channel [Lin2022tinyengine]. streamed: a frozen inverted residual runs per hidden channel, so that the
    expanded map never exists; nothing is recomputed; other depthwise convolutions run in place.

    [Lin2022tinyengine] J. Lin et al., On-Device Training Under 256KB Memory, NeurIPS 2022.
    """

    LAYER = "layer"
    INPLACE = "inplace"
    STREAMED = "streamed"
