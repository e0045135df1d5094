"""The trainer's tricks are exact: what was trained and what the exported file computes are the same function."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL
from modules.prompts.tokenizer import Tokenizer
from modules.training import denoiser as denoising
from modules.training import export, starter
from modules.training.autoencoder import VAE, LatentAutoencoder, polish, start_linear
from modules.training.denoiser import Batches, Denoiser, Vocabulary, einsum_attention, make_trainer
from modules.training.latents import Cache, draw_scenes, recombine
from modules.training.loop import Budget, Rate
from modules.training.normalise import use_fast_norms
from modules.training.rendering import FONT

MEAN, DEVIATION = torch.tensor([0.1, -0.2, 0.3, 0.0]), torch.tensor([0.5, 0.6, 1.5, 2.0])


@pytest.fixture(scope="module")
def autoencoder() -> LatentAutoencoder:
    torch.manual_seed(0)
    model = LatentAutoencoder()
    start_linear(model, torch.rand(4, 3, 64, 64) * 2 - 1)
    for module in model.modules():  # wake the branches that start at zero
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.05)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def exported(autoencoder: LatentAutoencoder) -> dict[str, Tensor]:
    vocabulary = Vocabulary()
    return export.assemble(autoencoder, MEAN, DEVIATION, Denoiser(len(vocabulary)), vocabulary.tokens)


@torch.no_grad()
def test_the_linear_start_already_shows_colours() -> None:
    torch.manual_seed(0)
    model = LatentAutoencoder().eval()
    colours = torch.rand(8, 3, 1, 1).mul(1.6).sub(0.8).expand(8, 3, 64, 64)
    start_linear(model, colours)
    assert (model.decode(model.encode(colours)) - colours).abs().mean() < 0.15


@torch.no_grad()
def test_exported_autoencoder_computes_the_same(autoencoder: LatentAutoencoder, exported: dict[str, Tensor]) -> None:
    """eps 1.0 became 1e-6, blocks were added, latents were standardised and scaled: the picture is the same."""
    vae = AutoencoderKL(VAE).eval()
    prefix = "first_stage_model."
    state = {name.removeprefix(prefix): value for name, value in exported.items() if name.startswith(prefix)}
    vae.load_state_dict(state)
    x = torch.rand(2, 3, 64, 64) * 2 - 1

    mean, logvar = vae.encode(x)
    trained = (autoencoder.vae.encode(x)[0] - MEAN[:, None, None]) / DEVIATION[:, None, None]
    torch.testing.assert_close(mean * export.LATENT_SCALE, trained, atol=1e-3, rtol=1e-3)
    assert (logvar == -10).all()
    torch.testing.assert_close(vae.decode(mean), autoencoder.decode(autoencoder.encode(x)), atol=2e-3, rtol=1e-3)


def test_file_has_the_keys_of_the_networks_and_the_metadata(exported: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "starter.safetensors"
    export.write(exported, file, cfg_scale=4.0)
    model = starter.load(file)  # strict: no key too few, none too many
    networks = {"unet": model.unet, "vae": model.vae, "text": model.text}
    expected = {prefix + name for part, prefix in starter.PREFIXES.items() for name in networks[part].state_dict()}
    assert set(exported) == expected | {starter.PREFIXES["text"] + "embeddings.position_ids"}
    assert model.metadata["atelier.native_size"] == "128x128"
    assert model.metadata["atelier.cfg_scale"] == "4"
    assert file.stat().st_size <= 25_000_000
    assert len(model.draw(["a fox"], [1], 4.0)) == 1


@torch.no_grad()
def test_words_that_were_not_trained_are_zero(exported: dict[str, Tensor]) -> None:
    table = exported["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
    unknown, known = Tokenizer().encode("photorealistic cathedral"), Tokenizer().encode("banana")
    assert table.shape == (49408, 64)
    assert not table[unknown].any()
    assert table[known].any()


def test_fast_norm_equals_groupnorm() -> None:
    torch.manual_seed(1)
    plain = nn.GroupNorm(32, 96, eps=1e-5)
    nn.init.normal_(plain.weight)
    fast = copy.deepcopy(plain)
    use_fast_norms(fast)
    x, outer = torch.randn(2, 96, 6, 6) + 1, torch.randn(2, 96, 6, 6)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    plain(a).backward(outer)
    fast(b).backward(outer)
    for one, other in ((a.grad, b.grad), (plain.weight.grad, fast.weight.grad), (plain.bias.grad, fast.bias.grad)):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(fast(x.bfloat16()).float(), plain(x), atol=0.1, rtol=0.05)


def test_einsum_attention_equals_the_fused_one() -> None:
    q, k, v = torch.randn(2, 16, 8, 12), torch.randn(2, 77, 8, 12), torch.randn(2, 77, 8, 12)
    fused = nn.functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
    torch.testing.assert_close(einsum_attention(q, k, v), fused, atol=1e-5, rtol=1e-4)


def small_cache() -> Cache:
    gen = torch.Generator().manual_seed(3)
    scenes = draw_scenes(64)
    return Cache(torch.randn(64, 4, 8, 8, generator=gen), torch.zeros(4), torch.ones(4), scenes)


def test_recombined_pairs_tell_the_truth() -> None:
    cache = small_cache()
    left, right = next(group for group in cache.twins.values() if len(group) > 1)[:2]
    latent, scene = recombine(cache, left, right)
    assert torch.equal(latent[..., :4], cache.latents[left, ..., :4])
    assert torch.equal(latent[..., 4:], cache.latents[right, ..., 4:])
    assert [placed.concept for placed in scene.objects] == [
        cache.scenes[left].objects[0].concept,
        cache.scenes[right].objects[1].concept,
    ]


def test_stopped_and_resumed_equals_unbroken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = UNetConfig(channels=(32, 32), res_blocks=1, transformer_depth=(0, 1), context_dim=64)
    monkeypatch.setattr(denoising, "Denoiser", lambda rows: Denoiser(rows, tiny, layers=1))
    cache, budget = small_cache(), Budget(steps=4)

    unbroken = denoising.train(cache, tmp_path / "a.pt", budget, batch=2)
    denoising.train(cache, tmp_path / "b.pt", budget, batch=2, stop_at=2)
    resumed = denoising.train(cache, tmp_path / "b.pt", budget, batch=2)
    for one, other in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.skipif(not FONT.exists(), reason="fonts-noto-color-emoji is not installed")
def test_polish_changes_the_decoder_alone(autoencoder: LatentAutoencoder, tmp_path: Path) -> None:
    torch.save({"average": autoencoder.state_dict()}, tmp_path / "start.pt")
    scenes, latents = draw_scenes(2), torch.randn(2, 4, 16, 16)
    polished = polish(scenes, latents, tmp_path / "start.pt", tmp_path / "polished.pt", Budget(steps=2))
    before, after = autoencoder.state_dict(), polished.state_dict()
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_batches_depend_on_the_step_alone() -> None:
    batches = Batches(small_cache(), Vocabulary(), size=4)
    for one, other in zip(batches(7), batches(7), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(batches(7)[0], batches(8)[0])


def test_the_zero_row_stays_zero(tmp_path: Path) -> None:
    tiny = UNetConfig(channels=(32, 32), res_blocks=1, transformer_depth=(0, 1), context_dim=64)
    model = Denoiser(8, tiny, layers=1)
    nn.init.normal_(model.unet.out[2].weight)
    trainer = make_trainer(model, tmp_path / "x.pt")
    rows = torch.zeros(2, 77, dtype=torch.long)

    def loss_of(step: int) -> Tensor:
        return model(torch.randn(2, 4, 8, 8), torch.full((2,), 500), rows).square().mean()  # type: ignore[no-any-return]

    trainer.run(loss_of, Budget(steps=3))
    assert not model.text.get_input_embeddings().weight[0].any()


def test_rate_warms_up_and_ends_at_its_floor() -> None:
    rate = Rate(1.0, warmup=10, floor=0.01)
    assert rate.at(0, 0.0) == pytest.approx(0.1)
    assert rate.at(100, 0.0) == pytest.approx(1.0)
    assert rate.at(100, 1.0) == pytest.approx(0.01)
    assert isinstance(UNet(denoising.UNET), UNet)
