"""Every attention back end of the device against the plain formula, and which one is taken at the shapes of SD 1.x."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from modules.checkpoints.builder import vae_dtype
from modules.diffusion.attention.backends import TOLERANCES, Attend, difference, failed_device, first_line, plain
from modules.diffusion.attention.measured import Measured, Shape
from modules.engine.check.findings import Bench, Result, compared, name_of

WIDTHS = ((8, 16), (8, 24), (8, 40), (8, 80), (8, 160), (1, 512))
"""Heads and their width: the starter's, those of SD 1.x's U-Net, and that of its autoencoder."""

LENGTHS = ((144, 144), (64, 77), (65, 154))
"""Queries and keys: a feature map to itself, and to one and two windows of a prompt."""


def agreement(bench: Bench) -> Iterator[Result]:
    """A finding for each back end and number format.  What refuses a width falls back, which is no failure."""
    for dtype in bench.dtypes:
        for name, attend in bench.backends.items():
            yield _held(bench, name, attend, dtype)


def _held(bench: Bench, name: str, attend: Attend, dtype: torch.dtype) -> Result:
    what = f"{name} {name_of(dtype)}"
    worst, held, refused = 0.0, [], {}
    for heads, width in WIDTHS:
        try:
            for queries, keys in LENGTHS:
                q, k, v = _values(bench.device, dtype, 2, queries, keys, heads, width)
                worst = max(worst, difference(attend(q, k, v), plain(q, k, v)))
            held.append(width)
        except Exception as error:  # each back end raises types of its own
            if failed_device(error):
                return Result(what, f"failed for heads of width {width}: {first_line(error)}", "missing", "--attention sliced")
            refused[width] = first_line(error)
    if not held:
        return Result(what, f"does not run here ({next(iter(refused.values()))})", "note")
    details = f"heads of width {', '.join(map(str, held))}"
    if refused:
        details += f"; does not take {', '.join(map(str, refused))}"
    return compared(what, worst, TOLERANCES[dtype], details, remedy="--attention sliced")


def taken(bench: Bench) -> Iterator[Result]:
    """What the engine takes at the shapes of a picture, and its time; on a processor at shapes of a smaller one."""
    choice, dtype = bench.choices.attention, bench.choices.dtype
    side = 64 if bench.device.type == "cuda" else 32
    shapes = [(2, (side >> level) ** 2, 8, width, dtype) for level, width in enumerate((40, 80, 160))]
    for batch, positions, heads, width, number in (*shapes, (1, side**2, 1, 512, vae_dtype(bench.device, dtype))):
        for keys in (positions, 77) if heads > 1 else (positions,):
            q, k, v = _values(bench.device, number, batch, positions, keys, heads, width)
            choice.attend(q, k, v)  # measures, where that is how it chooses
            milliseconds = 1000 * min(_seconds(bench, choice.attend, q, k, v) for _ in range(3))
            name = choice.attend.taken(Shape.of(q, k)) if isinstance(choice.attend, Measured) else choice.name
            shape = f"{batch} x {positions} x {keys} in {name_of(number)}"
            yield Result(f"width {width}", f"{name} for {shape}, {milliseconds:.2f} ms")


def _seconds(bench: Bench, attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> float:
    bench.settle()
    started = time.perf_counter()
    attend(q, k, v)
    bench.settle()
    return time.perf_counter() - started


def _values(
    device: torch.device, dtype: torch.dtype, batch: int, queries: int, keys: int, heads: int, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Unit-normal q, k and v, the same on every device."""
    generator = torch.Generator().manual_seed(queries * width)
    q, k, v = (torch.randn(batch, n, heads, width, generator=generator).to(device, dtype) for n in (queries, keys, keys))
    return q, k, v
