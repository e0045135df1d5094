"""The fastest attention back end for each shape, by measurement on the device itself.

At the first call with a new shape each candidate runs once on random values of that shape, is held to the plain formula, and is
timed.  The choice is remembered, on disk too where a `ChoiceStore` is given.
"""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from modules.diffusion.attention.backends import (
    SLICE_BYTES,
    TOLERANCES,
    Attend,
    difference,
    failed_device,
    first_line,
    only,
    out_of_memory,
    plain,
    sdpa,
    sliced,
)
from modules.diffusion.attention.fallback import FallingBack

log = logging.getLogger(__name__)

MATH = "math"
CANDIDATES: dict[str, Attend] = {
    "cudnn": only("cudnn"),
    "flash": only("flash"),
    "efficient": only("mem_efficient"),
    MATH: only("math"),
}
"""SDPA's kernels.  Of two that are as fast, the earlier is taken: on an H100 cuDNN's is the fastest (7.4 ms a forward of SD 1.5
with it, 8.1 with flash, 9.7 with the memory-efficient one)."""

WAY_OUT: dict[str, Attend] = {"sdpa": only("cudnn", "flash", "mem_efficient", "math"), "sliced": sliced}
"""Never measured: what runs where no candidate does."""

TIE = 0.97
"""A later candidate has to take less than this part of an earlier one's time."""

BUDGET_MS = 12.0
"""Device time that a candidate may be timed for at one shape, beyond its first two calls."""

MOST_RUNS = 8
GIVE_UP = 2.0
"""A candidate whose first timed call takes this many times as long as the best one is not timed further."""

NEAR_RATIO = 1.5
"""At a shape near to a measured one, only the candidates are tried that took less than this many times as long as the best."""

CHECKED_QUERIES = 32
"""Queries, evenly spread over all, whose answers are held to the plain formula."""

MAX_SHAPES = 4096
"""Shapes that are remembered in memory."""


class Shape(NamedTuple):
    """All that a back end's speed depends on, on one device."""

    batch: int
    queries: int
    keys: int
    heads: int
    width: int
    dtype: str

    @staticmethod
    def of(q: Tensor, k: Tensor) -> Shape:
        return Shape(q.shape[0], q.shape[1], k.shape[1], q.shape[2], q.shape[3], str(q.dtype).removeprefix("torch."))

    @property
    def kind(self) -> str:
        """What stays the same from picture size to picture size."""
        return f"{self.heads} head{'s' * (self.heads != 1)} of width {self.width} in {self.dtype}"

    def distance(self, other: Shape) -> float:
        """How many times one is the other in batch, queries, keys or heads, as a power of two; infinite for another kernel."""
        if (self.width, self.dtype) != (other.width, other.dtype):
            return math.inf
        return max(abs(math.log2(mine / its)) for mine, its in zip(self[:4], other[:4], strict=True))


Ranking = tuple[tuple[str, float], ...]
"""Names of candidates with their milliseconds, the one to take first."""


class ChoiceStore(Protocol):
    """Where rankings outlive the process."""

    def load(self) -> Mapping[Shape, Ranking]:
        """Those that were measured on this device, with these versions."""

    def add(self, shape: Shape, ranking: Ranking) -> None:
        """Keep one.  Never raises: what cannot be kept is measured again."""


class Forgetful:
    """Keeps nothing."""

    def load(self) -> Mapping[Shape, Ranking]:
        return {}

    def add(self, shape: Shape, ranking: Ranking) -> None:
        pass


class Clock(Protocol):
    """Times what runs on a device."""

    def capturing(self) -> bool:
        """Whether calls are being recorded for a CUDA graph, so that nothing may wait for the device."""

    def settle(self) -> None:
        """Wait until all that was begun is done; raises what failed on the device."""

    def milliseconds(self, call: Callable[[], object], runs: int) -> float:
        """The device's time for one of `runs` calls, one behind the other."""


