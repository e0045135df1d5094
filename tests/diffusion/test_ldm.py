"""The original latent-diffusion checkpoints against diffusers' networks and pipelines, from the same random files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LDMSuperResolutionPipeline, LDMTextToImagePipeline
from diffusers.pipelines.deprecated.latent_diffusion_uncond.pipeline_latent_diffusion_uncond import LDMPipeline
from PIL import Image
from torch import Tensor

from modules.checkpoints import keys
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.noise import Noise
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import sigmas_for
from modules.diffusion.tiles import Tiling
from modules.diffusion.unet_denoiser import UNetBatch, UNetDenoiser
from modules.diffusion.vae import AutoencoderKL
from modules.errors import CheckpointError, RequestError
from modules.pipelines.generate import generate
from modules.pipelines.maps import voc_palette
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.prompts.labels import imagenet
from modules.request import Img2Img, Txt2Img
from tests.diffusion import ldm_reference, reference
from tests.engine.conftest import Bench
from tests.ldm import BERT, BETAS, MEASURED, UNETS, VAES, VQ, ldm_state
from tests.tiny import randomised, write

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # diffusers' own

PROMPT = "a virus monster is playing guitar, oil on canvas"
STEPS = 6
GIVEN = "0" * 64
"""What stands for an uploaded picture in a request."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ldm")
    for name in UNETS:
        write(folder / f"{name}.safetensors", ldm_state(name))
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Several spend their time waiting for each other in networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def manager(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelManager:
    hashes = tmp_path_factory.mktemp("hashes") / "hashes.json"
    with torch.inference_mode():
        return ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, hashes, keep=len(UNETS))


def requested(name: str, kind: type[Txt2Img] = Txt2Img, **fields: Any) -> Any:
    basics: dict[str, Any] = {
        "checkpoint": name, "seed": 5, "steps": STEPS, "width": 64, "height": 64, "sampler": "Euler", "schedule": "Uniform",
        "cfg_scale": 1.0, "prompt": "",
    }  # fmt: skip
    return kind(**{**basics, **fields})


def painted(manager: ModelManager, request: Txt2Img, **pictures: Image.Image) -> Any:
    return run_reference(generate(stages_of(request), pictures), manager)


def pixels(manager: ModelManager, request: Txt2Img, **pictures: Image.Image) -> np.ndarray:
    return painted(manager, request, **pictures).pixels.numpy().astype(int)


def scheduler(name: str) -> Any:
    first, last = BETAS.get(name, (0.0015, 0.0195))
    return ldm_reference.VarianceKeepingEuler(beta_start=first, beta_end=last, beta_schedule="scaled_linear", steps_offset=1)


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert theirs.std() > 0.08, "a grey picture would prove nothing"
    theirs = (theirs * 255).round().astype(int)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1


