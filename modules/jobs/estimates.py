"""When jobs will be finished: from measured costs, what is ahead of them, and that users share the devices equally.

Pure functions over plain data.  Nothing is made up: what was never measured has no estimate, and for the users who
share the device with it the time is that which it takes if that work never ends.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modules.checkpoints.upscalers import built_in
from modules.diffusion.samplers import counted_as
from modules.diffusion.upscaling import EXACT, Tiles
from modules.engine.costs import BY_TAESD, Call, CostModel
from modules.jobs.memory import Memory, memory_json, rows_of
from modules.pipelines.stages import Stage, checkpoints_of, refined_steps, stages_of
from modules.pixels.enlarging import hires_upscalers
from modules.request import GenerationRequest, Upscaling
from modules.request.upscaling import passes, sizes

__all__ = [
    "Forecast",
    "Known",
    "Pending",
    "Quote",
    "finish_times",
    "forecast",
    "picture_seconds",
    "quote",
    "rows_of",
    "steps_of",
    "upscaling_seconds",
]


@dataclass(frozen=True)
class Pending:
    """A job that is not over: `left` pictures are not finished, of which `begun` (a fraction of a picture) is done."""

    job: str
    user: str
    request: GenerationRequest
    left: int
    begun: float = 0.0


@dataclass(frozen=True)
class Known:
    """What is known of a worker: what calls of its device took, and the checkpoint that is resident there."""

    costs: CostModel
    resident: str


@dataclass(frozen=True)
class Forecast:
    """By job: in how many seconds it is finished, and how many device seconds it still needs (infinite where unknown)."""

    ends: Mapping[str, float] = field(default_factory=dict)
    needs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Quote:
    """What a request would cost, before it is submitted.

    `seconds` of the device for all of its pictures, with loading the checkpoint, and the refiner, where another one is loaded;
    None while nothing of them was measured.  `beyond`: it is larger than everything that was measured, so that the seconds are
    a lower bound: attention grows faster than the number of pixels.  `native` is the size (width, height) that the checkpoint
    was made for, None where there is none: a picture is only enlarged.  `weights` are the bytes that the networks of both take,
    0 where that is not known.
    """

    seconds: float | None
    beyond: bool
    native: tuple[int, int] | None
    weights: int = 0
    memory: Memory | None = None
    """What it takes of the device's memory in all, and whether that is there; None where that is not known."""


def quote(
    costs: CostModel,
    request: GenerationRequest,
    resident: str,
    together: int,
    native: tuple[int, int],
    weights: int = 0,
    memory: Memory | None = None,
) -> Quote:
    """See `Quote`: on a worker with these measured `costs` and that `resident` checkpoint; `together` share evaluations."""
    assert request.checkpoint is not None, "the caller names the checkpoint"
    if memory is not None and memory.room:
        weights = memory.weights  # which knows the number format of each network
    picture = picture_seconds(costs, request, min(together, request.count))
    if picture is None:
        return Quote(None, False, native, weights, memory)
    load = sum(costs.seconds(Call("load", name)) or 0.0 for name in checkpoints_of(stages_of(request)) if name != resident)
    beyond = any(_beyond(costs, stage) for stage in stages_of(request))
    return Quote(picture * request.count + load, beyond, native, weights, memory)


def _beyond(costs: CostModel, stage: Stage) -> bool:
    """Whether a stage is larger than all that was measured of its checkpoint."""
    known = (call for call in costs.entries if (call.work, call.checkpoint) == ("predict", stage.settings.checkpoint))
    return math.prod(stage.window_size) > max((call.width * call.height for call in known), default=0)


def quote_json(quoted: Quote) -> dict[str, Any]:
    """What APIs say of it."""
    seconds = None if quoted.seconds is None else round(quoted.seconds, 2)
    return {
        "seconds": seconds,
        "beyond": quoted.beyond,
        "native": quoted.native and list(quoted.native),
        "weights": quoted.weights,
        "memory": memory_json(quoted.memory),
    }


def forecast(workers: Sequence[Known], pending: Sequence[Pending], together: int) -> Forecast:
    """What becomes of the jobs `pending`, in the order of the queue.

    On each worker the first job of a checkpoint that is not resident there also pays for loading it.  `together` pictures at
    most share evaluations.  Several workers share a job's pictures, each at its own measured speed.
    """
    alike = Counter[tuple[str | None, int, int]]()
    for each in pending:
        alike[_size(each.request)] += each.left
    queues: dict[str, list[tuple[str, float]]] = {}
    needs: dict[str, float] = {}
    loaded = [{worker.resident} for worker in workers]
    for each in pending:
        alone = []
        for worker, there in zip(workers, loaded, strict=True):
            picture = picture_seconds(worker.costs, each.request, min(together, alike[_size(each.request)]))
            need = math.inf if picture is None else picture * max(0.0, each.left - each.begun)
            for checkpoint in checkpoints_of(stages_of(each.request)):
                if checkpoint not in there:
                    need += worker.costs.seconds(Call("load", checkpoint)) or 0.0
                    there.add(checkpoint)
            alone.append(need)
        needs[each.job] = need = _shared(alone, each.left)
        queues.setdefault(each.user, []).append((each.job, need))
    return Forecast(finish_times(queues), needs)


