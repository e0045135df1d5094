"""The autoencoder's names, shapes and manners; that its numbers are right is `test_parity.py`'s."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL as Theirs

from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.diffusion import reference


def test_its_names_are_the_published_ones() -> None:
    """Every name of SD 1.5's 248 becomes one of diffusers', and diffusers wants no other."""
    config = VAEConfig()
    with torch.device("meta"):
        ours = {"first_stage_model." + name: tensor for name, tensor in AutoencoderKL(config).state_dict().items()}
        theirs = Theirs(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=config.channels,
            layers_per_block=2,
        )
    converted = reference.convert_ldm_vae_checkpoint(ours, theirs.config)
    assert len(ours) == len(theirs.state_dict()) == 248
    assert {name: t.numel() for name, t in converted.items()} == {name: t.numel() for name, t in theirs.state_dict().items()}


@pytest.mark.parametrize(
    ("config", "factor"),
    [
        (VAEConfig(channels=(32, 32, 32, 32), res_blocks=1), 8),
        (VAEConfig(channels=(32, 64), res_blocks=2, latent_channels=16), 2),
    ],
)
def test_sizes_follow_the_configuration(config: VAEConfig, factor: int) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(config).requires_grad_(False)
    assert config.downsampling == factor
    mean, logvar = vae.encode(torch.rand(2, 3, 8 * factor, 3 * factor) * 2 - 1)
    assert mean.shape == logvar.shape == (2, config.latent_channels, 8, 3)
    assert vae.decode(mean).shape == (2, 3, 8 * factor, 3 * factor)


def test_the_log_variance_is_clamped() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(VAEConfig(channels=(32,), res_blocks=1)).requires_grad_(False)
    vae.quant_conv.bias += 1e6
    assert vae.encode(torch.zeros(1, 3, 8, 8))[1].max() == 20
    vae.quant_conv.bias -= 2e6
    assert vae.encode(torch.zeros(1, 3, 8, 8))[1].min() == -30


def test_pictures_of_a_batch_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(VAEConfig(channels=(32, 64), res_blocks=1)).requires_grad_(False)
    z = torch.randn(3, 4, 8, 8)
    together = vae.decode(z)
    assert all(reference.error(together[i : i + 1], vae.decode(z[i : i + 1])) < 1e-5 for i in range(3))
