"""Randomness of one image: its starting noise, the fresh noise of ancestral steps, and its Brownian path.

Every image owns its generator and nothing touches torch's global one, so picture k of a batch is the picture of that seed
alone.  Numbers are drawn on the CPU in single precision and then moved, so they do not depend on the device.  This matches
A1111 with its random number source set to CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Noise:
    """The noise of one image.

    Args:
        seed: of the image, in [0, 2**63).
        shape: of one draw, usually (C, h, w) of the latent.
        device: to which draws are moved.
    """

    def __init__(self, seed: int, shape: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.shape = tuple(shape)
        self.device = torch.device(device)
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def __call__(self) -> Tensor:
        """The next unit normal draw, float32.  The first is the starting noise, later ones are ancestral."""
        return torch.randn(self.shape, generator=self._generator, dtype=torch.float32).to(self.device)

    def brownian(self, sigmas: Sequence[float]) -> BrownianPath:
        """The image's Brownian path over the positive levels of `sigmas`; it takes nothing from the draws above."""
        positive = [sigma for sigma in sigmas if sigma > 0]
        return BrownianPath(self.seed, self.shape, min(positive), max(positive), self.device)


class BrownianPath:
    """A Brownian motion over sigma in [sigma_min, sigma_max] that can be asked anywhere, in any order.

    A virtual Brownian tree (Li et al. 2020, arXiv:2001.01328, section 4): the increment over the whole range is drawn first,
    and each interval is halved with a Brownian bridge until the asked level is an end.  A node's noise depends on the seed and
    its place in the tree only, so memory stays small and answers do not depend on earlier questions.

    Seeds and rounding are those of torchsde 0.2.6's `BrownianTree` (tol 1e-6, pool size 24), which k-diffusion and A1111 use:
    the same seed gives the same path (equal to 1e-5; `tests/diffusion/test_noise.py`).  torchsde itself would bring scipy and
    two more packages for these lines, and has had no release since 2023.
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
    ) -> None:
        self.seed = seed
        self.shape = tuple(shape)
        self.device = torch.device(device)
        self.start, self.end = round(sigma_min, self.DIGITS), round(sigma_max, self.DIGITS)
        root = np.random.SeedSequence(entropy=seed, pool_size=self.POOL).generate_state(1)[0]
        self._whole = self._draw(int(root)) * math.sqrt(sigma_max - sigma_min)
        self._halves: dict[tuple[int, int], Tensor] = {}
        """Left halves' increments by (depth, position): those that the last question used, for the next one is beside it."""

    def between(self, sigma: float, sigma_next: float) -> Tensor:
        """The path's increment from `sigma` to `sigma_next`, divided by sqrt(|sigma_next - sigma|): unit normal, float32.

        Levels outside the range count as its ends.
        """
        low, high = (self._inside(level) for level in sorted((sigma, sigma_next)))
        used: dict[tuple[int, int], Tensor] = {}
        increment = self._increment(low, high, self.start, self.end, self._whole, (0, 0), used)
        self._halves = used
        sign = 1.0 if sigma <= sigma_next else -1.0
        if sigma != sigma_next:
            increment = increment * (sign / math.sqrt(abs(sigma_next - sigma)))
        return increment.to(self.device)

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
            return torch.zeros(self.shape)
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
        generator = torch.Generator("cpu").manual_seed(seed)
        return torch.randn(self.shape, generator=generator, dtype=torch.float32)