def _shared(alone: Sequence[float], pictures: int) -> float:
    """Seconds of a job that workers share, from what each would need alone; no more of them help than it has pictures.

    >>> _shared([6.0, 3.0], 2), _shared([6.0, 3.0], 1), _shared([math.inf, 3.0], 2), _shared([], 2)
    (2.0, 3.0, 3.0, inf)
    """
    fastest = sorted(seconds for seconds in alone if not math.isinf(seconds))[: max(1, pictures)]
    if len(fastest) < 2 or fastest[0] <= 0:
        return fastest[0] if fastest else math.inf
    return 1 / sum(1 / seconds for seconds in fastest)


def _size(request: GenerationRequest) -> tuple[str | None, int, int]:
    return request.checkpoint, request.width, request.height


def steps_of(request: GenerationRequest) -> int:
    """Steps of one picture over all its stages: fewer than were asked for where one starts from another picture."""
    return sum(stage.steps for stage in stages_of(request))


def picture_seconds(costs: CostModel, request: GenerationRequest, waiting: int = 1) -> float | None:
    """Device seconds that one picture of `request` costs when `waiting` pictures of its size share their evaluations."""
    if isinstance(request, Upscaling):
        return _upscaling_seconds(costs, request)
    assert request.checkpoint is not None, "accepted requests name their checkpoint"
    stages = stages_of(request)
    total = 0.0
    for stage, following in zip(stages, (*stages[1:], None), strict=True):
        decoded = following is None or following.start == "picture"
        seconds = _stage_seconds(costs, stage, decoded, max(1, waiting))
        between = 0.0 if following is None else _enlarging_seconds(costs, following.upscaler, stage.size, max(1, waiting))
        if seconds is None or between is None:
            return None
        total += seconds + between
    return total


def _upscaling_seconds(costs: CostModel, request: Upscaling) -> float | None:
    """Not known before the picture's size is, which stands in no request; nothing where only filters enlarge it."""
    return 0.0 if all(built_in(name) for name in request.upscalers) else None


def upscaling_seconds(costs: CostModel, request: Upscaling, source: tuple[int, int], scales: Mapping[str, int]) -> float | None:
    """Device seconds that a picture of `source` (width, height) costs that is only enlarged; `scales` are those of the
    upscalers' files by name, 0 where only loading tells.  None while nothing of an upscaler was measured."""
    total, wanted = 0.0, sizes(source, request.factor(source))[1]
    for name in request.upscalers:
        if built_in(name):
            continue
        if not (scale := scales.get(name, 0)):
            return None
        each = [_enlarging_seconds(costs, name, before, 1) for _, before in passes(source, wanted, scale)]
        if None in each:
            return None
        total += sum(seconds for seconds in each if seconds is not None)
    return total


def _enlarging_seconds(costs: CostModel, upscaler: str, size: tuple[int, int], waiting: int) -> float | None:
    """One pass over a picture of this size between two stages: nothing for a filter, else the tiles of an upscaler's file, of
    the side of the largest that was measured; None while none was."""
    if not upscaler or upscaler in hires_upscalers():
        return 0.0
    calls = [call for call in costs.entries if (call.work, call.checkpoint) == ("upscale", upscaler)]
    if not calls:
        return None
    tiles = Tiles.of(max(max(call.width, call.height) for call in calls), EXACT + 1)
    width, height = (min(side, tiles.side) for side in size)
    tile = costs.row_seconds(Call("upscale", upscaler, width, height, waiting))
    return None if tile is None else tile * math.prod(len(tiles.starts(side)) for side in size)


def _stage_seconds(costs: CostModel, stage: Stage, decoded: bool, waiting: int) -> float | None:
    checkpoint = stage.settings.checkpoint or ""
    sampler = counted_as(stage.settings.sampler)
    rows, steps = rows_of(stage.settings), stage.steps
    refined = refined_steps(stage)
    together = rows * waiting * min(stage.windows, stage.settings.tile_batch)
    row = costs.row_seconds(Call("predict", checkpoint, *stage.window_size, together))
    other = costs.row_seconds(Call("predict", stage.refiner, *stage.window_size, together)) if refined else 0.0
    if row is None or other is None:
        return None
    rows *= stage.windows
    around = [*(["decode"] if decoded else []), *(["encode-image"] if stage.start == "picture" else [])]
    tiny = {"decode": stage.settings.vae_decoder == "TAESD", "encode-image": stage.settings.vae_encoder == "TAESD"}
    around = [op + BY_TAESD if tiny[op] else op for op in around]
    seconds = sum(costs.row_seconds(Call(op, checkpoint, *stage.size, waiting)) or 0.0 for op in around)
    share = refined / steps if steps else 0.0
    return (sampler.evaluations(steps) * rows * (row * (1 - share) + other * share) if steps else 0.0) + seconds


def finish_times(queues: Mapping[str, Sequence[tuple[str, float]]]) -> dict[str, float]:
    """In how many seconds each job is finished.

    `queues` has each user's jobs in order, with the device seconds that they still need (infinite where unknown).  Every user
    who has something to do gets the same share of the device.
    """
    left = {user: deque((job, max(0.0, seconds)) for job, seconds in jobs) for user, jobs in queues.items() if jobs}
    finished: dict[str, float] = {}
    now = 0.0
    while left:
        share = min(jobs[0][1] for jobs in left.values())  # what everybody gets until a job is finished
        if math.isinf(share):
            return finished | {job: math.inf for jobs in left.values() for job, _ in jobs}
        now += share * len(left)
        for user, jobs in list(left.items()):
            job, seconds = jobs.popleft()
            jobs.appendleft((job, seconds - share))
            while jobs and jobs[0][1] <= 1e-9:
                finished[jobs.popleft()[0]] = now
            if not jobs:
                del left[user]
    return finished
