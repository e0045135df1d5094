"""Whole pictures: from submit to saved through the App, beside diffusers' pipeline; many users; loading and switching."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Generator, Iterator
from functools import partial

from tests.bench import Figure
from tests.bench._device.networks import LATE, made, runnable
from tests.bench._device.plan import Plan
from tests.bench._device.programs import MIX, USERS, Program
from tests.bench._device.subjects import CHECKPOINT, COMPILED, THEIRS, Subjects, mine
from tests.bench._device.turns import Call, Turns, failure, said, take_turns, timed

AT_ONCE, IN_A_ROW = "at once", "one after the other"

SECONDS = 8.0
"""For the turns of one part."""


def _theirs(what: str, plan: Plan, subjects: Subjects) -> Generator[Figure, None, dict[str, Call]]:
    makers: dict[str, Callable[[], Call]] = {THEIRS: partial(subjects.their_picture, False)}
    if plan.compiled and plan.left > 0:
        makers[COMPILED] = partial(subjects.their_picture, True)
    return (yield from made(what, makers))


def picture(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    """One after the other of each program in turn; then what of ours was the device's time."""
    what = f"picture of {plan.side}x{plan.side}, {plan.steps} steps"
    programs = yield from _programs(what, plan, subjects)
    calls: dict[str, Call] = {by: program.paint for by, program in programs.items()}
    calls |= yield from _theirs(what, plan, subjects)
    turns = take_turns(calls, plan, SECONDS, most=9, warm=3)
    note = "ours submit to saved; diffusers without text encoder and file"
    yield from turns.figures(what, (COMPILED, THEIRS), "s", note)
    for by, program in programs.items():
        if by not in turns.seconds:
            continue
        try:
            device, whole = program.device_seconds()
        except Exception as error:
            yield failure("device's time of a picture", said(error), by=by)
            continue
        beyond = (turns.median(by) if plan.cuda else whole) - device
        yield Figure("device's time of a picture", device, "s", "kernels, profiled" if plan.cuda else "calls of the runner", by)
        yield Figure("submit to saved beyond the device's time", beyond * 1000, "ms", "aim: 15", by=by)


def users(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    """Eight users' pictures at once, and the same ones one after the other: ours, and diffusers compiled where it may."""
    programs = yield from _programs("eight users", plan, subjects)
    calls: dict[str, Call] = {f"{by}, {AT_ONCE}": program.at_once for by, program in programs.items()}
    for by, program in list(programs.items())[-1:]:
        calls[f"{by}, {IN_A_ROW}"] = program.one_by_one
    theirs = yield from _theirs("eight users", plan, subjects)
    for by, paint in list(theirs.items())[-1:]:
        calls[f"{by}, {IN_A_ROW}"] = lambda paint=paint: [paint() for _ in range(USERS)]  # type: ignore[misc]
    turns = take_turns(calls, plan, 2 * SECONDS, least=2, most=5, warm=1)
    yield from _rates(turns, f"{USERS} users, {', '.join(MIX)}; diffusers: Euler")


def _programs(what: str, plan: Plan, subjects: Subjects) -> Generator[Figure, None, dict[str, Program]]:
    """Yields why some are left out; returns those that run, each warm."""
    names = yield from runnable(subjects, plan.for_pictures)
    programs = {}
    for name in names:
        try:
            program = subjects.program(name)
            program.paint(steps=1)
        except Exception as error:
            yield failure(what, said(error), by=mine(name))
        else:
            programs[mine(name)] = program
    return programs


def _rates(turns: Turns, note: str) -> Iterator[Figure]:
    """As pictures per second."""
    for name, seconds in turns.seconds.items():
        by, _, way = name.partition(", ")
        others = [f"{other}, {IN_A_ROW}" for other in (COMPILED, THEIRS, by)]
        ratios = []
        for other in dict.fromkeys(others):
            if other in turns.seconds and other != name:
                gain = statistics.median(b / a for a, b in zip(seconds, turns.seconds[other], strict=True))
                ratios.append(f"{gain:.2f} x {other}")
        yield Figure(f"eight users {way}", USERS / statistics.median(seconds), "images/s", "; ".join([*ratios, note]), by=by)
    for name, why in turns.failed.items():
        yield failure("eight users", why, by=name)


def start(plan: Plan, subjects: Subjects) -> Iterator[Figure]:
    """With the settings as they are: load, paint, load another file, and back; each picture has one step."""
    other = subjects.models / "another.safetensors"
    if not other.exists():
        shutil.copyfile(subjects.models / f"{CHECKPOINT}.safetensors", other)
        subjects.remember(other)
    program = Program(plan, subjects.settings("auto"), CHECKPOINT)
    try:
        steps: tuple[tuple[str, str], ...] = (
            ("load and first picture, one step", CHECKPOINT),
            ("the same again, loaded", CHECKPOINT),
            ("another checkpoint, load and one step", "another"),
            ("back to the first checkpoint, one step", CHECKPOINT),
            ("the first again, loaded", CHECKPOINT),
        )
        for what, name in steps:
            if plan.left < 0:
                yield failure(what, LATE)
                continue
            seconds = timed(lambda name=name: program.paint(checkpoint=name, steps=1), plan)  # type: ignore[misc]
            yield Figure(what, seconds, "s", "the file is in the system's cache, its hash is known", by=mine("auto"))
    finally:
        program.close()
