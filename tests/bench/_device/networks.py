"""The networks alone: one forward of the U-Net by rows and size, and one decode of the autoencoder."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import torch

from tests.bench import Figure
from tests.bench._device.floor import decode_operations, matrix_rate, unet_operations
from tests.bench._device.plan import Plan
from tests.bench._device.subjects import COMPILED, THEIRS, Subjects, mine
from tests.bench._device.turns import Call, failure, said, take_turns, timed

SECONDS = 1.5
"""For the turns of one shape."""

LATE = "left out: the time is up (ATELIER_BENCH_SECONDS)"


def unet(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    """All rows and sizes, without what has to be compiled for each."""
    rate = matrix_rate(plan, subjects.dtype)
    yield Figure("matrix product", rate / 1e12, "TFLOP/s", f"{subjects.dtype_name}, the best of 5")
    names = yield from runnable(subjects, tuple(name for name in plan.accelerators if name != "compile"))
    yield from _differences(subjects, names, 2, plan.sides[0])
    for side in plan.sides:
        for rows in plan.rows:
            what = f"U-Net, {rows} row{'s' * (rows > 1)}, {side}x{side}"
            if plan.left < 0:
                yield failure(what, LATE)
                continue
            yield from _forwards(plan, subjects, what, rows, side, names, rate)


def compiled(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    """Two rows of the smaller size, with what is compiled for a shape beside the rest."""
    side = plan.sides[0]
    calls: dict[str, Call] = {}
    names = yield from runnable(subjects, plan.accelerators)
    for name in names:
        try:
            calls[mine(name)] = subjects.forward(name, 2, side)
        except Exception as error:
            yield failure("U-Net with the compiled", said(error), by=mine(name))
    calls[THEIRS] = subjects.their_forward(False, 2, side)
    if plan.compiled:
        call = subjects.their_forward(True, 2, side)
        try:
            yield Figure("compilation", timed(call, plan) + timed(call, plan), "s", "the first two forwards", by=COMPILED)
        except Exception as error:
            yield failure("compilation", said(error), by=COMPILED)
        else:
            calls[COMPILED] = call
    turns = take_turns(calls, plan, 2 * SECONDS)
    yield from turns.figures(f"U-Net with the compiled, 2 rows, {side}x{side}", (COMPILED, THEIRS))


def vae(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    rate = matrix_rate(plan, subjects.dtype)
    names = yield from runnable(subjects, tuple(name for name in plan.accelerators if name != "compile"))
    for side in plan.sides:
        calls = {mine(name): subjects.decode(name, side) for name in names} | {THEIRS: subjects.their_decode(side)}
        format_ = str(subjects.ours(names[0]).latent.dtype).removeprefix("torch.")  # type: ignore[attr-defined]
        what = f"VAE decode, {side}x{side}"
        turns = take_turns(calls, plan, SECONDS)
        yield from turns.figures(what, (THEIRS,), note=f"ours in {format_}, diffusers in {subjects.dtype_name}")
        yield Figure(what, decode_operations(plan, side) / rate * 1000, "ms", by="floor")
        _free(plan)


def _forwards(
    plan: Plan, subjects: Subjects, what: str, rows: int, side: int, names: list[str], rate: float
) -> Iterator[Figure]:
    calls: dict[str, Call] = {}
    for name in names:
        try:
            calls[mine(name)] = subjects.forward(name, rows, side)
        except Exception as error:
            yield failure(what, said(error), by=mine(name))
    calls[THEIRS] = subjects.their_forward(False, rows, side)
    turns = take_turns(calls, plan, SECONDS)
    floor = unet_operations(plan, rows, side) / rate
    best = min(turns.seconds, key=turns.median)
    yield from turns.figures(what, (THEIRS,))
    yield Figure(what, floor * 1000, "ms", f"{best} takes {turns.median(best) / floor:.1f} times as long", by="floor")
    calls.clear()
    _free(plan)


def _differences(subjects: Subjects, names: list[str], rows: int, side: int) -> Iterator[Figure]:
    """Whether they compute the same at all."""
    theirs = subjects.their_forward(False, rows, side)().float()
    for name in names:
        try:
            out = subjects.forward(name, rows, side)().float()
        except Exception as error:
            yield failure("U-Net, largest relative difference to diffusers", said(error), by=mine(name))
            continue
        difference = float((out - theirs).abs().max() / theirs.abs().max())
        yield Figure("U-Net, largest relative difference to diffusers", difference * 1000, "per mille", by=mine(name))


def runnable(subjects: Subjects, accelerators: tuple[str, ...]) -> Generator[Figure, None, list[str]]:
    """Yields why some are left out; returns those that run here."""
    names = []
    for found in subjects.available(accelerators):
        if isinstance(found, Figure):
            yield found
        else:
            names.append(found)
    return names


def _free(plan: Plan) -> None:
    if plan.cuda:
        torch.cuda.empty_cache()
