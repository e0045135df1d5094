"""Several single-threaded workers instead of one many-threaded process.

On a shared machine this is worth a factor: the threads of one process wait for each other after *every* operation, so a
neighbour on one core stalls them hundreds of times a step (measured: 1.9 instead of 13 pictures/s); workers meet once a
step. All hold the same weights, each works on its own part of the batch, and gradients are averaged (torch's gloo).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn


def launch(workers: int, stage: Callable[..., object], *arguments: Any) -> None:
    """Call `stage(*arguments)` in `workers` processes of one thread each; in this process where there is one."""
    if workers == 1:
        stage(*arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        store = f"file://{Path(folder) / 'store'}"
        spawn(_work, (workers, store, stage, arguments), nprocs=workers)  # type: ignore[no-untyped-call]


def rank() -> int:
    """The number of this worker; 0 writes files and log lines."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    """How many workers there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over the workers, in one exchange."""
    if size() == 1:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    parts = torch.split(flat / size(), [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def _work(number: int, workers: int, store: str, stage: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=store, rank=number, world_size=workers)
    try:
        stage(*arguments)
    finally:
        distributed.destroy_process_group()
