"""Network outputs to x0, row by row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from modules.diffusion.prediction import EPS, PREDICTIONS, Prediction, V

SIGMAS = torch.tensor([0.03, 1.0, 14.6], dtype=torch.float64)


def noisy() -> tuple[Tensor, Tensor, Tensor]:
    """Clean latents, their noise and x, at three noise levels in one batch."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(3, 4, 8, 6, generator=generator, dtype=torch.float64)
    noise = torch.randn(3, 4, 8, 6, generator=generator, dtype=torch.float64)
    return clean, noise, clean + SIGMAS[:, None, None, None] * noise


def test_the_true_noise_gives_the_clean_latent() -> None:
    clean, noise, x = noisy()
    assert torch.allclose(EPS.denoised(noise, x, SIGMAS), clean)


def test_the_true_v_gives_the_clean_latent() -> None:
    """v = alpha * noise - s * clean with alpha = 1 / sqrt(1 + sigma^2), s = sigma * alpha (Salimans & Ho 2022)."""
    clean, noise, x = noisy()
    alpha = (1 / (1 + SIGMAS**2).sqrt())[:, None, None, None]
    v = alpha * noise - SIGMAS[:, None, None, None] * alpha * clean
    assert torch.allclose(V.denoised(v, x, SIGMAS), clean)


@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
def test_the_network_sees_unit_variance(prediction: Prediction) -> None:
    clean, noise, x = noisy()
    scaled = prediction.scale_input(x, SIGMAS)
    for row, sigma in enumerate(SIGMAS.tolist()):
        assert torch.allclose(scaled[row], (clean[row] + sigma * noise[row]) / (sigma**2 + 1) ** 0.5)


@pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)
def test_rows_do_not_mix(prediction: Prediction) -> None:
    _, output, x = noisy()
    together = prediction.denoised(output, x, SIGMAS)
    for row in range(3):
        alone = prediction.denoised(output[row : row + 1], x[row : row + 1], SIGMAS[row : row + 1])
        assert torch.equal(together[row], alone[0])


def test_half_precision_outputs_keep_the_latent_s_precision() -> None:
    _, noise, x = noisy()
    denoised = EPS.denoised(noise.half(), x.float(), SIGMAS.float())
    assert denoised.dtype == torch.float32
    assert torch.allclose(denoised, EPS.denoised(noise.half().double(), x, SIGMAS).float(), atol=1e-5)


def test_the_table_is_keyed_by_name() -> None:
    assert PREDICTIONS == {"eps": EPS, "v": V}
