"""What runs on the device during a call: kernels, with their kind and duration.

On CUDA these are the kernels of the device, as the profiler's trace has them, also those that a graph replays.  A CPU has
operators of torch instead, each with the time that it spent itself.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from tests.bench._device.plan import Plan
from tests.bench._device.turns import Call

KINDS: tuple[tuple[str, str], ...] = (
    ("attention", r"attention|flash|fmha|sdpa|attn"),
    ("norm", r"norm|moments|fusedparams|_gn\b|gn_|welford"),
    ("layout copies", r"nchwtonhwc|nhwctonchw|transpose|permute|contiguous|copy|memcpy|clone|_to_copy|\bcat|catarray"),
    ("convolution", r"conv|fprop|implicit|winograd|cudnn"),
    ("matrix product", r"gemm|xmma|nvjet|cutlass|cublas|addmm|\bmm\b|bmm|linear|matmul|splitk|gemv"),
    ("elementwise", r"elementwise|silu|gelu|add|mul|div|sigmoid|vectorized|triton_|upsample|interpolate|fill|exp|cos|sin"),
)
"""The first kind whose pattern is found in a kernel's name, in small letters, is its own."""


@dataclass(frozen=True)
class Kernel:
    """One run of a kernel on the device: microseconds since some moment."""

    name: str
    start: float
    duration: float


def kind(name: str) -> str:
    return next((kind for kind, pattern in KINDS if re.search(pattern, name.lower())), "other")


def device_kernels(call: Call, plan: Plan, times: int = 1) -> list[Kernel]:
    """What the device runs, kernels and copies, while `call` is made `times` over.  CUDA only."""
    plan.wait()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as profiler:
        for _ in range(times):
            call()
        plan.wait()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    kinds = ("kernel", "gpu_memcpy", "gpu_memset")
    found = [Kernel(e["name"], float(e["ts"]), float(e["dur"])) for e in events if e.get("cat") in kinds]
    if not found:
        raise RuntimeError("the profiler saw no kernel; it may not be allowed to on this machine")
    return found


def busy(kernels: Sequence[Kernel]) -> float:
    """Seconds in which at least one of them ran."""
    total, until = 0.0, float("-inf")
    for kernel in sorted(kernels, key=lambda kernel: kernel.start):
        end = kernel.start + kernel.duration
        total += max(0.0, end - max(until, kernel.start))
        until = max(until, end)
    return total / 1e6


def operators(call: Call, times: int) -> list[Kernel]:
    """The same on a CPU: each operator's own time, as one entry for all its calls."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for _ in range(times):
            call()
    return [
        Kernel(event.key, 0.0, event.self_cpu_time_total / event.count)
        for event in profiler.key_averages()
        for _ in range(event.count)
    ]
