"""A hole filled with textures of the rest of the picture: every small patch in it shall look like some patch outside.

The alternation of Wexler et al. (2007, "Space-time completion of video") from coarse to fine, with the correspondences of
PatchMatch (Barnes et al. 2009), vectorised: all patches try their neighbours' finds at once, some steps away, instead of one
after the other in scan order.  Patches are compared by their main components, as in He & Sun (2012, "Computing
nearest-neighbor fields via propagation-assisted KD-trees"): a sixth of the numbers.  Deterministic for a given generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modules.pixels import Floats, Picture
from modules.pixels.distance import falling_off

_REACH = 3
"""A patch is 7x7."""
_COMPONENTS = 24
_SAMPLE = 4096
"""Patches from which the components are learnt."""
_COARSEST = 32
"""Pixels of the shorter side where it begins; most holes are a few patches thick there."""
_ROUNDS = 8
_WORK = 120_000
"""Patches times rounds on one size: bounds the time for large holes, which then get fewer rounds, at least one."""
_MATCHED = 1_500_000
"""Pixels of the largest size on which patches are compared; beyond, the finds of the size below are enlarged."""
_INWARDS = np.float32(1.3)
"""By how much a patch counts less for each pixel deeper in the hole."""
_STEPS = (8, 4, 2, 1)
_CHUNK = 16_384

Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]
"""(N, 2): row and column."""


def complete(picture: Picture, known: Bools, start: Floats, rng: np.random.Generator) -> Picture:
    """`picture` with what is not known filled in.

    `start` (H, W, 3, 0 to 255) is a smooth guess, from which the smallest size begins.  Where no patch is wholly known, the
    guess is the answer.
    """
    finds: _Finds | None = None
    sizes = _pyramid(np.where(known[..., None], picture, start).astype(np.float32), known)
    for values, there in sizes:
        found = _Finds.begin(there, finds, rng)
        if found is None:
            continue
        if finds is not None:
            _vote(values, there, found, np.ones(len(found.targets), np.float32))
        if there.size <= _MATCHED:
            _improve(values, there, found, rng)
        finds = found
    return np.where(known[..., None], picture, np.clip(np.rint(sizes[-1][0]), 0, 255)).astype(np.uint8)


@dataclass
class _Finds:
    """Which patch outside looks most like each patch that touches the hole; patches are named by their middle.

    `index` (H, W) is a target's number, or -1; `usable` (H, W) says where a patch is wholly known.
    """

    targets: Places
    sources: Places
    index: npt.NDArray[np.intp]
    usable: Bools

    @classmethod
    def begin(cls, known: Bools, coarser: _Finds | None, rng: np.random.Generator) -> _Finds | None:
        """Chance, or the finds of half the size; None if the picture is smaller than a patch or no patch is wholly known."""
        height, width = known.shape
        if min(height, width) <= 2 * _REACH:
            return None
        inner = slice(_REACH, height - _REACH), slice(_REACH, width - _REACH)
        usable, touched = np.zeros(known.shape, np.bool_), np.zeros(known.shape, np.bool_)
        usable[inner] = _eroded(known)
        touched[inner] = True
        touched[usable] = False
        pool, targets = np.argwhere(usable), np.argwhere(touched)
        if not len(pool):
            return None
        index = np.full(known.shape, -1, np.intp)
        index[touched] = np.arange(len(targets))
        sources = pool[rng.integers(len(pool), size=len(targets))]
        if coarser is not None:
            half = np.clip(targets // 2, _REACH, np.array(coarser.index.shape) - 1 - _REACH)
            parent = coarser.index[half[:, 0], half[:, 1]]
            carried = coarser.sources[parent] * 2 + targets - 2 * half
            good = (parent >= 0) & _allowed(carried, usable)
            sources = np.where(good[:, None], carried, sources)
        return cls(targets, sources, index, usable)


def _pyramid(values: Floats, known: Bools) -> list[tuple[Floats, Bools]]:
    """From small to full size.  A pixel is known where half of what it stands for is, and is the average of that."""
    sizes = [(values, known)]
    while min(known.shape) >= 2 * _COARSEST:
        height, width = (side // 2 * 2 for side in known.shape)
        weight = known[:height, :width].reshape(height // 2, 2, width // 2, 2).astype(np.float32)
        count = weight.sum(axis=(1, 3))
        pixels = values[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
        mean = (pixels * weight[..., None]).sum(axis=(1, 3)) / np.maximum(count, 1)[..., None]
        values = np.where((count > 0)[..., None], mean, pixels.mean(axis=(1, 3))).astype(np.float32)
        known = count >= 2
        sizes.append((values, known))
    return sizes[::-1]


def _eroded(known: Bools) -> Bools:
    """Whether the patch around each pixel, the borders' left out, is wholly known."""
    span = 2 * _REACH + 1
    rows = np.lib.stride_tricks.sliding_window_view(known, span, 0).all(axis=-1)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(rows, span, 1).all(axis=-1))


