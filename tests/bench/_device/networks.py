"""The networks alone: one forward of the U-Net by rows and size, and one decode of the autoencoder."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial

import torch

from modules.checkpoints.builder import vae_dtype
from tests.bench import Figure
from tests.bench._device.floor import decode_operations, matrix_rate, unet_operations
from tests.bench._device.plan import Plan
from tests.bench._device.subjects import COMPILED, OPENVINO, THEIRS, Subjects, mine
from tests.bench._device.turns import Call, failure, said, take_turns

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
            yield from _shape(plan, subjects, what, rows, side, names, rate)


def compiled(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    """Two rows of the smaller size, with what is compiled for a shape beside the rest."""
    side = plan.sides[0]
    what = f"U-Net with the compiled, 2 rows, {side}x{side}"
    names = yield from runnable(subjects, plan.accelerators)
    calls = yield from _forwards(subjects, what, 2, side, names)
    if plan.compiled:
        began = time.perf_counter()
        more = yield from made("compilation", {COMPILED: lambda: _compiled(plan, subjects, side)})
        yield Figure("compilation", time.perf_counter() - began, "s", "the first two forwards", by=COMPILED)
        calls |= more
    if not plan.cuda and importlib.util.find_spec("openvino"):
        calls |= yield from made(what, {OPENVINO: partial(subjects.openvino_forward, 2, side)})
    turns = take_turns(calls, plan, 2 * SECONDS)
    yield from turns.figures(what, (COMPILED, OPENVINO, THEIRS))


def _compiled(plan: Plan, subjects: Subjects, side: int) -> Call:
    call = subjects.their_forward(True, 2, side)
    for _ in range(2):
        call()
    plan.wait()
    return call


def vae(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    rate = matrix_rate(plan, subjects.dtype)
    names = yield from runnable(subjects, tuple(name for name in plan.accelerators if name != "compile"))
    for side in plan.sides:
        what = f"VAE decode, {side}x{side}"
        makers: dict[str, Callable[[], Call]] = {mine(name): partial(subjects.decode, name, side) for name in names}
        calls = yield from made(what, makers | {THEIRS: partial(subjects.their_decode, side)})
        format_ = str(vae_dtype(plan.device, subjects.dtype)).removeprefix("torch.")
        turns = take_turns(calls, plan, SECONDS)
        yield from turns.figures(what, (THEIRS,), note=f"ours in {format_}, diffusers in {subjects.dtype_name}")
        yield Figure(what, decode_operations(plan, side) / rate * 1000, "ms", by="floor")
        _free(plan)


def _shape(plan: Plan, subjects: Subjects, what: str, rows: int, side: int, names: list[str], rate: float) -> Iterator[Figure]:
    calls = yield from _forwards(subjects, what, rows, side, names)
    turns = take_turns(calls, plan, SECONDS)
    yield from turns.figures(what, (THEIRS,))
    floor = unet_operations(plan, rows, side) / rate
    best = min(turns.seconds, key=turns.median)
    yield Figure(what, floor * 1000, "ms", f"{best} takes {turns.median(best) / floor:.1f} times as long", by="floor")
    calls.clear()
    _free(plan)


def _forwards(
    subjects: Subjects, what: str, rows: int, side: int, names: list[str]
) -> Generator[Figure, None, dict[str, Call]]:
    """Ours by accelerator, and diffusers' eager one."""
    makers: dict[str, Callable[[], Call]] = {mine(name): partial(subjects.forward, name, rows, side) for name in names}
    return (yield from made(what, makers | {THEIRS: partial(subjects.their_forward, False, rows, side)}))


def made(what: str, makers: Mapping[str, Callable[[], Call]]) -> Generator[Figure, None, dict[str, Call]]:
    """What is to be timed; one that cannot be made gives a line that says why, and the others go on."""
    calls = {}
    for by, make in makers.items():
        try:
            calls[by] = make()
        except Exception as error:
            yield failure(what, said(error), by=by)
    return calls


def _differences(subjects: Subjects, names: list[str], rows: int, side: int) -> Iterator[Figure]:
    """Whether they compute the same at all."""
    what = "U-Net, largest relative difference to diffusers"
    calls = yield from _forwards(subjects, what, rows, side, names)
    if THEIRS not in calls:
        return
    theirs = calls.pop(THEIRS)().float()
    for by, call in calls.items():
        difference = float((call().float() - theirs).abs().max() / theirs.abs().max())
        yield Figure(what, difference * 1000, "per mille", by=by)


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
