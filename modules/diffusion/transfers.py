"""Numbers and tensors of the host on their way to a device, without waiting for it.

A plain `torch.tensor(..., device="cuda")` or `.to("cuda")` waits until the device has done everything that it was given before.
From pinned memory it is a copy in the device's own order: the allocator holds the block back until the copy is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """`tensor` on `device`, in `dtype` where one is given; itself where it is there already."""
    tensor = tensor if dtype is None else tensor.to(dtype)
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def numbers(values: Sequence[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """`torch.tensor` of numbers (nested as usual), on `device`."""
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)
