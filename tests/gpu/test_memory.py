"""Small cards, pretended on a large one by a bound of this process: what they paint, and how they say that they did.

A card of n GB has less than that for tensors: the driver's context and the desktop take half a gigabyte and more.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from modules.checkpoints.footprint import footprint_of
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.residence import Storage
from modules.diffusion import tiles
from modules.diffusion.attention import choose_attention
from modules.diffusion.clip import TextConfig
from modules.diffusion.placement import Placement
from modules.diffusion.slicing import SwitchableAttention
from modules.diffusion.tiles import Tiling
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.engine.costs import MEMORY_OF, Call
from modules.engine.memory import SLICE_BYTES
from tests.diffusion.test_eight_bits import rounded
from tests.engine.conftest import Bench
from tests.tiny import make_checkpoint, randomised

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

DEVICE = torch.device("cuda", 0)
CONTEXT = 0.7e9
"""Bytes of a card that no tensor gets."""


@contextmanager
def card_of(gigabytes: float) -> Iterator[int]:
    """A card with so much memory; gives what of it is left for tensors."""
    _clear()
    left = int(gigabytes * 2**30 - CONTEXT)
    torch.cuda.set_per_process_memory_fraction(left / torch.cuda.get_device_properties(DEVICE).total_memory, DEVICE)
    try:
        yield left
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, DEVICE)
        _clear()


def _clear() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(DEVICE)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random checkpoint of Stable Diffusion 1.5's shape in half precision."""
    folder = tmp_path_factory.mktemp("models")
    make_checkpoint(folder / "sd15.safetensors", UNetConfig(), VAEConfig(), TextConfig(), dtype=torch.float16)
    return folder


@dataclass
class Made:
    pixels: np.ndarray
    notes: str
    peak: int
    calls: dict[Call, float]
    """What calls took beside weights."""


def painted(models: Path, cache: Path, side: int, pictures: int = 1, storage: Storage = "auto") -> Made:
    """The last of some pictures of 3 steps, painted by an engine of its own."""
    gc.collect()  # an engine before this one
    torch.cuda.empty_cache()
    attend = choose_attention("auto", DEVICE).attend
    bench = Bench(ModelManager([models], DEVICE, torch.float16, attend, cache / "hashes.json", storage=storage))
    for number in range(pictures):
        bench.submit(str(number), checkpoint="sd15", width=side, height=side, negative_prompt="grey")
    bench.run()
    assert not bench.of("failed")
    last = str(pictures - 1)
    return Made(
        bench.pixels(last),
        bench.of("done")[last].data["facts"].get("notes", ""),
        torch.cuda.max_memory_reserved(DEVICE),
        {call: each for call, each in bench.engine.costs.entries.items() if call.work.startswith(MEMORY_OF)},
    )


