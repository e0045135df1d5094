"""Attention back ends, behind one function.

Every attention in the U-Net and the autoencoder goes through an `Attend` function that is chosen once, when the network is
built.  The networks know neither xformers nor the device; this file knows nothing of the networks.

All back ends compute softmax(q kᵀ / sqrt(head_dim)) v (Vaswani et al. 2017, eq. 1) and agree with the textbook in fp32
to 1e-5, in fp16 to 5e-3 and in bf16 to 1e-2 on unit-normal values (`tests/diffusion/test_attention.py`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from modules.errors import SettingsError

log = logging.getLogger(__name__)

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


_DEVICE_FAILURES = re.compile(
    r"out of memory|can't allocate memory|alloc_failed|not enough memory|device-side assert|illegal memory access|"
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
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _DEVICE_FAILURES.search(str(error)) is not None


class FallingBack:
    """A back end that hands shapes which it refuses to the next one.

    xformers, for one, takes no head width that is not a multiple of 8, not every number format on every card, and nothing on
    cards that its wheel was not built for; only a call tells which of these holds.  What was refused once (heads, head width,
    number format, device) goes to the next back end at once from then on, and the reason is logged once.

    No refusal is what says that the device failed (`failed_device`), which is raised at once, nor an error after which no back
    end runs: then the last one's is raised.  Nothing is remembered of either.
    """

    def __init__(self, *backends: tuple[str, Attend]) -> None:
        self._backends = backends
        self._first: dict[Hashable, int] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        key = (*q.shape[2:], q.dtype, q.device)
        start = self._first.get(key, 0)
        refusals: list[Exception] = []
        try:
            for number, (_, attend) in enumerate(self._backends[start:], start):
                try:
                    out = attend(q, k, v)
                except Exception as error:  # xformers raises its own, torch's and Triton's types
                    if failed_device(error):
                        raise
                    refusals.append(error)
                    continue
                if refusals:
                    self._remember(key, number, q, refusals)
                return out
            raise refusals[-1]  # that of the textbook formula, which refuses nothing that can be computed
        finally:
            refusals.clear()  # their frames hold the tensors, and this frame them

    def _remember(self, key: Hashable, number: int, q: Tensor, refusals: list[Exception]) -> None:
        first = number - len(refusals)
        self._first[key] = number
        for (name, _), error in zip(self._backends[first:number], refusals, strict=True):
            log.warning(
                "attention: %s does not run for %d heads of width %d in %s (%s); they use %s",
                *(name, q.shape[2], q.shape[3], str(q.dtype).removeprefix("torch."), _first_line(error)),
                self._backends[number][0],
            )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class AttentionChoice:
    """A back end and why it was taken; `reason` is printed once at start."""

    name: str
    reason: str
    attend: Attend


BACKENDS: dict[str, Attend] = {"xformers": xformers, "sdpa": sdpa, "sliced": sliced}


def with_fallback(name: str) -> Attend:
    """The back end `name`, with those that stand after it in `BACKENDS` for the shapes that it refuses."""
    names = list(BACKENDS)
    return FallingBack(*[(other, BACKENDS[other]) for other in names[names.index(name) :]])


def choose_attention(requested: str, device: torch.device) -> AttentionChoice:
    """The back end for `requested` ("auto" or a name of `BACKENDS`) on `device`.

    Raises:
        SettingsError: the name is unknown, or the back end does not run on this device.
    """
    if requested == "auto":
        return _automatic(device)
    if requested not in BACKENDS:
        raise SettingsError(f"attention {requested!r} is unknown; choose auto, {', '.join(BACKENDS)}")
    if requested == "xformers" and (missing := xformers_missing(device)):
        raise SettingsError(f"attention xformers was asked for, but {missing}; use --attention auto")
    return AttentionChoice(requested, "asked for", BACKENDS[requested] if device.type == "cpu" else with_fallback(requested))


def _automatic(device: torch.device) -> AttentionChoice:
    missing = xformers_missing(device)
    if not missing:
        version = importlib.metadata.version("xformers")
        return AttentionChoice(
            "xformers",
            f"xformers {version} on {device.type}; sdpa for head widths that it does not take",
            with_fallback("xformers"),
        )
    attend = sdpa if device.type == "cpu" else with_fallback("sdpa")
    return AttentionChoice("sdpa", f"torch {torch.__version__} on {device.type}; {missing}", attend)


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
        return f"xformers does not run on this GPU ({_first_line(error)})"
    return ""


def sliced_to(slice_bytes: int) -> Attend:
    """`sliced` with another bound on its score matrix, in bytes."""
    return partial(sliced, slice_bytes=slice_bytes)