def _allowed(places: Places, usable: Bools) -> Bools:
    inside = np.asarray(((places >= 0) & (places < usable.shape)).all(axis=1))
    clipped = np.where(inside[:, None], places, 0)
    return np.asarray(inside & usable[clipped[:, 0], clipped[:, 1]])


def _improve(values: Floats, known: Bools, finds: _Finds, rng: np.random.Generator) -> None:
    """Rounds of searching for the likest patches and of painting the hole with them; `values` and `finds` change."""
    basis = _components(values, finds.usable, rng)
    outside = np.zeros((*known.shape, basis.shape[1]), np.float32)
    pool = np.argwhere(finds.usable)
    outside[pool[:, 0], pool[:, 1]] = _described(values, pool, basis)
    depth = -falling_off(np.where(known, 0, -max(known.shape)).astype(np.float32), 1.0)
    confidence = _INWARDS ** -np.minimum(depth[finds.targets[:, 0], finds.targets[:, 1]], 30)
    for _ in range(max(1, min(_ROUNDS, _WORK // max(1, len(finds.targets))))):
        wanted = _described(values, finds.targets, basis)
        distance = _search(finds, wanted, outside, rng)
        # Wexler et al., section 3: a patch counts more that found its like (the scale is the upper quartile), and that lies
        # nearer to what is known, so that the hole is agreed on from the outside in.
        scale = max(float(np.quantile(distance, 0.75)), 1.0)
        _vote(values, known, finds, confidence * np.exp(-distance / (2 * scale)) + np.float32(1e-6))


def _components(values: Floats, usable: Bools, rng: np.random.Generator) -> Floats:
    """An orthonormal basis (147, k) of most of what distinguishes the known patches."""
    pool = np.argwhere(usable)
    sample = _patches(values, pool[rng.integers(len(pool), size=min(_SAMPLE, len(pool)))])
    sample = sample - sample.mean(axis=0)
    _, vectors = np.linalg.eigh((sample.T @ sample).astype(np.float64))
    return np.asarray(vectors[:, -_COMPONENTS:], np.float32)


def _patches(values: Floats, places: Places) -> Floats:
    """(N, 147): the patches around `places`, which must lie inside."""
    windows = np.lib.stride_tricks.sliding_window_view(values, (2 * _REACH + 1, 2 * _REACH + 1), (0, 1))
    return np.asarray(windows[places[:, 0] - _REACH, places[:, 1] - _REACH].reshape(len(places), -1))


def _described(values: Floats, places: Places, basis: Floats) -> Floats:
    """(N, k) numbers whose squared distances are those of the patches, nearly."""
    parts = [_patches(values, places[i : i + _CHUNK]) @ basis for i in range(0, len(places), _CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, basis.shape[1]), np.float32)


def _search(finds: _Finds, wanted: Floats, outside: Floats, rng: np.random.Generator) -> Floats:
    """PatchMatch: take over what neighbours found, then look around at random in halving distances.  (N,) distances."""
    distance = _distance(wanted, outside, finds.sources)

    def propose(candidates: Places, valid: Bools) -> None:
        which = np.flatnonzero(valid & _allowed(candidates, finds.usable))
        new = _distance(wanted[which], outside, candidates[which])
        better = new < distance[which]
        finds.sources[which[better]] = candidates[which[better]]
        distance[which[better]] = new[better]

    bounds = np.array(finds.index.shape) - 1
    for step in _STEPS:
        for offset in np.array([(step, 0), (-step, 0), (0, step), (0, -step)]):
            beside = np.clip(finds.targets + offset, 0, bounds)
            neighbour = finds.index[beside[:, 0], beside[:, 1]]
            propose(finds.sources[neighbour] - offset, neighbour >= 0)
    radius = max(finds.index.shape)
    everyone = np.ones(len(finds.targets), np.bool_)
    while radius >= 1:
        propose(finds.sources + rng.integers(-radius, radius + 1, size=finds.sources.shape), everyone)
        radius //= 2
    return distance


def _distance(wanted: Floats, outside: Floats, sources: Places) -> Floats:
    difference = wanted - outside[sources[:, 0], sources[:, 1]]
    return np.asarray(np.einsum("nk,nk->n", difference, difference))


def _vote(values: Floats, known: Bools, finds: _Finds, weights: Floats) -> None:
    """Each unknown pixel becomes the weighted average of what the patches over it say; `values` change.

    All that is read lies outside the hole, all that is written inside.
    """
    total = np.zeros_like(values)
    count = np.zeros(known.shape, np.float32)
    for y in range(-_REACH, _REACH + 1):
        for x in range(-_REACH, _REACH + 1):
            # One offset reaches every pixel at most once, so plain += adds all.
            at, of = finds.targets + np.array((y, x)), finds.sources + np.array((y, x))
            total[at[:, 0], at[:, 1]] += weights[:, None] * values[of[:, 0], of[:, 1]]
            count[at[:, 0], at[:, 1]] += weights
    voted = ~known & (count > 0)
    values[voted] = total[voted] / count[voted][:, None]
