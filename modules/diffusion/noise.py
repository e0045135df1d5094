"""Randomness of one image: its starting noise, the fresh noise of ancestral steps, and its Brownian path.

Every image owns its streams and nothing touches torch's global one, so picture k of a batch is the picture of that seed alone.
The order of draws and the quirks of variations and resized seeds are A1111's (`modules/rng.py`), because a seed is what people
pass on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from modules.diffusion.philox import Philox
from modules.diffusion.transfers import sent

Stream = Callable[[Sequence[int]], Tensor]
"""(shape) -> the next unit normal values, float32, on the CPU, or where they are made."""

Step = tuple[float, float]
"""From one noise level to the next, in sigma."""

SEEDS = 2**64
"""Seeds are whole numbers below this; a sum of a seed and a delta is taken modulo it, as unsigned 64-bit arithmetic does."""


def stream(source: str, seed: int, device: torch.device) -> Stream:
    """A stream of normal values from `seed`, which counts modulo 2**64.

    "CPU" is torch's generator on the CPU, the same everywhere; its Mersenne Twister takes the lower 32 bits of a seed.  "GPU"
    is the CUDA device's, whose values stay there; where there is none, "GPU" is "NV": a CUDA device's numbers computed by us
    (`Philox`), since that is where pictures with GPU seeds come from.
    """
    seed %= SEEDS
    if source == "CPU" or (source == "GPU" and device.type == "cuda"):
        where = torch.device("cpu") if source == "CPU" else device
        generator = torch.Generator(where).manual_seed(seed)
        return lambda shape: torch.randn(tuple(shape), generator=generator, device=where, dtype=torch.float32)
    if source not in ("GPU", "NV"):
        raise ValueError(f"noise comes from CPU, GPU or NV, not from {source!r}")
    philox = Philox(seed)
    return lambda shape: torch.from_numpy(philox.randn(shape))


class Noise:
    """The noise of one image.

    Args:
        seed: of the image, in [0, 2**64).
        shape: of one draw, usually (C, h, w) of the latent.
        device: to which draws are moved.
        source: CPU, GPU or NV, see `stream`.
        variation: (seed, strength in [0, 1]): the starting noise is turned towards that seed's.
        resize_from: (h, w) of another latent whose noise for this seed is put into the middle of this one's.
        delta: added to the seed of all draws behind the first (A1111's eta noise seed delta, ENSD).
        span: noise levels over which a Brownian path is laid whatever part of them is walked.
    """

    def __init__(
        self,
        seed: int,
        shape: Sequence[int],
        device: torch.device | str = "cpu",
        source: str = "CPU",
        *,
        variation: tuple[int, float] | None = None,
        resize_from: tuple[int, int] | None = None,
        delta: int = 0,
        span: Sequence[float] = (),
    ) -> None:
        self.seed = seed
        self.shape = tuple(shape)
        self.device = torch.device(device)
        self.source = source
        self.variation = variation
        self.resize_from = resize_from
        self.delta = delta
        self.span = span
        self._next = self._stream(seed)
        self._started = False
        self._drawn: deque[Tensor] = deque()
        self._at_once = 1  # draws that a sampler takes between two evaluations
        self._path: BrownianPath | None = None

    def __call__(self) -> Tensor:
        """The next unit normal draw, float32.  The first is the starting noise, later ones are ancestral."""
        if self._drawn:
            return sent(self._drawn.popleft(), self.device)
        if self._started:
            self._at_once += 1
        return sent(self._draw(), self.device)

    def brownian(self, sigmas: Sequence[float], asks: Iterable[Step] = ()) -> BrownianPath:
        """The image's Brownian path over the positive levels of `sigmas`; it takes nothing from the draws above.

        `asks` are the increments that will be asked for, in order: they can then be computed ahead.
        """
        positive = [sigma for sigma in self.span or sigmas if sigma > 0]
        self._path = BrownianPath(self.seed, self.shape, min(positive), max(positive), self.device, self.source, asks)
        return self._path

    @property
    def pending(self) -> bool:
        """Whether the next question takes long enough to be worth a host thread, see `ahead`.

        A draw of torch's own generators takes a tenth of a millisecond, Philox on the CPU ten times that, and an increment of a
        Brownian path up to twenty draws.  What a CUDA device draws is only launched here.
        """
        if self.source == "GPU" and self.device.type == "cuda":
            return False
        if self._path is not None:
            return self._path.pending
        return self.source != "CPU" and len(self._drawn) < self._at_once

    def ahead(self) -> None:
        """Compute what the sampler asks next, for a thread of the host: the values are the same, asked for early or not."""
        if self._path is not None:
            self._path.ahead()
        else:
            while len(self._drawn) < self._at_once:
                self._drawn.append(self._draw())

    def _draw(self) -> Tensor:
        if self._started:
            return self._next(self.shape)
        self._started = True
        first = self._first()
        if self.delta:
            self._next = self._stream(self.seed + self.delta)
        return first

    def _stream(self, seed: int) -> Stream:
        return stream(self.source, seed, self.device)

    def _first(self) -> Tensor:
        drawn = self._next(self.shape)
        if self.resize_from is None or self.resize_from == self.shape[1:]:
            return self._varied(drawn)
        return centred(self._varied(self._stream(self.seed)((self.shape[0], *self.resize_from))), drawn)

    def _varied(self, noise: Tensor) -> Tensor:
        if self.variation is None or self.variation[1] == 0:
            return noise
        seed, strength = self.variation
        return slerp(strength, noise, self._stream(seed)(noise.shape))


def slerp(strength: float, low: Tensor, high: Tensor) -> Tensor:
    """From `low` to `high`, both (C, h, w), along great circles of columns.

    A1111's, whose angle is taken along dimension 1: of (C, h, w) that is the height, not the channels.  Where the two are
    nearly alike it goes along the line, and from the wrong end.  Columns of one value have no angle (A1111 divides by zero); as
    independent draws count as orthogonal, which keeps their variance, so do these.
    """
    cosine = (low / low.norm(dim=1, keepdim=True) * (high / high.norm(dim=1, keepdim=True))).sum(1)
    if cosine.mean() > 0.9995:
        return low * strength + high * (1 - strength)
    angle = torch.where(cosine.abs() < 1.0, torch.acos(cosine), math.pi / 2)
    low_part = torch.sin((1.0 - strength) * angle) / torch.sin(angle)
    high_part = torch.sin(strength * angle) / torch.sin(angle)
    return low_part.unsqueeze(1) * low + high_part.unsqueeze(1) * high


def centred(inner: Tensor, outer: Tensor) -> Tensor:
    """`outer` (C, h, w) with `inner` in its middle, or as much of the middle of `inner` as fits; offsets are rounded down."""
    result = outer.clone()
    places = []
    for whole, part in zip(outer.shape[1:], inner.shape[1:], strict=True):
        offset = (whole - part) // 2
        size = part if offset >= 0 else part + 2 * offset
        places.append((slice(max(0, offset), max(0, offset) + size), slice(max(0, -offset), max(0, -offset) + size)))
    (rows, from_rows), (columns, from_columns) = places
    result[:, rows, columns] = inner[:, from_rows, from_columns]
    return result


class BrownianPath:
    """A Brownian motion over sigma in [sigma_min, sigma_max] that can be asked anywhere, in any order.

    A virtual Brownian tree (Li et al. 2020, arXiv:2001.01328, section 4): the increment over the whole range is drawn first,
    and each interval is halved with a Brownian bridge until the asked level is an end.  A node's noise depends on the seed and
    its place in the tree only, so memory stays small and answers do not depend on earlier questions.

    Seeds and rounding are those of torchsde 0.2.6's `BrownianTree` (tol 1e-6, pool size 24), which k-diffusion and A1111 use:
    the same seed asked at the same levels gives the same path (equal to 1e-5; `tests/diffusion/test_noise.py`).  A1111 asks at
    levels in single precision, we in double: the two may round to ends that differ in the last digit, which moves a draw by
    about sqrt(1e-6 / length of the step), 5e-2 at most in the last of 60 Karras steps, where little noise is left.  torchsde
    itself would bring scipy and two more packages for these lines, and has had no release since 2023.
    """

    DIGITS = 6
    POOL = 24

    def __init__(
        self,
        seed: int,
        shape: Sequence[int],
        sigma_min: float,
        sigma_max: float,
        device: torch.device | str = "cpu",
        source: str = "CPU",
        asks: Iterable[Step] = (),
    ) -> None:
        self.seed = seed
        self.shape = tuple(shape)
        self.device = torch.device(device)
        self.source = source
        self.start, self.end = round(sigma_min, self.DIGITS), round(sigma_max, self.DIGITS)
        self._length = sigma_max - sigma_min
        self._halves: dict[tuple[int, int], Tensor] = {}
        """Left halves' increments by (depth, position): those that the last question used, for the next one is adjacent."""
        self._asks = deque(asks)
        self._ready: dict[Step, Tensor] = {}

    @cached_property
    def _whole(self) -> Tensor:
        root = np.random.SeedSequence(entropy=self.seed, pool_size=self.POOL).generate_state(1)[0]
        return self._draw(int(root)) * math.sqrt(self._length)

    @property
    def pending(self) -> bool:
        """Whether the next of the increments that will be asked for is not computed."""
        return bool(self._asks) and not self._ready

    def ahead(self) -> None:
        """Compute the next of the increments that will be asked for."""
        if self.pending:
            step = self._asks.popleft()
            self._ready[step] = self._between(*step)

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """The path's increment from `sigma` to `sigma_next`, divided by sqrt(|sigma_next - sigma|): unit normal, float32.

        Levels outside the range count as its ends.
        """
        ready = self._ready.pop((sigma, sigma_next), None)
        return sent(self._between(sigma, sigma_next) if ready is None else ready, self.device)

    def _between(self, sigma: float, sigma_next: float) -> Tensor:
        low, high = (self._inside(level) for level in sorted((sigma, sigma_next)))
        used: dict[tuple[int, int], Tensor] = {}
        increment = self._increment(low, high, self.start, self.end, self._whole, (0, 0), used)
        self._halves = used
        sign = 1.0 if sigma <= sigma_next else -1.0
        if sigma != sigma_next:
            increment = increment * (sign / math.sqrt(abs(sigma_next - sigma)))
        return increment

    def _inside(self, sigma: float) -> float:
        return min(max(round(sigma, self.DIGITS), self.start), self.end)

    def _increment(
        self,
        low: float,
        high: float,
        start: float,
        end: float,
        whole: Tensor,
        place: tuple[int, int],
        used: dict[tuple[int, int], Tensor],
    ) -> Tensor:
        """The increment over [low, high], which lies in the node [start, end] with increment `whole`."""
        if low >= high:
            return torch.zeros_like(whole)
        if low == start and high == end:
            return whole

        # Halve this node with a Brownian bridge
        middle = round(0.5 * (start + end), self.DIGITS)
        left = self._halves.get(place)
        if left is None:
            left = self._bridge(start, middle, end, whole, place)
        used[place] = left
        depth, position = place

        # Ask the halves that the question touches
        if high <= middle:
            return self._increment(low, high, start, middle, left, (depth + 1, 2 * position), used)
        right = whole - left
        if low >= middle:
            return self._increment(low, high, middle, end, right, (depth + 1, 2 * position + 1), used)
        return self._increment(low, middle, start, middle, left, (depth + 1, 2 * position), used) + self._increment(
            middle, high, middle, end, right, (depth + 1, 2 * position + 1), used
        )

    def _bridge(self, start: float, middle: float, end: float, whole: Tensor, place: tuple[int, int]) -> Tensor:
        """The increment over [start, middle], given the one over [start, end]."""
        depth, position = place
        sequence = np.random.SeedSequence(entropy=self.seed, spawn_key=(position, depth), pool_size=self.POOL)
        fresh = self._draw(int(sequence.generate_state(1)[0]))
        left, right, both = middle - start, end - middle, end - start
        return whole * (left / both) + fresh * math.sqrt(left * right / both)

    def _draw(self, seed: int) -> Tensor:
        return stream(self.source, seed, self.device)(self.shape)
