"""SD 3's, Flux's and T5's networks beside those of diffusers and transformers, on the same random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config as TheirT5Config
from transformers import T5EncoderModel

from modules.checkpoints import keys
from modules.checkpoints.header import TensorEntry
from modules.checkpoints.transformer_names import single_file
from modules.diffusion.conditioning import Conditioning, number_features
from modules.diffusion.flow import FlowNoise, shift_of
from modules.diffusion.flux import Flux, FluxConfig
from modules.diffusion.joint import of_patches, patches
from modules.diffusion.joint_denoiser import JointDenoiser, JointKey
from modules.diffusion.mmdit import MMDiT, MMDiTConfig
from modules.diffusion.placement import Placement
from modules.diffusion.rows import Row
from modules.diffusion.t5 import T5Config, T5Text
from tests.checkpoints.test_joint_pictures import randomised
from tests.diffusion.reference import error

SD3 = MMDiTConfig(width=32, heads=4, depth=3, context_width=24, pooled_width=20, hidden=128, positions=12)
FLUX = FluxConfig(width=64, heads=2, doubles=2, singles=2, context_width=24, pooled_width=20, axes=(4, 14, 14))
CPU = torch.device("cpu")


def as_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' tensors under our names, put together as the header says."""
    entries, flat, end = {}, [], 0
    for name, tensor in state.items():
        size = tensor.numel() * 4
        entries[name] = TensorEntry("F32", tuple(tensor.shape), end, end + size)
        flat.append(tensor.flatten())
        end += size
    numbers = torch.cat(flat)

    def at(entry: TensorEntry) -> Tensor:
        if entry.pieces:
            return torch.cat([at(piece) for piece in entry.pieces])
        return numbers[entry.start // 4 : entry.end // 4].view(entry.shape)

    return {name.removeprefix(keys.UNET): at(entry) for name, entry in single_file(entries).items()}


def filled(network: nn.Module, theirs: nn.Module) -> Any:
    network.load_state_dict(as_ours(theirs.state_dict()))
    return network.requires_grad_(False).eval()


def inputs(tokens: int = 7) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, timesteps, context and pooled text of two rows."""
    generator = torch.Generator().manual_seed(9)
    shapes = ((2, 16, 10, 14), (2, tokens, 24), (2, 20))
    x, context, pooled = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, torch.tensor([3.0, 700.0]), context, pooled


def sd3(config: MMDiTConfig) -> tuple[Any, Any]:
    theirs = SD3Transformer2DModel(
        sample_size=16,
        num_layers=config.depth,
        attention_head_dim=config.width // config.heads,
        num_attention_heads=config.heads,
        joint_attention_dim=config.context_width,
        caption_projection_dim=config.width,
        pooled_projection_dim=config.pooled_width,
        out_channels=16,
        pos_embed_max_size=config.positions,
        dual_attention_layers=tuple(range(config.dual)),
        qk_norm="rms_norm" if config.normalised else None,
    )
    return randomised(theirs, 1), filled(MMDiT(config), theirs)


def flux(config: FluxConfig) -> tuple[Any, Any]:
    theirs = FluxTransformer2DModel(
        in_channels=config.in_channels * 4,
        out_channels=64,
        num_layers=config.doubles,
        num_single_layers=config.singles,
        attention_head_dim=config.width // config.heads,
        num_attention_heads=config.heads,
        joint_attention_dim=config.context_width,
        pooled_projection_dim=config.pooled_width,
        guidance_embeds=config.guided,
        axes_dims_rope=config.axes,
    )
    return randomised(theirs, 2), filled(Flux(config), theirs)


@torch.inference_mode()
@pytest.mark.parametrize(
    "config",
    [SD3, replace(SD3, normalised=True), replace(SD3, normalised=True, dual=2)],
    ids=["3-medium", "3.5-large", "3.5-medium"],
)
def test_mmdit_is_diffusers(config: MMDiTConfig) -> None:
    theirs, ours = sd3(config)
    x, timesteps, context, pooled = inputs()
    wanted = theirs(x, encoder_hidden_states=context, pooled_projections=pooled, timestep=timesteps).sample
    assert error(ours(x, timesteps, context, pooled), wanted) < 1e-5
    padded, seen = F.pad(context, (0, 0, 0, 4), value=3.0), torch.arange(11).expand(2, 11) < 7
    assert error(ours(x, timesteps, padded, pooled, seen), wanted) < 1e-5, "padding is masked"
    assert error(ours(x, timesteps, padded, pooled), wanted) > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize(
    "config", [FLUX, replace(FLUX, guided=False), replace(FLUX, in_channels=96)], ids=["dev", "schnell", "fill"]
)
def test_flux_is_diffusers(config: FluxConfig) -> None:
    theirs, ours = flux(config)
    x, timesteps, context, pooled = inputs()
    x = torch.cat([x] * (config.in_channels // 16), dim=1)
    scales = torch.tensor([3.5, 2.0])
    wanted = theirs(
        FluxPipeline._pack_latents(x, 2, config.in_channels, 10, 14),
        encoder_hidden_states=context,
        pooled_projections=pooled,
        timestep=timesteps / 1000,
        img_ids=FluxPipeline._prepare_latent_image_ids(2, 5, 7, "cpu", torch.float32),
        txt_ids=torch.zeros(7, 3),
        guidance=scales if config.guided else None,
    ).sample
    wanted = FluxPipeline._unpack_latents(wanted, 80, 112, 8)
    guidance = torch.stack([number_features([1000.0 * float(scale)], CPU) for scale in scales])
    vector = torch.cat([pooled, guidance], dim=1) if config.guided else pooled
    assert error(ours(x, timesteps, context, vector), wanted) < 1e-5
    padded, seen = F.pad(context, (0, 0, 0, 4), value=3.0), torch.arange(11).expand(2, 11) < 7
    assert error(ours(x, timesteps, padded, vector, seen), wanted) < 1e-5, "padding is masked"


@torch.inference_mode()
def test_t5_is_transformers() -> None:
    theirs = randomised(
        T5EncoderModel(
            TheirT5Config(vocab_size=50, d_model=24, d_kv=8, d_ff=40, num_layers=3, num_heads=2, feed_forward_proj="gated-gelu")
        ),
        3,
    )
    ours = T5Text(T5Config(50, 24, 16, 40, 2, 3, 32))
    ours.load_state_dict({name: each for name, each in theirs.state_dict().items() if "embed_tokens" not in name})
    tokens = torch.randint(0, 50, (2, 300), generator=torch.Generator().manual_seed(4))
    wanted = theirs(tokens)[0]
    assert error(ours(tokens), wanted) < 1e-5
    texts = [tokens[0].tolist(), tokens[1, :5].tolist(), tokens[1].tolist()]
    one, short, other = ours.encode(texts)
    assert error(torch.stack([one, other]), wanted) < 1e-5
    assert error(short, theirs(tokens[1:, :5])[0][0]) < 1e-5


def test_patches_are_flux_s() -> None:
    x = torch.randn(2, 16, 6, 8)
    assert torch.equal(patches(x), FluxPipeline._pack_latents(x, 2, 16, 6, 8))
    assert torch.equal(of_patches(patches(x), 6, 8), x)


@torch.inference_mode()
@pytest.mark.parametrize("make", [lambda: sd3(replace(SD3, normalised=True))[1], lambda: flux(FLUX)[1]], ids=["sd3", "flux"])
def test_rows_with_contexts_of_any_length_are_together_what_they_are_alone(make: Any) -> None:
    """At a size that no patches divide, and for SD 3 one that is larger than its table of positions."""
    network = make()
    denoiser = JointDenoiser(network, torch.float32, CPU)
    generator = torch.Generator().manual_seed(2)
    rows = [
        Row(
            torch.randn(16, 7, 27, generator=generator) * (1 + sigma),
            sigma,
            Conditioning(torch.randn(tokens, 24, generator=generator), vector=torch.randn(network.vector_width)),
        )
        for sigma, tokens in ((0.3, 5), (9.0, 77), (400.0, 5), (1.0, 12))
    ]
    noise = FlowNoise(3.0)
    together = denoiser.denoise(denoiser.collate(rows), noise)
    for row, answer in zip(rows, together, strict=True):
        (alone,) = denoiser.denoise(denoiser.collate([row]), noise)
        assert answer.x0.shape == (16, 7, 27)
        assert error(answer.x0, alone.x0) < 1e-5


def test_contexts_that_would_be_mostly_padding_run_apart() -> None:
    assert JointKey.can_join([JointKey(77), JointKey(333)])
    assert not JointKey.can_join([JointKey(77), JointKey(512)])
    assert JointKey.can_join([JointKey(20_000)])


def test_the_noise_of_a_flow() -> None:
    noise = FlowNoise(3.0)
    sigmas = noise.trained.sigmas
    assert len(sigmas) == 1000
    t = [sigma / (1 + sigma) for sigma in sigmas]
    assert t[499] == pytest.approx(3 * 0.5 / (1 + 2 * 0.5)), "t' = s t / (1 + (s - 1) t)"
    assert t[-1] == pytest.approx(0.9999, abs=1e-6)
    assert noise.model_timestep(sigmas[499]) == pytest.approx(750)
    x0, eps = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    sigma = torch.tensor([0.5, 20.0])
    x = x0 + eps * sigma[:, None, None, None]
    x_t = noise.scale_input(x, sigma)
    share = (sigma / (1 + sigma))[:, None, None, None]
    torch.testing.assert_close(x_t, (1 - share) * x0 + share * eps)
    torch.testing.assert_close(noise.denoised(eps - x0, x, sigma), x0, atol=1e-5, rtol=1e-5)
    assert noise.for_size(128, 128) is noise
    sized = FlowNoise(3.0, by_size=True)
    assert sized.for_size(128, 128).shift == pytest.approx(2.71828182**1.15)
    assert sized.for_size(32, 32).shift == pytest.approx(2.71828182**0.5)
    assert sized.for_size(128, 128) == sized.for_size(64, 256), "as many tokens"
    assert shift_of(1000) < shift_of(2000)


@torch.inference_mode()
@pytest.mark.parametrize("eight_bits", [False, True], ids=["streamed", "8 bits"])
@pytest.mark.parametrize("kind", ["sd3", "flux", "t5"])
def test_weights_that_are_held_elsewhere_compute_the_same(kind: str, eight_bits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamed exactly, in 8 bits closely; all blocks of the networks are called as whole modules."""
    monkeypatch.setattr("modules.diffusion.placement.SMALL", 1)
    if kind == "t5":
        network: Any = randomised(T5Text(T5Config(50, 24, 16, 40, 2, 3, 32)), 1)
        tokens = torch.arange(40)[None]
        run = lambda: network(tokens)  # noqa: E731
    else:
        network = (sd3(replace(SD3, normalised=True, dual=1)) if kind == "sd3" else flux(FLUX))[1]
        x, timesteps, context, pooled = inputs()
        vector = F.pad(pooled, (0, network.vector_width - 20))
        run = lambda: network(x, timesteps, context, vector)  # noqa: E731
    before = run()
    placement = Placement(network, CPU)
    if eight_bits:
        assert placement.store_in_eight_bits()
        assert 0 < error(run(), before) < 0.2
    assert placement.stream()
    assert placement.streamed_bytes > 0
    if not eight_bits:
        assert torch.equal(run(), before)
        placement.settle()
        assert torch.equal(run(), before)
