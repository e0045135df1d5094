"""Noise belongs to its image: reproducible, independent of batch mates, device and torch's global state; k-diffusion's path."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.diffusion.noise import BrownianPath, Noise, slerp
from modules.diffusion.philox import _philox

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


# Sources, variations, other sizes, and the seed delta

NV_ROW = (-0.924663, -0.425344, -2.643846, 0.145184)
"""What a CUDA device's `torch.randn(3, 4)` begins with for seed 0."""


def test_nv_is_what_cuda_draws() -> None:
    """NumPy builds differ in the last digits of logarithms and sines."""
    assert Noise(0, (3, 4), source="NV")()[0].tolist() == pytest.approx(NV_ROW, abs=1e-5)


def test_philox_is_the_published_function() -> None:
    """The known answers of Random123 for a counter and key of zeros and of ones."""
    for bits, expected in (
        (0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (0xFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ):
        words = _philox([np.array([bits], np.uint64)] * 4, (bits, bits))
        assert tuple(int(word[0]) for word in words) == expected


def test_nv_streams_go_on_and_differ_by_seed() -> None:
    noise = Noise(2**40 + 7, SHAPE, source="NV")
    draws = [noise(), noise(), Noise(7, SHAPE, source="NV")()]
    correlations = torch.corrcoef(torch.stack(draws).flatten(1)).fill_diagonal_(0)
    assert correlations.abs().max() < 0.25
    values = Noise(3, (20_000,), source="NV")()
    assert abs(float(values.mean())) < 0.03
    assert float(values.std()) == pytest.approx(1.0, abs=0.03)


def test_without_a_gpu_its_numbers_are_computed() -> None:
    assert torch.equal(Noise(5, SHAPE, source="GPU")(), Noise(5, SHAPE, source="NV")())
    assert not torch.equal(Noise(5, SHAPE, source="NV")(), Noise(5, SHAPE)())


def test_the_path_follows_the_source() -> None:
    paths = [Noise(5, SHAPE, source=source).brownian([10.0, 1.0]) for source in ("CPU", "NV")]
    whole = [path.between(10.0, 1.0) for path in paths]
    assert not torch.allclose(whole[0], whole[1])
    root = int(np.random.SeedSequence(entropy=5, pool_size=24).generate_state(1)[0])
    assert torch.allclose(-whole[1], Noise(root, SHAPE, source="NV")(), atol=1e-6)


def test_an_unknown_source_is_an_error() -> None:
    with pytest.raises(ValueError, match="CPU, GPU or NV, not from 'TPU'"):
        Noise(5, SHAPE, source="TPU")


def great_circle(strength: float, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Shoemake's slerp column by column, in plain loops."""
    result = torch.empty_like(low)
    for channel in range(low.shape[0]):
        for column in range(low.shape[2]):
            a, b = low[channel, :, column].double(), high[channel, :, column].double()
            angle = math.acos(float(a @ b / (a.norm() * b.norm())))
            parts = math.sin((1 - strength) * angle), math.sin(strength * angle)
            result[channel, :, column] = ((a * parts[0] + b * parts[1]) / math.sin(angle)).float()
    return result


@pytest.mark.parametrize("strength", [0.1, 0.5, 1.0])
def test_a_variation_turns_towards_the_other_seed(strength: float) -> None:
    varied = Noise(1, SHAPE, variation=(2, strength))()
    assert torch.allclose(varied, great_circle(strength, Noise(1, SHAPE)(), Noise(2, SHAPE)()), atol=1e-5)


def test_a_variation_changes_the_first_draw_only() -> None:
    varied, plain = Noise(1, SHAPE, variation=(2, 0.5)), Noise(1, SHAPE)
    assert not torch.equal(varied(), plain())
    assert torch.equal(varied(), plain())
    assert torch.equal(Noise(1, SHAPE, variation=(2, 0.0))(), Noise(1, SHAPE)())


def test_nearly_equal_noise_is_mixed_from_the_wrong_end() -> None:
    """A1111's quirk: a variation towards the same seed gives the same noise, but strengths are swapped."""
    low = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    high = low * 1.01
    assert torch.allclose(slerp(0.25, low, high), low * 0.25 + high * 0.75)


@pytest.mark.parametrize(
    ("size", "inside", "taken"),
    [
        ((4, 6), (slice(2, 6), slice(1, 7)), (slice(0, 4), slice(0, 6))),
        ((12, 10), (slice(0, 8), slice(0, 8)), (slice(2, 10), slice(1, 9))),
        ((4, 12), (slice(2, 6), slice(0, 8)), (slice(0, 4), slice(2, 10))),
        ((5, 8), (slice(1, 6), slice(0, 8)), (slice(0, 5), slice(0, 8))),
        ((11, 8), (slice(0, 7), slice(0, 8)), (slice(2, 9), slice(0, 8))),
    ],
)
def test_another_size_s_noise_is_put_into_the_middle(
    size: tuple[int, int], inside: tuple[slice, slice], taken: tuple[slice, slice]
) -> None:
    drawn, own, other = Noise(1, SHAPE, resize_from=size)(), Noise(1, SHAPE)(), Noise(1, (4, *size))()
    assert torch.equal(drawn[(slice(None), *inside)], other[(slice(None), *taken)])
    outside = torch.ones(SHAPE, dtype=torch.bool)
    outside[(slice(None), *inside)] = False
    assert torch.equal(drawn[outside], own[outside])


def test_the_same_size_is_no_other_size() -> None:
    noise, plain = Noise(1, SHAPE, resize_from=(8, 8)), Noise(1, SHAPE)
    assert torch.equal(noise(), plain())
    assert torch.equal(noise(), plain())


def test_the_delta_moves_all_draws_but_the_first() -> None:
    noise = Noise(1, SHAPE, delta=31337)
    assert torch.equal(noise(), Noise(1, SHAPE)())
    assert torch.equal(noise(), Noise(31338, SHAPE)())


@pytest.mark.parametrize("size", [(1, 8), (1, 1), (8, 1)])
def test_a_variation_with_the_seed_of_a_picture_of_eight_pixels_is_a_number(size: tuple[int, int]) -> None:
    """Columns of one value have no angle between them; A1111's noise is NaN there, and so was the picture."""
    varied = Noise(1, (64, 8, 8), variation=(2, 0.4), resize_from=size)()
    assert varied.isfinite().all()
    middle = varied[:, 3 if size[0] == 1 else slice(None), 3 if size[1] == 1 else slice(None)]
    assert 0.8 < float(middle.std()) < 1.2
    plain = Noise(1, (64, 8, 8), resize_from=size)()
    assert not torch.equal(varied, plain)


def test_seeds_of_64_bits_are_those_of_other_programs() -> None:
    """torch's generator on the CPU takes the lower half; a GPU's key is the whole."""
    wide, low = 584918518232653, 4102059597
    assert wide % 2**32 == low
    assert torch.equal(Noise(wide, (4, 8, 8))(), Noise(low, (4, 8, 8))())
    for source in ("NV", "GPU"):
        assert not torch.equal(Noise(wide, (4, 8, 8), source=source)(), Noise(low, (4, 8, 8), source=source)())


@pytest.mark.parametrize("source", ["CPU", "NV", "GPU"])
@pytest.mark.parametrize("seed", [2**63 - 1, 2**63, 2**64 - 1])
def test_the_largest_seeds_work_and_their_sums_begin_anew_at_zero(source: str, seed: int) -> None:
    shape = (4, 8, 8)
    noise = Noise(seed, shape, source=source, variation=(2**64 - 1, 0.5), delta=2**64 - seed + 7)
    first, second = noise(), noise()
    assert first.isfinite().all()
    assert torch.equal(second, Noise(7, shape, source=source)())
    assert Noise(seed, shape, source=source).brownian([10.0, 1.0]).between(5.0, 2.0).isfinite().all()
