"""The U-Net's names, shapes and manners; that its numbers are right is `test_parity.py`'s."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from diffusers import UNet2DConditionModel

from modules.diffusion.layers import timestep_embedding
from modules.diffusion.unet import UNet, UNetConfig
from tests.diffusion import reference

NARROW = UNetConfig(channels=(32, 64, 96), res_blocks=2, transformer_depth=(1, 1, 0), context_dim=48)


@pytest.fixture(scope="module")
def unet() -> Iterator[UNet]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield UNet(NARROW).requires_grad_(False).eval()
    torch.set_num_threads(threads)


def test_its_names_are_the_published_ones() -> None:
    """Every name of SD 1.5's 686 becomes one of diffusers', and diffusers wants no other."""
    with torch.device("meta"):
        ours = {"model.diffusion_model." + name: tensor for name, tensor in UNet(UNetConfig()).state_dict().items()}
        network = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    theirs, converted = network.state_dict(), reference.convert_ldm_unet_checkpoint(ours, network.config)
    assert len(ours) == len(theirs) == 686
    assert {name: t.shape for name, t in converted.items()} == {name: t.shape for name, t in theirs.items()}


@pytest.mark.parametrize("size", [(8, 8), (2, 3), (7, 13), (16, 5)])
def test_it_takes_any_size_of_latent(unet: UNet, size: tuple[int, int]) -> None:
    out = unet(torch.randn(1, 4, *size), torch.tensor([5.0]), torch.randn(1, 77, 48))
    assert out.shape == (1, 4, *size)
    assert out.isfinite().all()


def test_rows_of_a_batch_do_not_touch_each_other(unet: UNet) -> None:
    """What makes sharing a forward possible: each row has its own timestep and context."""
    x, timesteps, context = torch.randn(3, 4, 8, 8), torch.tensor([1.0, 500.5, 999.0]), torch.randn(3, 77, 48)
    together = unet(x, timesteps, context)
    for row in range(3):
        alone = unet(x[row : row + 1], timesteps[row : row + 1], context[row : row + 1])
        assert reference.error(together[row : row + 1], alone) < 1e-5
    assert reference.error(together[:1], together[1:2]) > 0.1


def test_a_context_repeated_is_the_same_context(unet: UNet) -> None:
    """Why prompts of unequal length may share a forward."""
    x, timesteps, context = torch.randn(1, 4, 8, 8), torch.tensor([300.0]), torch.randn(1, 77, 48)
    once, thrice = unet(x, timesteps, context), unet(x, timesteps, context.repeat(1, 3, 1))
    assert reference.error(thrice, once) < 1e-5


def test_the_prompt_and_the_timestep_matter(unet: UNet) -> None:
    x, context = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 48)
    out = unet(x, torch.tensor([300.0]), context)
    assert reference.error(unet(x, torch.tensor([300.0]), -context), out) > 0.01
    assert reference.error(unet(x, torch.tensor([600.0]), context), out) > 0.01


def test_timestep_features_are_cosines_then_sines() -> None:
    """Ho et al. 2020: frequencies from 1 down to almost 1/10000."""
    features = timestep_embedding(torch.tensor([0.0, 2.5]), 320)
    assert features.shape == (2, 320)
    assert torch.equal(features[0], torch.cat([torch.ones(160), torch.zeros(160)]))
    assert features[1, 0] == pytest.approx(torch.tensor(2.5).cos().item())
    assert features[1, 160] == pytest.approx(torch.tensor(2.5).sin().item())
    assert features[1, 80] == pytest.approx(torch.tensor(2.5 / 100).cos().item(), abs=1e-6)


def test_nine_input_channels() -> None:
    network = UNet(UNetConfig(**{**vars(NARROW), "in_channels": 9}))
    assert network(torch.randn(1, 9, 8, 8), torch.tensor([5.0]), torch.randn(1, 77, 48)).shape == (1, 4, 8, 8)
