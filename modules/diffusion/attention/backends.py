"""The attention back ends themselves, and what their errors mean.

All compute softmax(q kᵀ / sqrt(head_dim)) v (Vaswani et al. 2017, eq. 1) and agree with the textbook in fp32 to 1e-5, in fp16
to 5e-3 and in bf16 to 1e-2 on unit-normal values (`tests/diffusion/test_attention.py`).
"""

from __future__ import annotations

import importlib.util
import math
import re
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(q, k, v) -> out.  q and out are (batch, queries, heads, head_dim), k and v are (batch, keys, heads, head_dim)."""


SLICE_BYTES = 256 * 2**20
"""The sliced back end keeps its score matrix below this size."""


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's scaled_dot_product_attention, which picks a fused kernel where the device has one."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2)


def sliced(q: Tensor, k: Tensor, v: Tensor, slice_bytes: int = SLICE_BYTES) -> Tensor:
    """The textbook formula over slices of queries, so that memory stays bounded whatever the picture's size.

    It is the naive twin that the fast back ends are checked against, and the way out where none of them runs.
    """
    scale = q.shape[-1] ** -0.5
    q, k, v = q.transpose(1, 2) * scale, k.transpose(1, 2), v.transpose(1, 2)
    bytes_per_query = q.shape[0] * q.shape[1] * k.shape[2] * max(4, q.element_size())
    rows = max(1, slice_bytes // bytes_per_query)
    slices = []
    for part in torch.split(q, rows, dim=2):
        scores = (part @ k.transpose(-1, -2)).float()
        slices.append(scores.softmax(dim=-1).to(v.dtype) @ v)
    return torch.cat(slices, dim=2).transpose(1, 2)


def xformers(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """xformers' memory-efficient attention (CUDA only): no score matrix is ever materialised."""
    return cast(Tensor, _xformers_ops().memory_efficient_attention(q.contiguous(), k.contiguous(), v.contiguous()))


def _xformers_ops() -> Any:
    return importlib.import_module("xformers.ops")


_KERNELS = ("cudnn", "flash", "mem_efficient", "math")
_switches = threading.Lock()


def only(*kernels: str) -> Attend:
    """`sdpa` restricted to some of its own kernels, those of `_KERNELS`; the others' shapes are refused.

    As `torch.nn.attention.sdpa_kernel`, which takes 20 us a call, more than many of these kernels.  The switches are the
    process's, so two threads must not turn them at once: each would bring back what the other one had set.
    """
    wanted = [kernel in kernels for kernel in _KERNELS]

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with _switches:
            before = [enabled() for enabled in _ENABLED]
            _switch(wanted)
            try:
                return sdpa(*[part if part.stride(-1) == 1 else part.contiguous() for part in (q, k, v)])
            finally:
                _switch(before)

    return attend


def _switch(states: Sequence[bool]) -> None:
    for enable, state in zip(_ENABLE, states, strict=True):
        enable(state)


_ENABLED: list[Callable[[], bool]] = [getattr(torch.backends.cuda, f"{kernel}_sdp_enabled") for kernel in _KERNELS]
_ENABLE: list[Callable[[bool], None]] = [getattr(torch.backends.cuda, f"enable_{kernel}_sdp") for kernel in _KERNELS]


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The formula with every score at once, in twice the digits of the inputs (float32 for half precision, else float64)."""
    exact = torch.float64 if q.dtype == torch.float32 else torch.float32
    q, k, v = (part.transpose(1, 2).to(exact) for part in (q, k, v))
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    out: Tensor = scores.softmax(dim=-1) @ v
    return out.transpose(1, 2)


TOLERANCES = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 2e-2}
"""How far from `plain` a back end may be on unit-normal values, of the largest value if that is beyond 1.  `sliced`, which
rounds scores to bfloat16, is off by 0.013 at 64 queries of width 512."""


def difference(out: Tensor, expected: Tensor) -> float:
    """The largest difference from `plain`'s answer, in the measure of `TOLERANCES`; infinite where `out` is not finite."""
    apart = (out.to(expected.dtype) - expected).abs().max() / expected.abs().max().clamp(min=1)
    return float(apart) if bool(apart.isfinite()) else math.inf


_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|alloc_failed|not enough memory", re.IGNORECASE)

_DEVICE_FAILURES = re.compile(
    r"device-side assert|illegal memory access|"
    r"misaligned address|illegal instruction|illegal address|unspecified launch failure|launch timed out|uncorrectable|"
    r"hardware stack error|context is destroyed|unknown error|driver shutting down|device is lost|internal_error|"
    r"execution_failed",
    re.IGNORECASE,
)
"""What CUDA, HIP, cuBLAS and the allocators say where the device or its memory failed, as plain RuntimeErrors.  A kernel that
was not built for the card ("no kernel image") or that cannot be launched with these sizes ("invalid configuration argument")
leaves the device usable and is a refusal (CUDA Runtime API, cudaError)."""


def failed_device(error: BaseException) -> bool:
    """Whether `error` says that memory ran out or the device failed, whatever was computed on it: no matter of one back end."""
    if out_of_memory(error):
        return True
    return isinstance(error, RuntimeError) and _DEVICE_FAILURES.search(first_line(error)) is not None  # later lines are advice


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(first_line(error)) is not None


def first_line(error: BaseException) -> str:
    """The first line of what an error says, for a log or a sentence; its kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


BACKENDS: dict[str, Attend] = {"xformers": xformers, "sdpa": sdpa, "sliced": sliced}


def xformers_missing(device: torch.device) -> str:
    """Why xformers cannot be used on `device`; empty when it can.  One tiny real call decides, not a version table."""
    if device.type != "cuda":
        return f"xformers has no {device.type.upper()} kernels"
    if importlib.util.find_spec("xformers") is None:
        return "xformers is not installed"
    try:
        probe = torch.zeros(1, 8, 1, 64, device=device, dtype=torch.float16)
        xformers(probe, probe, probe)
    except Exception as error:  # xformers raises its own, torch's and the loader's types; any of them means "not here"
        return f"xformers does not run on this GPU ({first_line(error)})"
    return ""


def sliced_to(slice_bytes: int) -> Attend:
    """`sliced` with another bound on its score matrix, in bytes."""
    return partial(sliced, slice_bytes=slice_bytes)
