"""The trainer's tricks are exact: what was trained and what the exported file computes are the same function."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from modules.diffusion.unet import UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.errors import CheckpointError, SettingsError
from modules.prompts.tokenizer import Tokenizer
from modules.training import autoencoder as pixels
from modules.training import denoiser as denoising
from modules.training import export, latents, starter
from modules.training.__main__ import main
from modules.training.autoencoder import LatentAutoencoder
from modules.training.captions import Vocabulary
from modules.training.composition import Composer
from modules.training.data import Pictures, Scenes, draw_scenes
from modules.training.denoiser import Batches, Denoiser, einsum_attention
from modules.training.glyphs import coloured_glyphs, drawn_glyphs
from modules.training.linear_start import make_linear, read_latents
from modules.training.loop import Budget, Rate, Trainer
from modules.training.muon import Muon, orthogonalised
from modules.training.normalise import TrainingKernels
from modules.training.recipe import FULL, SMOKE

CPU = torch.device("cpu")
WIDE = VAEConfig(channels=(64, 64, 128, 128), res_blocks=1)
RECIPE = replace(SMOKE, names=("apple", "fox", "car"), scenes=24, picture=32, batch=4, autoencoder_batch=1)


def awake(model: LatentAutoencoder) -> LatentAutoencoder:
    """With branches that do not start at zero, and statistics of its own."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.05)
            nn.init.normal_(module.bias, std=0.1)  # type: ignore[arg-type]
    model.mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    model.square.copy_(torch.tensor([0.5, 0.6, 1.5, 2.0]) ** 2 + model.mean**2)
    return model.eval()


@pytest.fixture(scope="module")
def autoencoder() -> LatentAutoencoder:
    torch.manual_seed(0)
    model = LatentAutoencoder(WIDE)
    make_linear(model.vae)
    return awake(model)


@pytest.fixture(scope="module")
def exported(autoencoder: LatentAutoencoder) -> dict[str, Tensor]:
    vocabulary = Vocabulary()
    return export.assemble(autoencoder, Denoiser(FULL, len(vocabulary)), vocabulary.tokens)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw_scenes(RECIPE)


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(*coloured_glyphs(drawn_glyphs(RECIPE.names)), RECIPE.picture, CPU)


@torch.no_grad()
def test_the_linear_start_already_shows_colours() -> None:
    torch.manual_seed(0)
    model = LatentAutoencoder(WIDE).eval()
    colours = torch.rand(8, 3, 1, 1).mul(1.6).sub(0.8).expand(8, 3, 32, 32)
    make_linear(model.vae)
    model.follow(model.vae.encode(colours)[0], 1.0)
    read_latents(model.vae, model.mean, model.deviation)
    assert (model.decode(model.encode(colours)) - colours).abs().mean() < 0.15
    with pytest.raises(ValueError, match="at least 64"):
        make_linear(AutoencoderKL(VAEConfig(channels=(32, 64), res_blocks=1)))


@torch.no_grad()
def test_the_exported_autoencoder_computes_the_same(autoencoder: LatentAutoencoder, exported: dict[str, Tensor]) -> None:
    """eps 1.0 became 1e-6, latents were standardised and scaled: latents and picture are the same."""
    vae = AutoencoderKL(WIDE).eval()
    prefix = starter.PREFIXES["vae"]
    vae.load_state_dict({n.removeprefix(prefix): v for n, v in exported.items() if n.startswith(prefix)})
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    mean, logvar = vae.encode(x)
    torch.testing.assert_close(mean * starter.LATENT_SCALE, autoencoder.encode(x), atol=1e-3, rtol=1e-3)
    assert (logvar == -10).all()
    torch.testing.assert_close(vae.decode(mean), autoencoder.decode(autoencoder.encode(x)), atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_scaled_latents_of_the_measured_scenes_have_unit_variance(scenes: Scenes, composer: Composer) -> None:
    torch.manual_seed(2)
    model = LatentAutoencoder(RECIPE.autoencoder)
    make_linear(model.vae)
    model = awake(model)
    pixels.measure(model, scenes, composer, len(scenes))
    raw = pixels.raw_latents(model, scenes, composer, 0, len(scenes))
    state = {name: value.clone() for name, value in model.vae.state_dict().items()}
    export.fold_latents(state, model.mean, model.deviation)
    model.vae.load_state_dict(state)
    z = pixels.raw_latents(model, scenes, composer, 0, len(scenes)) * starter.LATENT_SCALE
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4), atol=0.02, rtol=0)
    assert raw.std((0, 2, 3)).sub(1).abs().max() > 0.05