@dataclass(frozen=True)
class CudaClock:
    """CUDA events around the calls, behind a pause in which all are launched: the time of the kernels, as in a CUDA graph."""

    device: torch.device

    def capturing(self) -> bool:
        return torch.cuda.is_current_stream_capturing()

    def settle(self) -> None:
        torch.cuda.synchronize(self.device)

    def milliseconds(self, call: Callable[[], object], runs: int) -> float:
        with torch.cuda.device(self.device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            if pause := getattr(torch.cuda, "_sleep", None):
                pause(PAUSE_CYCLES * (runs + 1))
            start.record()
            for _ in range(runs):
                call()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / runs


PAUSE_CYCLES = 200_000
"""About 0.1 ms: what launching one call takes at most."""


class _Refused(Exception):
    """A candidate cannot be used for a shape; says why."""


class _NoRoom(_Refused):
    """It ran out of memory, which may be otherwise the next time."""


class _Interrupted(Exception):
    """Another thread captures a CUDA graph, during which no thread may wait for the device or take memory of it."""


@dataclass(frozen=True)
class _Sample:
    """Random values in a shape, and the plain formula's answer to some of their queries."""

    q: Tensor
    k: Tensor
    v: Tensor
    rows: list[int]
    queries: Tensor
    expected: Tensor

    @staticmethod
    def like(q: Tensor, k: Tensor, v: Tensor) -> _Sample:
        generator = torch.Generator(device=q.device).manual_seed(0)  # its own: no picture's noise may depend on it
        q, k, v = (torch.empty_like(part).normal_(generator=generator) for part in (q, k, v))
        rows = sorted({0, len(q) - 1})
        count = min(CHECKED_QUERIES, q.shape[1])
        queries = torch.linspace(0, q.shape[1] - 1, count, device=q.device).round().long()
        return _Sample(q, k, v, rows, queries, torch.cat([plain(q[[r]][:, queries], k[[r]], v[[r]]) for r in rows]))

    def difference(self, out: Tensor) -> float:
        return difference(out[self.rows][:, self.queries], self.expected)


@dataclass(eq=False)
class Measured:
    """An `Attend` that takes, for each shape, the fastest of `candidates` on this device.

    A candidate that refuses a shape, or runs out of memory there, is out; so is one whose answer is wrong.  Near to a shape
    that was measured, only the candidates that did well there are tried, and where that is one, nothing is measured.  While a
    CUDA graph is captured nothing is measured either: what is known of the shape, else of the nearest, is taken, else torch's
    own choice.

    Calls may come from any thread.
    """

    candidates: Mapping[str, Attend]
    clock: Clock
    store: ChoiceStore = field(default_factory=Forgetful)

    def __post_init__(self) -> None:
        self._rankings = dict(self.store.load())
        self._attends: dict[Shape, FallingBack] = {}
        self._orders: dict[tuple[str, ...], FallingBack] = {}
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return sdpa(q, k, v)  # a graph of operations has no place for a measurement
        shape = Shape.of(q, k)
        return (self._attends.get(shape) or self._find(shape, q, k, v))(q, k, v)

    def ranking(self, shape: Shape) -> Ranking:
        """What was measured of a shape; empty where nothing was."""
        return self._rankings.get(shape, ())

    def taken(self, shape: Shape) -> str:
        """The back end of a shape that was called before."""
        return self._attends[shape].names[0]

    def _find(self, shape: Shape, q: Tensor, k: Tensor, v: Tensor) -> FallingBack:
        if shape not in self._rankings and self.clock.capturing():
            return self._in_order(self._nearest(shape)[1])
        with self._lock:
            if shape in self._attends:  # another thread measured it meanwhile
                return self._attends[shape]
            try:
                ranking = self._rankings.get(shape) or self._measured(shape, q, k, v)
            except _Interrupted:
                return self._in_order(self._nearest(shape)[1])
            while len(self._attends) >= MAX_SHAPES:
                del self._attends[next(iter(self._attends))]
            attend = self._attends[shape] = self._in_order(ranking)
            return attend

    def _in_order(self, ranking: Ranking) -> FallingBack:
        """The back end to take, then the others for what it refuses in spite of the trial, then the way out."""
        names = tuple(name for name, _ in ranking if name in self.candidates)
        if names not in self._orders:
            ordered = [(name, self.candidates[name]) for name in names] + list(WAY_OUT.items())
            self._orders[names] = FallingBack(*ordered)
        return self._orders[names]

    def _nearest(self, shape: Shape) -> tuple[float, Ranking]:
        distances = ((shape.distance(other), ranking) for other, ranking in list(self._rankings.items()))
        return min((each for each in distances if each[0] < math.inf), key=lambda each: each[0], default=(math.inf, ()))

    def _measured(self, shape: Shape, q: Tensor, k: Tensor, v: Tensor) -> Ranking:
        """The ranking of a new shape; empty where nothing could be found out.  Kept for later runs if it will hold then."""
        distance, near = self._nearest(shape)
        best = min((ms for _, ms in near), default=0.0)
        names = [name for name, ms in near if ms <= NEAR_RATIO * best] if distance <= 1 else list(self.candidates)
        if len(names) == 1:
            return near
        try:
            with torch.no_grad():
                ranking, refusals, lasting = self._try(shape, names, _Sample.like(q, k, v))
        except Exception as error:
            if _of_a_capture(error):
                raise _Interrupted from None
            if not out_of_memory(error):
                raise
            return near  # no room for the samples: the call itself may still have some
        self._say(shape, ranking, refusals)
        if ranking and lasting:
            self._rankings[shape] = ranking
            while len(self._rankings) > MAX_SHAPES:
                del self._rankings[next(iter(self._rankings))]
            self.store.add(shape, ranking)
        return ranking or near

    def _try(self, shape: Shape, names: list[str], sample: _Sample) -> tuple[Ranking, dict[str, str], bool]:
        """The ranking, why others are not in it, and whether all of that will be so the next time."""
        times: dict[str, float] = {}
        refusals: dict[str, str] = {}
        lasting = True
        for name in names:
            try:
                times[name] = self._time(name, shape, sample, min(times.values(), default=math.inf))
            except _Refused as refusal:
                refusals[name] = str(refusal)  # not itself: its frames hold tensors
                lasting &= not isinstance(refusal, _NoRoom)
        chosen = ""
        for name, ms in times.items():
            if not chosen or ms < TIE * times[chosen]:
                chosen = name
        others = sorted(times.items(), key=lambda each: each[1])
        return tuple(sorted(others, key=lambda each: each[0] != chosen)), refusals, lasting

    def _time(self, name: str, shape: Shape, sample: _Sample, best: float) -> float:
        """Milliseconds of one call.

        Raises:
            _Refused: it does not run here, or not rightly.
        """
        if name == MATH and shape.batch * shape.heads * shape.queries * shape.keys * 4 > SLICE_BYTES:
            raise _Refused("its scores take too much memory")
        call = partial(self.candidates[name], sample.q, sample.k, sample.v)
        try:
            self._check(name, shape, call, sample)
            first = self.clock.milliseconds(call, 1)
            if first > GIVE_UP * best:
                return first
            runs = int(min(MOST_RUNS, BUDGET_MS / max(first, 1e-6)))
            return min([first, *[self.clock.milliseconds(call, runs // 2) for _ in range(2 if runs > 1 else 0)]])
        except _Refused:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise _NoRoom("out of memory") from None
            if _of_a_capture(error):
                raise
            if failed_device(error):
                self.clock.settle()  # raises where the device failed, and not one library's call
            raise _Refused(first_line(error)) from None

    def _check(self, name: str, shape: Shape, call: Callable[[], Tensor], sample: _Sample) -> None:
        with warnings.catch_warnings(record=True) as said:  # SDPA warns why a kernel does not run, and raises that it does not
            warnings.simplefilter("always")
            try:
                out = call()
                self.clock.settle()
            except Exception as error:
                if failed_device(error) or not said:
                    raise
                raise _Refused("; ".join(dict.fromkeys(_short(str(each.message)) for each in said))) from None
        bound = TOLERANCES.get(sample.q.dtype, max(TOLERANCES.values()))
        if (apart := sample.difference(out)) > bound:
            log.warning("attention: %s is wrong by %.2g (at most %g) for %s; it is not used", name, apart, bound, shape.kind)
            raise _Refused(f"wrong by {apart:.2g}")

    def _say(self, shape: Shape, ranking: Ranking, refusals: Mapping[str, str]) -> None:
        if shape.kind in self._said:
            return
        self._said.add(shape.kind)
        others = [f"{name} {ms:.3f}" for name, ms in ranking[1:]] + [f"{name}: {why}" for name, why in refusals.items()]
        chosen = f"{ranking[0][0]}, {ranking[0][1]:.3f} ms" if ranking else f"no candidate runs, so {next(iter(WAY_OUT))}"
        size = f"{shape.batch} x {shape.queries} x {shape.keys}"
        log.info("attention: %s use %s at %s (%s)", shape.kind, chosen, size, "; ".join(others) or "nothing else runs")


def _of_a_capture(error: Exception) -> bool:
    """CUDA's words for what may not be done while any thread captures (cudaErrorStreamCaptureUnsupported and its kin)."""
    return isinstance(error, RuntimeError) and "captur" in str(error).lower()


def _short(warning: str) -> str:
    """A warning without the place in torch's source."""
    return warning.partition(" (Triggered internally")[0].strip().removesuffix(".")
