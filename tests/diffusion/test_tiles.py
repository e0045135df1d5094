"""Tiled VAE against the whole: the same picture to within rounding, in memory that the tile bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.tiles import Tiling, decode, encode
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.tiny import randomised

BOUND = 1e-4
"""Of pixels in [-1, 1]: a fiftieth of a step of 1/255."""

SMALL = Tiling(side=12)


def narrow(seed: int = 0, **shape: Any) -> AutoencoderKL:
    """A random one whose widths change from level to level, as those of SD do."""
    config = VAEConfig(**{"channels": (32, 64, 64), "res_blocks": 2, **shape})
    vae = randomised(AutoencoderKL(config), seed).requires_grad_(False)
    assert isinstance(vae, AutoencoderKL)
    return vae


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> AutoencoderKL:
    models = Path(__file__).parents[2] / "models"
    cache = tmp_path_factory.mktemp("cache") / "hashes.json"
    vae = ModelManager([models], torch.device("cpu"), torch.float32, sdpa, cache).load("atelier-starter").latent.vae
    assert isinstance(vae, AutoencoderKL)
    return vae


@pytest.mark.parametrize(("height", "width"), [(8, 8), (13, 9), (7, 31), (1, 5)])
@pytest.mark.parametrize("side", [4, 12, 31, 512])
def test_a_tiled_decode_is_the_whole_one(height: int, width: int, side: int) -> None:
    vae, z = narrow(), torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(1))
    assert (decode(vae, z, Tiling(side)) - vae.decode(z)).abs().max() <= BOUND


@pytest.mark.parametrize(("height", "width"), [(32, 32), (36, 52), (28, 124)])
@pytest.mark.parametrize("side", [4, 12, 31, 512])
def test_a_tiled_encode_is_the_whole_one(height: int, width: int, side: int) -> None:
    vae, x = narrow(), torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for tiled, whole in zip(encode(vae, x, Tiling(side)), vae.encode(x), strict=True):
        assert (tiled - whole).abs().max() <= BOUND


@torch.inference_mode()
@pytest.mark.parametrize("on_host", [False, True])
def test_the_starter_s_pictures_have_no_seams(starter: AutoencoderKL, on_host: bool) -> None:
    z = torch.randn(2, 4, 17, 12, generator=torch.Generator().manual_seed(2)) / 0.18215
    tiled, whole = decode(starter, z, Tiling(24, on_host)), starter.decode(z)
    assert (tiled - whole).abs().max() <= BOUND
    (mean, _), (wanted, _) = encode(starter, whole.clamp(-1, 1), Tiling(24, on_host)), starter.encode(whole.clamp(-1, 1))
    assert (mean - wanted).abs().max() <= BOUND * wanted.abs().max()


def test_a_picture_of_one_tone_beside_another_keeps_its_tone() -> None:
    """Tiles that are normalised apart differ most where one half of the picture is unlike the other."""
    vae, z = narrow(3), torch.zeros(1, 4, 24, 16)
    z[:, :, :12] = 4.0
    z += torch.randn(z.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    assert (decode(vae, z, SMALL) - vae.decode(z)).abs().max() <= BOUND


def test_bfloat16_tiles_are_as_near_to_the_truth_as_the_whole() -> None:
    vae, z = narrow(), torch.randn(1, 4, 13, 9, generator=torch.Generator().manual_seed(1))
    truth = vae.decode(z)
    vae.to(torch.bfloat16)
    tiled, whole = (each.float() for each in (decode(vae, z.bfloat16(), SMALL), vae.decode(z.bfloat16())))
    assert (tiled - truth).abs().mean() <= 1.5 * (whole - truth).abs().mean()


class Largest(TorchDispatchMode):
    """The most values that an operation gave, but for making room, and for views and copies into it."""

    values = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__
        if isinstance(out, Tensor) and not any(word in name for word in ("empty", "slice", "copy", "view", "alias", "cat")):
            self.values = max(self.values, out.numel())
        return out


def largest(run: Any) -> int:
    with Largest() as seen:
        run()
    return seen.values


@torch.inference_mode()
def test_no_feature_map_of_the_work_is_larger_than_a_tile() -> None:
    """Eight times the picture, the same tiles: only what waits between layers grows, and may do so in main memory."""
    vae = narrow(channels=(32, 32, 32, 32), res_blocks=1)
    low, high = (torch.randn(1, 4, rows, 6) for rows in (16, 128))
    bound = 2 * 24 * 24 * 32  # the neighbours' rows
    assert largest(lambda: decode(vae, low, Tiling(24))) <= bound
    assert largest(lambda: decode(vae, high, Tiling(24))) <= bound < largest(lambda: vae.decode(high)) / 4
    picture = torch.rand(1, 3, 1024, 48)
    assert largest(lambda: encode(vae, picture, Tiling(24))) <= bound < largest(lambda: vae.encode(picture)) / 4


def test_pictures_of_a_batch_are_decoded_one_after_the_other() -> None:
    vae, z = narrow(), torch.randn(3, 4, 9, 7, generator=torch.Generator().manual_seed(1))
    assert (decode(vae, z, SMALL) - vae.decode(z)).abs().max() <= BOUND