@torch.no_grad()
def test_other_statistics_leave_the_decoder_as_it_is(
    scenes: Scenes, composer: Composer, autoencoder: LatentAutoencoder
) -> None:
    model = copy.deepcopy(autoencoder)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    before = model.decode(model.encode(x))
    mean = model.mean.clone()
    pixels.restandardise(model, scenes, composer)
    assert not torch.allclose(model.mean, mean, atol=0.01)
    torch.testing.assert_close(model.decode(model.encode(x)), before, atol=1e-4, rtol=1e-4)


def test_the_file_has_the_keys_of_the_networks_and_its_metadata(exported: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "starter.safetensors"
    export.write(exported, file, export.metadata(FULL, 3.0))
    model = starter.load(file)  # strict: no key too few, none too many
    networks = {"unet": model.unet, "vae": model.vae, "text": model.text}
    expected = {prefix + name for part, prefix in starter.PREFIXES.items() for name in networks[part].state_dict()}
    assert set(exported) == expected | {starter.PREFIXES["text"] + "embeddings.position_ids"}
    assert (model.size, model.steps, model.cfg_scale) == (256, 20, 3.0)
    assert model.unet.config == FULL.unet
    assert file.stat().st_size <= 48_000_000
    with pytest.raises(SettingsError, match="not finite"):
        export.write({"x": torch.tensor([1e9])}, tmp_path / "y.safetensors", {})
    assert not (tmp_path / "y.safetensors").exists()


@torch.no_grad()
def test_words_that_were_not_trained_are_zero(exported: dict[str, Tensor]) -> None:
    table = exported["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"]
    unknown, known = Tokenizer().encode("zygote"), Tokenizer().encode("banana")
    assert table.shape == (49408, 128)
    assert not table[unknown].any()
    assert table[known].any()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        starter.load(file)


@pytest.mark.parametrize("format", [torch.float32, torch.bfloat16])
def test_the_training_norms_equal_torchs(format: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward, with the sums of CPUs and with those of other devices."""
    torch.manual_seed(1)
    norm = nn.GroupNorm(32, 96, eps=1e-5)
    nn.init.normal_(norm.weight)
    x, outer = torch.randn(2, 96, 6, 6) + 1, torch.randn(2, 96, 6, 6)
    shift = torch.randn(2, 96)
    kernels, loose = TrainingKernels(), format == torch.bfloat16

    def gradients(given: nn.GroupNorm, fast: bool) -> list[Tensor]:
        leaf = x.clone().to(format if fast else torch.float32).requires_grad_()
        if fast:
            out = kernels.group_norm(leaf, given, silu=True, shift=shift)
        else:
            out = nn.functional.silu(given(leaf + shift[..., None, None]))
        out.float().backward(outer)
        return [out.float(), *(t.grad.float() for t in (leaf, given.weight, given.bias))]  # type: ignore[union-attr]

    exact = gradients(copy.deepcopy(norm), False)
    for elsewhere in (False, True):
        if elsewhere:
            monkeypatch.setattr("modules.training.normalise._sum", lambda rows: rows.sum(1, keepdim=True, dtype=torch.float32))
        for one, other in zip(gradients(copy.deepcopy(norm), True), exact, strict=True):
            assert (one - other).norm() / other.norm() < (0.02 if loose else 1e-5)


def test_the_training_layer_norm_keeps_the_number_format() -> None:
    norm, x = nn.LayerNorm(16), torch.randn(2, 5, 16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        out = TrainingKernels().layer_norm(x, norm)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), norm(x.float()), atol=0.02, rtol=0.02)


def test_einsum_attention_equals_the_fused_one() -> None:
    q, k, v = torch.randn(2, 16, 8, 12), torch.randn(2, 77, 8, 12), torch.randn(2, 77, 8, 12)
    fused = nn.functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
    torch.testing.assert_close(einsum_attention(q, k, v), fused, atol=1e-5, rtol=1e-4)


def test_orthogonalised_matrices_are_nearly_so_and_a_batch_equals_one_by_one() -> None:
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))
    together = orthogonalised(matrices)
    values = torch.linalg.svdvals(together)
    assert 0.6 < values.min() <= values.max() < 1.3
    torch.testing.assert_close(together[1:2], orthogonalised(matrices[1:2]), atol=0.02, rtol=0)
    torch.testing.assert_close(orthogonalised(matrices.mT), together.mT, atol=0.02, rtol=0)


def test_adam_of_lists_equals_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    one, other = Muon([], [ours], lr=0.1), torch.optim.Adam([theirs], lr=0.1, betas=(0.9, 0.99))
    for _ in range(5):
        gradient = torch.randn(5)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()
    torch.testing.assert_close(ours, theirs)


def test_the_rate_warms_up_and_ends_at_its_floor() -> None:
    rate = Rate(1.0, warmup=10, floor=0.01)
    assert rate.at(0, 0.0) == pytest.approx(0.1)
    assert rate.at(100, 0.0) == pytest.approx(1.0)
    assert rate.at(100, 1.0) == pytest.approx(0.01)
    assert Budget(seconds=10).used(3, 5.0) == 0.5
    assert Budget(steps=4).used(3, 99.0) == 0.75


def test_a_loss_that_is_no_number_costs_few_steps(tmp_path: Path) -> None:
    """Back to the average of before, at half the rate, and on."""
    layer = nn.Linear(2, 1, bias=False)
    trainer = Trainer(layer, torch.optim.SGD(layer.parameters(), 0.1), Rate(0.1, warmup=1), tmp_path / "x.pt")

    def loss_of(step: int, used: float) -> Tensor:
        return layer(torch.ones(1, 2)).square().mean() * (math.nan if step == 5 else 1.0)  # type: ignore[no-any-return]

    trainer.run(loss_of, Budget(steps=9), every=3)
    assert layer.weight.isfinite().all()
    assert trainer.average["weight"].isfinite().all()
    assert trainer.caution == 0.5


def test_scenes_are_the_same_for_any_number_of_workers_and_survive_their_file(scenes: Scenes, tmp_path: Path) -> None:
    again = draw_scenes(RECIPE, workers=2)
    scenes.save(tmp_path / "scenes.npz")
    for other in (again, Scenes.load(tmp_path / "scenes.npz")):
        for name in ("slots", "grounds", "rows"):
            assert np.array_equal(getattr(scenes, name), getattr(other, name))
    assert scenes.rows.shape == (24, RECIPE.captions, 77)


def test_batches_depend_on_the_step_alone(scenes: Scenes, composer: Composer) -> None:
    z = torch.randn(24, 4, 4, 4)
    batches = Batches(scenes, z, Vocabulary(RECIPE.names), 4, 2, CPU)
    for one, other in zip(batches.at(7, 0.5), batches.at(7, 0.5), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(batches.at(7, 0.5)[0], batches.at(8, 0.5)[0])
    first, second = Pictures(scenes, composer, 2, 1), Pictures(scenes, composer, 2, 1)
    ahead = first.at(20)
    assert torch.equal(first.at(3), second.at(3))
    assert torch.equal(second.at(20), ahead)


def test_names_are_learned_from_things_alone_at_first(scenes: Scenes) -> None:
    z = torch.arange(24.0).view(24, 1, 1, 1).expand(24, 4, 4, 4)
    batches = Batches(scenes, z, Vocabulary(RECIPE.names), 8, 2, CPU)
    alone = set(scenes.alone.tolist())
    assert alone
    assert all(set(batches.at(step, 0.0)[0][:4, 0, 0, 0].tolist()) <= alone for step in range(20))
    assert any(not set(batches.at(step, 1.0)[0][:4, 0, 0, 0].tolist()) <= alone for step in range(20))


def test_a_stopped_and_resumed_denoiser_equals_an_unbroken_one(scenes: Scenes, tmp_path: Path) -> None:
    z, budget = torch.randn(24, 4, 8, 8), Budget(steps=4)
    unbroken = denoising.train(RECIPE, scenes, z, tmp_path / "a.pt", budget, CPU)
    denoising.train(RECIPE, scenes, z, tmp_path / "b.pt", budget, CPU, stop_at=2)
    resumed = denoising.train(RECIPE, scenes, z, tmp_path / "b.pt", budget, CPU)
    for one, other in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert not resumed.text.embeddings.token_embedding.weight[0].any()
    start = denoising.make(RECIPE, len(Vocabulary(RECIPE.names)), CPU)
    assert sum(not torch.equal(a, b) for a, b in zip(unbroken.parameters(), start.parameters(), strict=True)) > 50


def test_a_stopped_and_resumed_autoencoder_equals_an_unbroken_one(scenes: Scenes, composer: Composer, tmp_path: Path) -> None:
    budget = Budget(steps=4)
    unbroken = pixels.train(RECIPE, scenes, composer, tmp_path / "a.pt", budget)
    pixels.train(RECIPE, scenes, composer, tmp_path / "b.pt", budget, stop_at=2)
    resumed = pixels.train(RECIPE, scenes, composer, tmp_path / "b.pt", budget)
    for (name, one), other in zip(unbroken.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4, msg=name)


def test_a_cache_goes_on_where_it_was(scenes: Scenes, composer: Composer, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = LatentAutoencoder(RECIPE.autoencoder).eval()
    whole = latents.encode_all(model, scenes, composer, tmp_path / "a.pt")
    torch.save(whole[:10], tmp_path / "b.pt")
    with pytest.raises(SettingsError, match="10 latents of 24 scenes"):
        latents.load(tmp_path / "b.pt", scenes)
    latents.encode_all(model, scenes, composer, tmp_path / "b.pt")
    torch.testing.assert_close(latents.load(tmp_path / "b.pt", scenes), whole, atol=0.02, rtol=0.02)


def test_polish_changes_the_decoder_alone(scenes: Scenes, composer: Composer, tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = LatentAutoencoder(RECIPE.autoencoder)
    torch.save({"average": model.state_dict()}, tmp_path / "start.pt")
    z = torch.randn(24, 4, 4, 4).half()
    polished = pixels.polish(RECIPE, scenes, composer, z, tmp_path / "start.pt", tmp_path / "p.pt", Budget(steps=2))
    before, after = model.state_dict(), polished.state_dict()
    changed = {name.split(".")[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv"}


def test_the_whole_trainer_at_its_smallest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command makes a file that loads and paints; a second run passes over what is finished."""
    file = tmp_path / "models" / "tiny.safetensors"
    arguments = ["all", "--smoke", "--device", "cpu", "--work", str(tmp_path / "work"), "--model", str(file)]
    assert main(arguments) == 0
    model = starter.load(file)
    assert model.motifs == list(SMOKE.names)
    assert model.unet.config == UNetConfig(channels=(32, 32), res_blocks=1, transformer_depth=(0, 1), context_dim=64)
    picture = model.draw(["a fox", ""], [1, 2], 3.0, 2)
    assert picture.shape == (2, 3, 64, 64)
    first = load_file(file)
    assert (tmp_path / "work" / "scenes.png").exists()
    assert main(arguments) == 0
    again = load_file(file)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert "3 steps" in capsys.readouterr().out


def test_a_stage_without_the_one_before_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["denoiser", "--smoke", "--device", "cpu", "--work", str(tmp_path)]) == 1
    assert "run the stage render first" in capsys.readouterr().err
