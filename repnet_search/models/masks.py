"""One bit per element: where a clamped activation lets its gradient through.

On the CPU numpy packs and unpacks, eight bits to a byte; its temporaries are not torch storages, so the live-bytes
tracker does not see them. Elsewhere torch operators do the same. NaN passes, as in PyTorch's own backward pass.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from repnet_search.backbones import Activation

_BITS = (128, 64, 32, 16, 8, 4, 2, 1)


def pack_mask(output: Tensor, activation: Activation) -> Tensor:
    """Returns the mask of an activation as bytes, ceil(n / 8) of them, from its output of any shape (n elements)."""
    count = (output.numel() + 7) // 8
    packed = torch.empty(count, dtype=torch.uint8, device=output.device)
    if output.device.type == "cpu":
        values = output.detach().numpy().reshape(-1)
        passes = values != 0
        if activation is Activation.RELU6:
            passes &= values != 6
        packed.numpy()[:] = np.packbits(passes)
        return packed
    flat = output.detach().reshape(-1)
    bits = flat.ne(0)
    if activation is Activation.RELU6:
        bits &= flat.ne(6)
    padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, 8 * count - bits.numel())).view(count, 8)
    weights = torch.tensor(_BITS, dtype=torch.uint8, device=output.device)
    return torch.sum(padded * weights, 1, dtype=torch.uint8, out=packed)


def apply_mask(gradient: Tensor, packed: Tensor) -> Tensor:
    """Returns a gradient with zeros where the mask has them, in a new tensor of its shape."""
    count = gradient.numel()
    if gradient.device.type == "cpu":
        masked = torch.empty(gradient.shape, dtype=gradient.dtype)
        bits = np.unpackbits(packed.numpy(), count=count).view(bool).reshape(gradient.shape)
        np.multiply(gradient.numpy(), bits, out=masked.numpy())
        return masked
    weights = torch.tensor(_BITS, dtype=torch.uint8, device=gradient.device)
    bits_on_device = (packed.view(-1, 1) & weights).ne_(0).view(-1)[:count].view(gradient.shape)
    return gradient * bits_on_device
