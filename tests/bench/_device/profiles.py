"""Where a forward's time goes: its kernels by kind, and the longest of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from tests.bench import Figure
from tests.bench._device.kernels import Kernel, device_kernels, kind, operators
from tests.bench._device.networks import runnable
from tests.bench._device.plan import Plan
from tests.bench._device.subjects import THEIRS, Subjects, mine
from tests.bench._device.turns import failure, said, timed

FORWARDS = 3
LONGEST = 14


def profile(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    """One forward of two rows at the smaller size: eager, and with each accelerator."""
    names = yield from runnable(subjects, plan.accelerators)
    calls = {mine(name): name for name in names} | {THEIRS: ""}
    for by, name in calls.items():
        try:
            side = plan.sides[0]
            call = subjects.forward(name, 2, side) if name else subjects.their_forward(False, 2, side)
            call()
            found = device_kernels(call, plan, FORWARDS) if plan.cuda else operators(call, FORWARDS)
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
