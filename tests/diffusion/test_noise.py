"""Noise belongs to its image: reproducible, independent of batch mates, device and torch's global state; k-diffusion's path."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.diffusion.noise import BrownianPath, Noise

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "sampling.json").read_text())
SHAPE = (4, 8, 8)


def test_same_seed_same_draws() -> None:
    first, second = Noise(42, SHAPE), Noise(42, SHAPE)
    for _ in range(3):
        assert torch.equal(first(), second())


def test_successive_draws_and_other_seeds_differ() -> None:
    noise = Noise(42, SHAPE)
    draws = [noise(), noise(), Noise(43, SHAPE)()]
    correlations = torch.corrcoef(torch.stack(draws).flatten(1)).fill_diagonal_(0)
    assert correlations.abs().max() < 0.25  # 4 standard errors of 256 values


def test_picture_k_of_a_batch_is_that_seed_alone() -> None:
    """However the draws of several images are interleaved."""
    batch = [Noise(100 + k, SHAPE) for k in range(4)]
    for _ in range(2):
        drawn = [noise() for noise in batch]
    path = batch[2].brownian([10.0, 1.0, 0.0])
    batch[3].brownian([10.0, 1.0, 0.0]).between(10.0, 1.0)

    alone = Noise(102, SHAPE)
    alone()
    assert torch.equal(drawn[2], alone())
    assert torch.equal(path.between(10.0, 1.0), alone.brownian([10.0, 1.0, 0.0]).between(10.0, 1.0))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    noise = Noise(42, SHAPE)
    first, increment = noise(), noise.brownian([10.0, 1.0]).between(10.0, 1.0)
    assert torch.equal(torch.get_rng_state(), state)

    torch.manual_seed(2)
    again = Noise(42, SHAPE)
    assert torch.equal(again(), first)
    assert torch.equal(again.brownian([10.0, 1.0]).between(10.0, 1.0), increment)


def test_the_draw_is_torch_s_cpu_stream() -> None:
    """What A1111 draws with its random number source set to CPU: (C, h, w) from a generator with the image's seed."""
    generator = torch.Generator().manual_seed(1234567890)
    noise = Noise(1234567890, SHAPE)
    assert torch.equal(noise(), torch.randn(SHAPE, generator=generator))
    assert torch.equal(noise(), torch.randn(SHAPE, generator=generator))


def test_the_path_takes_nothing_from_the_draws() -> None:
    with_path, without = Noise(5, SHAPE), Noise(5, SHAPE)
    with_path.brownian([10.0, 1.0]).between(10.0, 1.0)
    assert torch.equal(with_path(), without())


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32 + 5])
def test_every_allowed_seed_works(seed: int) -> None:
    noise = Noise(seed, SHAPE)
    assert noise().dtype == torch.float32
    assert noise.brownian([14.6, 0.03]).between(14.6, 0.03).shape == SHAPE


# The Brownian path


def test_k_diffusion_follows_the_same_path() -> None:
    """torchsde's tree, by way of k-diffusion's BrownianTreeNoiseSampler (`tests/golden/make_sampling.py`)."""
    sigmas = [sigma for sigma in GOLDEN["sigmas"] if sigma > 0]
    path = Noise(GOLDEN["seed"], GOLDEN["shape"]).brownian(GOLDEN["sigmas"])
    pairs = [*pairwise(sigmas), (sigmas[-1], sigmas[0])]
    for (sigma, sigma_next), expected in zip(pairs, GOLDEN["increments"], strict=True):
        assert torch.allclose(path.between(sigma, sigma_next).flatten(), torch.tensor(expected), atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.floats(0.03, 14.6), min_size=3, max_size=6, unique=True))
@settings(max_examples=60, deadline=None)
def test_increments_add_up(seed: int, cuts: list[float]) -> None:
    """Over any partition, asked in any order: the parts of an interval sum to the whole."""
    path = BrownianPath(seed, (4, 4), 0.03, 14.6)
    cuts = sorted(cuts)

    def increment(low: float, high: float) -> torch.Tensor:
        return path.between(low, high) * math.sqrt(high - low)

    parts = [increment(low, high) for low, high in reversed(list(pairwise(cuts)))]
    assert torch.allclose(sum(parts, torch.zeros(4, 4)), increment(cuts[0], cuts[-1]), atol=2e-5)


def test_answers_do_not_depend_on_earlier_questions() -> None:
    fresh, used = (BrownianPath(9, SHAPE, 0.03, 14.6) for _ in range(2))
    for sigma in (13.0, 0.5, 7.7, 2.2):
        used.between(14.6, sigma)
    assert torch.allclose(fresh.between(3.3, 1.1), used.between(3.3, 1.1), atol=1e-6)


def test_walking_down_and_up_differ_in_sign_only() -> None:
    path = BrownianPath(9, SHAPE, 0.03, 14.6)
    assert torch.equal(path.between(3.3, 1.1), -path.between(1.1, 3.3))


@pytest.mark.parametrize(("high", "low"), [(14.6, 0.03), (14.6, 9.0), (3.0, 2.999), (0.5, 0.03)])
def test_increments_are_unit_normal(high: float, low: float) -> None:
    """10,000 values: the standard error of the mean is 1 %, of the standard deviation 0.7 %."""
    values = BrownianPath(3, (10_000,), 0.03, 14.6).between(high, low)
    assert abs(float(values.mean())) < 0.04
    assert float(values.std()) == pytest.approx(1.0, abs=0.03)


def test_increments_of_separate_steps_are_independent() -> None:
    path = BrownianPath(3, (10_000,), 0.03, 14.6)
    sigmas = [14.6, 9.0, 5.0, 1.0, 0.2, 0.03]
    correlations = torch.corrcoef(torch.stack([path.between(a, b) for a, b in pairwise(sigmas)])).fill_diagonal_(0)
    assert correlations.abs().max() < 0.05


def test_outside_its_range_the_path_stands_still() -> None:
    path = BrownianPath(3, SHAPE, 1.0, 10.0)
    assert torch.equal(path.between(0.9, 0.5), torch.zeros(SHAPE))
    beyond = path.between(12.0, 5.0) * math.sqrt(7.0)
    assert torch.allclose(beyond, path.between(10.0, 5.0) * math.sqrt(5.0), atol=1e-6)


def test_memory_stays_small() -> None:
    """A run of 150 steps keeps one question's nodes: two paths of at most log2(14.6 / 1e-6) = 24 halvings."""
    path = BrownianPath(3, (2,), 0.03, 14.6)
    levels = torch.linspace(14.6, 0.03, 151).tolist()
    for sigma, sigma_next in pairwise(levels):
        path.between(sigma, sigma_next)
        assert len(path._halves) <= 48