def drawn(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- networks


def their_unet(name: str) -> Any:
    config = UNETS[name]
    if config.self_only:
        return ldm_reference.unet(config, ldm_state(name))
    return reference.unet(replace(config, heads=config.heads_at(config.channels[-1]), head_width=0), ldm_state(name))


@pytest.mark.parametrize("name", UNETS)
def test_the_networks_answer_as_diffusers_do(manager: ModelManager, name: str) -> None:
    """U-Net and autoencoder of each kind; quantised where there is a codebook; at a size that is no power of two."""
    state, config, model = ldm_state(name), UNETS[name], manager.load(name)
    assert model.family.name == name
    x, timesteps = drawn(2, config.in_channels, 12, 20), torch.tensor([981.0, 3.0])
    context = drawn(2, 5, config.context_dim)
    words = () if config.self_only else (context,)
    theirs = their_unet(name)(x, timesteps, *words).sample
    assert reference.error(model.denoiser.unet(x, timesteps, context), theirs) < 1e-5
    assert float(theirs.std()) > 0.1, "a comparison of zeros would prove nothing"

    vae, z = VAES.get(name, VQ), drawn(1, model.latent.channels, 12, 20)
    scale = {"ldm-text": 0.18215, "ldm-unconditional-kl": MEASURED}.get(name, 1.0)
    assert model.latent.format.scale == pytest.approx(scale)
    image = drawn(1, 3, 12 * model.latent.factor, 20 * model.latent.factor)
    if vae.codebook:
        network = ldm_reference.vq(vae, state)
        encoded = network.encode(image).latents
    else:
        network = reference.vae(vae, state, scale=scale)
        encoded = network.encode(image).latent_dist.mode() * scale
    assert reference.error(model.latent.decode(z), network.decode(z / scale).sample) < 1e-5
    assert reference.error(model.latent.encode(image), encoded) < 1e-5
    tiled = model.latent.tiled(Tiling(side=16))
    assert reference.error(tiled.decode(z), model.latent.decode(z)) < 1e-5
    assert reference.error(tiled.encode(image), encoded) < 1e-5


def test_a_text_is_what_diffusers_and_transformers_make_of_it(manager: ModelManager) -> None:
    """Ids by transformers' BERT tokenizer, the context by diffusers' transformer; one more than 75 tokens opens a window."""
    prompts, theirs = manager.load("ldm-text").prompts, ldm_reference.bert(BERT, ldm_state("ldm-text"))
    for text in (PROMPT, "", "Crème brûlée, 3.5% — it's 東京!", "antidisestablishmentarianism xyzzyx"):
        ids = ldm_reference.tokenizer()(
            text, padding="max_length", max_length=77, truncation=True, return_tensors="pt"
        ).input_ids
        texts = prompts.tokenise([text], requested("ldm-text"))
        (piece,) = (each.bare for each in texts.windows[text])
        assert piece in texts.pieces
        assert list(piece.tokens) == ids[0].tolist()
        (window,) = prompts.encode([piece], 1, {})
        assert reference.error(window.context[None], theirs(ids)[0]) < 1e-5
    long = prompts.tokenise([" ".join(["cat"] * 76)], requested("ldm-text"))
    encoded = dict(zip(long.pieces, prompts.encode(long.pieces, 1, {}), strict=True))
    assert long.conditionings([[next(iter(long.windows))]], [next(iter(long.windows))], encoded)[0][0].context.shape == (
        154,
        32,
    )


# ---- pictures


def test_a_text_becomes_the_picture_of_diffusers_pipeline(manager: ModelManager) -> None:
    name = "ldm-text"
    state = ldm_state(name)
    pipeline = LDMTextToImagePipeline(
        vqvae=reference.vae(VAES[name], state),
        bert=ldm_reference.bert(BERT, state),
        tokenizer=ldm_reference.tokenizer(),
        unet=reference.unet(UNETS[name], state),
        scheduler=(steps := scheduler(name)),
    )
    pipeline.set_progress_bar_config(disable=True)
    steps.set_timesteps(STEPS)
    latents = Noise(5, (4, 8, 8))()[None] * steps.init_noise_sigma
    how = {"height": 64, "width": 64, "num_inference_steps": STEPS, "guidance_scale": 5.0, "output_type": "np"}
    theirs = pipeline([PROMPT], latents=latents, **how).images[0]
    close(pixels(manager, requested(name, prompt=PROMPT, cfg_scale=5.0)), theirs)
    other = pixels(manager, requested(name, prompt="a (virus:1.5) monster", cfg_scale=5.0))
    assert np.abs(other - theirs * 255).max() > 2, "words and their weights make a difference"


@pytest.mark.parametrize("name", ["ldm-unconditional", "ldm-unconditional-kl"])
def test_nothing_becomes_the_picture_of_diffusers_pipeline(manager: ModelManager, name: str) -> None:
    state, kl = ldm_state(name), name.endswith("kl")
    first_stage = reference.vae(VAES[name], state, MEASURED) if kl else ldm_reference.vq(VQ, state)
    pipeline = LDMPipeline(first_stage, ldm_reference.unet(UNETS[name], state), scheduler(name))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(generator=torch.Generator().manual_seed(5), num_inference_steps=STEPS, output_type="np").images[0]
    side = 16 * (8 if kl else 4)
    close(pixels(manager, requested(name, width=side, height=side)), theirs)


def test_a_picture_is_enlarged_as_by_diffusers_pipeline(manager: ModelManager) -> None:
    name = "ldm-super-resolution"
    state = ldm_state(name)
    pipeline = LDMSuperResolutionPipeline(ldm_reference.vq(VQ, state), ldm_reference.unet(UNETS[name], state), scheduler(name))
    pipeline.set_progress_bar_config(disable=True)
    small = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    theirs = pipeline(small, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(5), output_type="np").images[0]
    request = requested(name, Img2Img, source=GIVEN, width=128, height=128)
    close(pixels(manager, request, init=small), theirs)
    with pytest.raises(RequestError, match="enlarges a given picture and cannot paint from words alone"):
        painted(manager, requested(name))


def twin(
    name: str,
    contexts: list[Tensor],
    channels: Tensor | None = None,
    scale: float = 1.0,
    size: int = 16,
    start: Tensor | None = None,
) -> np.ndarray:
    """Euler's steps by diffusers' networks, guided from the second context where there is one; without any pipeline.

    `start` is a latent that the noise is added to.
    """
    unet, vae = their_unet(name), ldm_reference.vq(VAES.get(name, VQ), ldm_state(name))
    steps = scheduler(name)
    steps.set_timesteps(STEPS)
    y = Noise(5, (UNETS[name].out_channels, size, size))()[None] * steps.init_noise_sigma
    if start is not None:
        y = y + start / (steps.sigmas[0] ** 2 + 1) ** 0.5
    for timestep in steps.timesteps:
        x = y if channels is None else torch.cat([y, channels[None]], dim=1)
        outputs = [unet(x, timestep, *([context] if context.numel() else [])).sample for context in contexts]
        output = outputs[-1] + scale * (outputs[0] - outputs[-1]) if len(outputs) > 1 else outputs[0]
        y = steps.step(output, timestep, y).prev_sample
    return ((vae.decode(y).sample[0] / 2 + 0.5).clamp(0, 1)).movedim(0, -1).numpy()


def test_a_class_is_named_in_the_prompt(manager: ModelManager) -> None:
    table = ldm_state("ldm-class")["cond_stage_model.embedding.weight"]
    theirs = twin("ldm-class", [table[207][None, None], table[1000][None, None]], scale=3.0)
    for prompt in ("golden retriever", "207", " Golden_Retriever "):
        close(pixels(manager, requested("ldm-class", prompt=prompt, cfg_scale=3.0)), theirs)
    eight = twin("ldm-class-f8", [ldm_state("ldm-class-f8")["cond_stage_model.embedding.weight"][1][None, None]], size=8)
    goldfish = requested("ldm-class-f8", prompt="goldfish", cfg_scale=4.0)
    close(pixels(manager, goldfish), eight)  # trained without "no class": the negative prompt is left empty, and guides nowhere
    for name, prompt, said in (
        ("ldm-class", "golden retreiver", "did you mean 'golden retriever'"),
        ("ldm-class", "1000", "there is no class 1000; this checkpoint knows 0 to 999"),
        ("ldm-class", "crane", "is the name of the classes 134 and 517; write the number"),
        ("ldm-class-f8", "", "prompt: it is empty, and this checkpoint paints classes alone"),
    ):
        with pytest.raises(RequestError, match=said):
            painted(manager, requested(name, prompt=prompt))
    assert len(imagenet()) == 1000


def test_boxes_are_listed_in_the_prompt(manager: ModelManager, folder: Path) -> None:
    """By hand: class, first and last of 90 x 90 points; 30 objects, those that are not there 8191; the whole picture."""
    tokens = [7, 22 * 90 + 9, 89 * 90 + 53, 3, 0, 8099, *[8191] * 84, 0, 8099]
    config = manager.load("ldm-layout").prompts.network.config  # type: ignore[attr-defined]
    context = ldm_reference.bert(config, ldm_state("ldm-layout"))(torch.tensor([tokens]))[0]
    request = requested("ldm-layout", prompt="7 0.1 0.25 0.5 0.75; 3 0 0 100% 100%")
    close(pixels(manager, request), twin("ldm-layout", [context]))
    for prompt, said in (
        ("7 0.1 0.5", "is no box; write a class, and its place as x y width height"),
        ("7 0.5 0 0.7 0.5", "is not inside the picture"),
        (
            "person 0 0 1 1",
            "is no class of this checkpoint; write a number from 0 to 8189, or put a list of its classes beside it",
        ),
        ("1 0 0 1 1\n" * 31, "it lists 31 boxes, at most 30"),
    ):
        with pytest.raises(RequestError, match=said):
            painted(manager, requested("ldm-layout", prompt=prompt))


def shown_channels(manager: ModelManager, request: Img2Img, monkeypatch: pytest.MonkeyPatch, **pictures: Image.Image) -> Tensor:
    """The concat conditioning that the network gets."""
    seen: list[Tensor] = []
    denoise = UNetDenoiser.denoise

    def noted(self: UNetDenoiser, batch: UNetBatch, noise: Any) -> Any:
        assert batch.channels is not None
        seen.append(batch.channels[0])
        return denoise(self, batch, noise)

    monkeypatch.setattr(UNetDenoiser, "denoise", noted)
    painted(manager, request, **pictures)
    monkeypatch.undo()
    return seen[0]


def test_what_is_masked_is_black_and_the_mask_one_channel_more(manager: ModelManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ldm's `scripts/inpaint.py` shows it to the network; what is not masked stays as it was, byte by byte."""
    given = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[16:40, 8:48] = 255
    fields = {
        "source": GIVEN,
        "mask": "1" * 64,
        "mask_blur_x": 0,
        "mask_blur_y": 0,
        "denoising_strength": 1.0,
        "inpaint_area": "Whole picture",
    }
    request = requested("ldm-inpaint", Img2Img, **fields)
    pictures = {"init": Image.fromarray(given), "mask": Image.fromarray(mask)}
    channels = shown_channels(manager, request, monkeypatch, **pictures)
    holed = np.where(mask[..., None] > 0, 0, given)
    seen = torch.from_numpy(holed).movedim(-1, 0)[None].float() / 127.5 - 1
    latent = ldm_reference.vq(VAES["ldm-inpaint"], ldm_state("ldm-inpaint")).encode(seen).latents[0]
    small = torch.from_numpy(mask)[::4, ::4][None].float() / 127.5 - 1
    torch.testing.assert_close(channels, torch.cat([latent, small]), atol=1e-4, rtol=1e-4)
    result = pixels(manager, request, **pictures)
    assert np.array_equal(result[mask == 0], given[mask == 0])
    assert np.abs(result[mask > 0] - given[mask > 0]).max() > 20

    everything = {"init": Image.fromarray(given), "mask": Image.new("L", (64, 64), 255)}
    vae = ldm_reference.vq(VAES["ldm-inpaint"], ldm_state("ldm-inpaint"))
    shown = torch.cat([vae.encode(torch.full((1, 3, 64, 64), -1.0)).latents[0], torch.ones(1, 16, 16)])
    begun = vae.encode(torch.from_numpy(given).movedim(-1, 0)[None].float() / 127.5 - 1).latents
    close(pixels(manager, request, **everything), twin("ldm-inpaint", [torch.empty(0)], shown, start=begun))


def test_a_map_of_classes_is_painted_along(manager: ModelManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey values are classes, and so are the colours of Pascal VOC's palette; any other colour is refused."""
    numbers = np.random.default_rng(2).integers(0, 182, (64, 64))
    grey = Image.fromarray(numbers.astype(np.uint8)).convert("RGB")
    request = requested("ldm-map", Img2Img, source=GIVEN)
    channels = shown_channels(manager, request, monkeypatch, init=grey)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(numbers), 182).movedim(-1, 0)[None].float()
    for _ in range(2):
        one_hot = torch.nn.functional.interpolate(one_hot, scale_factor=0.5, mode="bilinear")
    weight = ldm_state("ldm-map")["cond_stage_model.channel_mapper.weight"]
    theirs = torch.nn.functional.conv2d(one_hot, weight)[0]
    torch.testing.assert_close(channels, theirs, atol=1e-5, rtol=1e-5)
    close(pixels(manager, request, init=grey), twin("ldm-map", [torch.empty(0)], theirs))

    coloured = Image.fromarray(voc_palette()[numbers])
    assert tuple(voc_palette()[15]) == (192, 128, 128), "person, in Pascal VOC"
    assert np.array_equal(pixels(manager, request, init=coloured), pixels(manager, request, init=grey))
    large = coloured.resize((256, 256), Image.Resampling.NEAREST)
    assert np.array_equal(pixels(manager, request, init=large), pixels(manager, request, init=grey)), "classes have no means"
    for colour, said in (
        ((200, 200, 200), "it says 200, where this checkpoint knows 0 to 181"),
        ((255, 90, 30), "#ff5a1e stands for"),
    ):
        with pytest.raises(RequestError, match=said):
            painted(manager, request, init=Image.new("RGB", (64, 64), colour))
    with pytest.raises(RequestError, match="paints along a given map of classes and cannot paint from words alone"):
        painted(manager, requested("ldm-map"))


def test_a_prompt_that_nothing_reads_is_noted(manager: ModelManager) -> None:
    assert "paints without words" in painted(manager, requested("ldm-unconditional", prompt="a cat")).facts["notes"]
    assert "notes" not in painted(manager, requested("ldm-unconditional")).facts


# ---- files


def test_averaged_weights_are_taken_and_the_noise_of_training_is_the_file_s(folder: Path, tmp_path: Path) -> None:
    """ldm's scripts sample with the averaged weights; their names have no dots."""
    name = "ldm-unconditional"
    state, other = ldm_state(name), ldm_state(name, seed=8)
    averaged = {
        f"model_ema.diffusion_model{own.removeprefix(keys.UNET).replace('.', '')}": each
        for own, each in other.items()
        if own.startswith(keys.UNET)
    }
    betas = torch.linspace(0.001**0.5, 0.02**0.5, 1000).square()
    write(tmp_path / "averaged.safetensors", {**state, **averaged, "betas": betas, "model_ema.decay": torch.tensor(0.9999)})
    own = ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
    model: ModelHandle = own.load("averaged")
    weight = model.denoiser.unet.input_blocks[0][0].weight  # type: ignore[attr-defined]
    assert torch.equal(weight, other[f"{keys.UNET}input_blocks.0.0.weight"])
    first, last = model.noise.trained.sigmas[0], model.noise.trained.sigmas[-1]
    expected = torch.cumprod(1 - betas.double(), 0)
    assert first == pytest.approx(float(((1 - expected[0]) / expected[0]).sqrt()), rel=1e-4)
    assert last == pytest.approx(float(((1 - expected[-1]) / expected[-1]).sqrt()), rel=1e-4)
    assert sigmas_for("Uniform", SAMPLERS["Euler"], model.noise.trained, 4)[0] == pytest.approx(last)


def test_an_autoencoder_of_another_kind_does_not_fit(tmp_path: Path) -> None:
    """One with a codebook goes with a checkpoint that has one; of equal shape without, it would decode other latents."""
    (tmp_path / "vae").mkdir()
    write(tmp_path / "ldm-class.safetensors", ldm_state("ldm-class"))
    other = {own.removeprefix(keys.VAE): each for own, each in ldm_state("ldm-class", 4).items() if own.startswith(keys.VAE)}
    write(tmp_path / "vae" / "vq.safetensors", other)
    plain = randomised(AutoencoderKL(replace(VQ, codebook=0)), 4)
    write(tmp_path / "vae" / "kl.safetensors", dict(plain.state_dict()))
    own = ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json")
    z = drawn(1, 3, 8, 8)
    theirs = ldm_reference.vq(VQ, ldm_state("ldm-class", 4)).decode(z).sample
    assert reference.error(own.load("ldm-class", "vq").latent.decode(z), theirs) < 1e-5
    with pytest.raises(CheckpointError, match=r"it has none \(KL\), and the autoencoder of this checkpoint has a codebook"):
        own.load("ldm-class", "kl")


def test_pictures_of_several_users_share_forwards(manager: ModelManager) -> None:
    bench = Bench(manager)
    requests = {
        "a": {"checkpoint": "ldm-class", "prompt": "goldfish", "cfg_scale": 2.0},
        "b": {"checkpoint": "ldm-class", "prompt": "[tench:207:2]", "cfg_scale": 2.0, "seed": 2},
        "c": {"checkpoint": "ldm-class", "prompt": "5 AND 7", "negative_prompt": "9", "cfg_scale": 2.0, "seed": 3},
    }
    basics = {"sampler": "Euler", "schedule": "Uniform", "steps": 4, "width": 64, "height": 64}
    for user, fields in requests.items():
        bench.submit(user, user=user, **{**basics, **fields})
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    assert bench.engine.runner.rows > 2 * bench.engine.runner.forwards
    for user, fields in requests.items():
        assert np.abs(bench.pixels(user) - bench.alone(**{**basics, **fields})).max() <= 1
