"""Conditionings of a forward's rows: joined once, the same tensors for the same rows, and gone with the picture."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from modules.diffusion import joined
from modules.diffusion.conditioning import Conditioning
from modules.diffusion.joined import MOST, JoinedConditionings
from modules.diffusion.prediction import DiscreteNoise
from modules.diffusion.rows import Row
from modules.diffusion.unet import UNet
from modules.diffusion.unet_denoiser import UNetDenoiser
from tests.tiny import TINY_UNET


def conditioning(fill: float = 0.0, channels: bool = False) -> Conditioning:
    context = torch.full((77, TINY_UNET.context_dim), fill)
    return Conditioning(context, torch.full((5, 8, 8), fill) if channels else None)


def stacked(parts: object) -> Conditioning:
    return Conditioning(torch.stack([part.context for part in parts]))  # type: ignore[attr-defined]


def test_rows_of_the_same_conditionings_get_the_same_tensors() -> None:
    denoiser = UNetDenoiser(UNet(TINY_UNET), torch.bfloat16)
    one, other = conditioning(1.0, channels=True), conditioning(2.0, channels=True)

    def collated(*parts: Conditioning) -> tuple[torch.Tensor, torch.Tensor | None]:
        batch = denoiser.collate([Row(torch.randn(4, 8, 8), 1.0, part) for part in parts])
        return batch.context, batch.channels

    context, channels = collated(one, other)
    assert channels is not None
    assert (context.dtype, channels.dtype) == (torch.bfloat16, torch.bfloat16), "they are what the network computes in"
    again = collated(one, other)
    assert again[0] is context
    assert again[1] is channels
    turned, _ = collated(other, one)
    assert torch.equal(turned, context.flip(0))
    fresh, _ = collated(one, conditioning(3.0, channels=True))
    assert float(fresh[1, 0, 0]) == 3.0


def test_they_go_with_the_first_of_their_conditionings() -> None:
    remembered = JoinedConditionings(stacked)
    one, other = conditioning(1.0), conditioning(2.0)
    made = weakref.ref(remembered([one, other]).context)
    remembered([one])
    assert len(remembered) == 2
    del other
    gc.collect()
    assert len(remembered) == 1
    assert made() is None
    del one
    gc.collect()
    assert len(remembered) == 0


def test_they_are_bounded_in_number_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = JoinedConditionings(stacked)
    alive = [conditioning(float(k)) for k in range(MOST + 5)]
    first = remembered([alive[0]])
    for each in alive:
        remembered([each])
    assert len(remembered) == MOST
    assert remembered([alive[0]]) is not first, "the oldest went first"

    size = alive[0].context.numel() * 4
    monkeypatch.setattr(joined, "MOST_BYTES", 3 * size)
    for each in alive:
        remembered([each])
    assert len(remembered) == 3
    assert len(remembered(alive[:4]).context) == 4, "what is larger than all that may be kept is not kept"
    assert len(remembered) == 3


def test_rows_at_several_levels_share_a_forward() -> None:
    """Noise levels and timesteps travel as one tensor; each row gets its own."""
    torch.manual_seed(0)
    denoiser, noise, prompt = UNetDenoiser(UNet(TINY_UNET), torch.float32), DiscreteNoise(), conditioning(0.3)
    rows = [Row(torch.randn(4, 8, 8), 3.0, prompt), Row(torch.randn(4, 8, 8), 0.5, prompt, timestep=700.0)]
    with torch.inference_mode():
        together = denoiser.denoise(denoiser.collate(rows), noise)
        alone = [denoiser.denoise(denoiser.collate([row]), noise)[0] for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one.x0, other.x0, atol=1e-5)
