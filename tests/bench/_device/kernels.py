"""Where a forward's time goes: its kernels by kind, and the longest of them.

On CUDA these are the kernels of the device, as the profiler's trace has them, also those that a graph replays.  A CPU has
operators of torch instead, each with the time that it spent itself.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from tests.bench import Figure
from tests.bench._device.networks import runnable
from tests.bench._device.plan import Plan
from tests.bench._device.subjects import THEIRS, Subjects, mine
from tests.bench._device.turns import Call, failure, said, timed

FORWARDS = 3
LONGEST = 14

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
    return [Kernel(e["name"], float(e["ts"]), float(e["dur"])) for e in events if e.get("cat") in kinds]


def busy(kernels: Sequence[Kernel]) -> float:
    """Seconds in which at least one of them ran."""
    total, until = 0.0, float("-inf")
    for kernel in sorted(kernels, key=lambda kernel: kernel.start):
        end = kernel.start + kernel.duration
        total += max(0.0, end - max(until, kernel.start))
        until = max(until, end)
    return total / 1e6


def _operators(call: Call, times: int) -> list[Kernel]:
    """The same on a CPU: each operator's own time, as one entry for all its calls."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for _ in range(times):
            call()
    return [
        Kernel(event.key, 0.0, event.self_cpu_time_total / event.count)
        for event in profiler.key_averages()
        for _ in range(event.count)
    ]


def kernels(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    """One forward of two rows at the smaller size: eager, and with each accelerator."""
    names = yield from runnable(subjects, plan.accelerators)
    calls = {mine(name): name for name in names} | {THEIRS: ""}
    for by, name in calls.items():
        try:
            if name:
                call = subjects.forward(name, 2, plan.sides[0])
            else:
                call = subjects.their_forward(False, 2, plan.sides[0])
            call()
            found = device_kernels(call, plan, FORWARDS) if plan.cuda else _operators(call, FORWARDS)
            wall = min(timed(call, plan) for _ in range(5))
        except Exception as error:
            yield failure("profile", said(error), by=by)
            continue
        yield from shares(found, wall, by)


def shares(found: Sequence[Kernel], wall: float, by: str) -> Iterator[Figure]:
    """Milliseconds per forward by kind and by kernel; `found` is of `FORWARDS` forwards, `wall` seconds of one."""
    total = sum(kernel.duration for kernel in found) or float("nan")
    yield Figure("kernels of a forward", total / FORWARDS / 1000, "ms", f"the forward took {wall * 1000:.2f} ms", by)
    by_kind: dict[str, list[Kernel]] = defaultdict(list)
    by_name: dict[str, list[Kernel]] = defaultdict(list)
    for kernel in found:
        by_kind[kind(kernel.name)].append(kernel)
        by_name[kernel.name].append(kernel)
    for title, groups, most in (("of it", by_kind, len(by_kind)), ("kernel", by_name, LONGEST)):
        longest = sorted(groups.items(), key=lambda group: -sum(kernel.duration for kernel in group[1]))
        for name, group in longest[:most]:
            spent = sum(kernel.duration for kernel in group)
            how = f"{spent / total:.1%}, {len(group) / FORWARDS:.0f} times"
            yield Figure(f"{title} {name[:150]}", spent / FORWARDS / 1000, "ms", how, by)