@pytest.fixture(scope="module")
def unhurried(models: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The picture of 512x512 pixels with all memory there is."""
    _clear()
    made = painted(models, tmp_path_factory.mktemp("cache"), 512)
    _clear()
    assert made.notes == ""
    return made.pixels


@pytest.mark.parametrize(("gigabytes", "side"), [(4, 512), (6, 1024), (4, 1024)])
def test_a_small_card_paints(models: Path, tmp_path: Path, unhurried: np.ndarray, gigabytes: float, side: int) -> None:
    with card_of(gigabytes) as left:
        made = painted(models, tmp_path, side)
    print(f"{gigabytes} GB, {side}x{side}: {made.peak / 1e9:.2f} GB; {made.notes or 'nothing ran short'}")
    assert made.peak <= left
    if side == 512:
        assert np.abs(made.pixels - unhurried).mean() <= 4


def test_a_card_that_cannot_hold_the_weights_streams_them(models: Path, tmp_path: Path, unhurried: np.ndarray) -> None:
    with card_of(2.2) as left:
        made = painted(models, tmp_path, 512, pictures=2, storage="full")
        pictures = np.abs(painted(models, tmp_path, 512, storage="full").pixels - unhurried).mean()
    print(f"2.2 GB, 512x512: {made.peak / 1e9:.2f} GB; {made.notes}")
    assert made.peak <= left
    assert "the U-Net's weights were streamed from main memory" in made.notes
    assert pictures <= 4


def test_a_card_that_holds_them_in_8_bits_streams_only_the_rest(models: Path, tmp_path: Path, unhurried: np.ndarray) -> None:
    with card_of(2.2) as left:
        made = painted(models, tmp_path, 512)
    difference = np.abs(made.pixels - unhurried).mean()
    print(f"2.2 GB, 512x512: {made.peak / 1e9:.2f} GB; {made.notes}; {difference:.1f}/255 from full weights")
    assert made.peak <= left
    assert "the U-Net's weights were kept in 8 bits" in made.notes
    assert "the VAE's weights were streamed from main memory" in made.notes


def test_what_calls_take_is_near_what_is_said_before(models: Path, tmp_path: Path) -> None:
    """Fused kernels make fewer tensors than the blocks are counted for, and libraries take memory for themselves."""
    _clear()
    made = painted(models, tmp_path, 512)
    said = footprint_of(models / "sd15.safetensors")
    assert said is not None
    for work, values in (("predict", 2 * said.row), ("decode", said.decode)):
        call = next(call for call in made.calls if call.work == MEMORY_OF + work)
        ratio = made.calls[call] / (values * 64 * 64 * 2)
        print(f"{work} at 512x512: {made.calls[call] / 1e6:.0f} MB, {ratio:.2f} of what is said")
        assert 0.25 <= ratio <= 3.0


@torch.inference_mode()
def test_weights_in_8_bits_take_half_and_give_what_rounded_ones_do() -> None:
    _clear()
    unet = randomised(UNet(UNetConfig())).to(DEVICE, torch.float16).to(memory_format=torch.channels_last).eval()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 32, 32, generator=generator).to(DEVICE, torch.float16)
    context = torch.randn(2, 77, 768, generator=generator).to(DEVICE, torch.float16)
    timesteps = torch.tensor([900.0, 20.0], device=DEVICE)
    twin = rounded(unet)
    wanted: Tensor = twin(x, timesteps, context).float()
    del twin
    _clear()
    full = torch.cuda.memory_allocated(DEVICE)
    placed = Placement(unet, DEVICE)
    assert placed.store_in_eight_bits()
    _clear()
    assert torch.cuda.memory_allocated(DEVICE) <= 0.55 * full
    for streamed in (False, True, False):
        if streamed:
            placed.stream()
        elif placed.streamed:
            placed.settle()
        outputs = [unet(x, timesteps, context).float() for _ in range(3)]  # launched far ahead of the device
        for output in outputs:
            assert (output - wanted).abs().max() <= 0.02 * wanted.abs().max()


@torch.inference_mode()
def test_streamed_blocks_arrive_before_they_are_used_and_stay_until_then() -> None:
    """Copies on a stream of their own: whatever is not ordered shows as another result in some of many forwards."""
    _clear()
    unet = randomised(UNet(UNetConfig())).to(DEVICE, torch.float16).to(memory_format=torch.channels_last).eval()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 32, 32, generator=generator).to(DEVICE, torch.float16)
    context = torch.randn(2, 77, 768, generator=generator).to(DEVICE, torch.float16)
    timesteps = torch.tensor([900.0, 20.0], device=DEVICE)
    whole: Tensor = unet(x, timesteps, context).float()
    resident = torch.cuda.memory_allocated(DEVICE)
    placed = Placement(unet, DEVICE)
    assert placed.stream()
    for _ in range(20):
        outputs = [unet(x, timesteps, context).float() for _ in range(3)]  # launched far ahead of the device
        for output in outputs:
            assert (output - whole).abs().max() <= 0.02 * whole.abs().max()
    assert torch.cuda.memory_allocated(DEVICE) <= 0.25 * resident
    placed.settle()
    assert (unet(x, timesteps, context).float() - whole).abs().max() <= 0.02 * whole.abs().max()


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tiles_take_a_part_of_the_memory_and_give_the_same(dtype: torch.dtype) -> None:
    attend = SwitchableAttention(choose_attention("auto", DEVICE).attend)
    vae = randomised(AutoencoderKL(VAEConfig(), attend)).to(DEVICE, dtype).to(memory_format=torch.channels_last)
    z = torch.randn(1, 4, 96, 128, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)

    def peak_of(tiling: Tiling | None) -> tuple[Tensor, int]:
        _clear()
        before = torch.cuda.memory_allocated(DEVICE)
        if tiling is None:
            out = vae.decode(z)
        else:
            with attend.in_slices(SLICE_BYTES):  # as the ladder does
                out = tiles.decode(vae, z, tiling)
        return out.float(), torch.cuda.max_memory_allocated(DEVICE) - before

    whole, much = peak_of(None)
    for tiling, part in ((Tiling(256, on_host=True), 0.5), (Tiling(128, on_host=True), 0.35)):
        tiled, little = peak_of(tiling)
        print(f"decode of 1024x768 in {dtype}: {much / 1e9:.2f} GB whole, {little / 1e9:.2f} GB in {tiling}")
        assert little <= part * much
        bound = 2 / 255 if dtype == torch.float32 else 0.02 * float(whole.abs().max())
        assert (tiled - whole).abs().mean() <= bound / 4
