"""Stable Diffusion XL at its published width, 3.5 billion random weights, against diffusers and transformers in fp32.

Ten minutes, 14 GB of disk and most of it in memory while it runs, so only `pytest -m full_width` runs it.  The weights lie in
one file that both sides map into memory, so that none has a copy of its own: what memory is short of is read again.  Theirs
come first, their answers are kept, their networks go, then come ours.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
from torch import Tensor

from modules.checkpoints import keys
from modules.checkpoints.files import scan
from modules.checkpoints.header import header_of, open_model
from modules.checkpoints.manager import ModelManager
from modules.checkpoints.weights import Weights
from modules.diffusion.attention import sdpa
from modules.diffusion.clip import TextConfig
from modules.diffusion.conditioning import number_features
from modules.diffusion.noise import Noise
from modules.diffusion.text import TextEncoder
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.prompts.chunks import chunk
from modules.request import Txt2Img
from tests.diffusion import reference
from tests.sdxl import OPEN_CLIP, linear_names, open_clip_names
from tests.tiny import drawn

pytestmark = [
    pytest.mark.full_width,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # diffusers' own, about numpy 2
]

CLOSE = 1e-4
"""Relative error in fp32; what is left is the order of additions."""
UNET = UNetConfig(
    channels=(320, 640, 1280),
    transformer_depth=(0, 2, 10),
    middle_depth=10,
    context_dim=2048,
    heads=0,
    head_width=64,
    vector_width=2816,
)
VAE = VAEConfig()
TEXT = TextConfig(layer=2, normalised=False)
TEXT_2 = TextConfig(
    width=1280, layers=32, heads=20, hidden=5120, projection=1280, activation="gelu", layer=2, normalised=False, pad=0
)
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STEPS, SEED, SIDE = 4, 5, 64
WORDS = {"prompt": "a red apple on a table, oil painting", "negative_prompt": "blurry, text"}
TEXTS = ["", "a photo of an astronaut riding a horse on mars, 4k"]
ROOM = 20 * 2**30
"""Bytes of disk without which it is skipped."""


@dataclass
class Answers:
    """Of either side: what the networks say, and a picture (H, W, 3)."""

    denoiser: Tensor
    contexts: Tensor
    pooled: Tensor
    decoded: Tensor
    encoded: Tensor
    picture: np.ndarray


@pytest.fixture(scope="module")
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint, written tensor by tensor."""
    if "full_width" not in request.config.getoption("markexpr"):
        pytest.skip("SDXL's full width takes ten minutes and 14 GB; run it with -m full_width")
    folder = tmp_path_factory.mktemp("sdxl-full-width")
    if shutil.disk_usage(folder).free < ROOM:
        pytest.skip(f"SDXL's full width takes 14 GB of disk; {folder} has not {ROOM / 2**30:.0f} GB free")
    path = folder / "xl.safetensors"
    try:
        write(path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def write(path: Path) -> None:
    """Random weights of the published layout, in fp32, a tensor in memory at a time."""
    with torch.device("meta"):
        unet, vae, text, text_2 = UNet(UNET), AutoencoderKL(VAE), TextEncoder(TEXT).networks, TextEncoder(TEXT_2).networks
    prefixed = {keys.UNET + name: linear_names(name, each) for name, each in unet.state_dict().items()}
    prefixed |= {keys.VAE + name: each for name, each in vae.state_dict().items()}
    first = "conditioner.embedders.0.transformer.text_model."
    prefixed |= {first + name: each for name, each in text.state_dict().items()}
    prefixed |= {OPEN_CLIP + name: each for name, each in open_clip_names(text_2.state_dict()).items()}
    header, end = {}, 0
    for name, each in prefixed.items():
        header[name] = {"dtype": "F32", "shape": list(each.shape), "data_offsets": [end, end + 4 * each.numel()]}
        end += 4 * each.numel()
    text_of_header = json.dumps(header, separators=(",", ":")).encode()
    text_of_header += b" " * (-len(text_of_header) % 8)
    generator = torch.Generator().manual_seed(11)
    with path.open("wb") as out:
        out.write(len(text_of_header).to_bytes(8, "little") + text_of_header)
        for name, each in prefixed.items():
            drawn(name, each.shape, generator).contiguous().numpy().tofile(out)


@pytest.fixture(scope="module")
def theirs(file: Path) -> Answers:
    """What diffusers and transformers say; nothing of their networks is left behind."""
    with torch.inference_mode(), open_model(file) as opened:
        header = header_of(opened, file)
        weights = Weights(opened, header)
        state = {name: weights[name] for name in header.tensors}
        answers = _theirs(state)
        del state, weights
    gc.collect()
    return answers


@pytest.fixture(scope="module")
def ours(file: Path, theirs: Answers, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Of the manager, when theirs are gone."""
    with torch.inference_mode():
        hashes = tmp_path_factory.mktemp("hashes") / "hashes.json"
        return _ours(ModelManager([file.parent], torch.device("cpu"), torch.float32, sdpa, hashes))


def _inputs() -> tuple[Tensor, Tensor, Tensor, Tensor, list[float], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    sizes = [512.0, 384.0, 0.0, 16.0, 64.0, 96.0]
    pooled = random(2, 1280)
    return (
        random(2, 4, 8, 6),
        torch.tensor([981.0, 3.0]),
        random(2, 77, 2048),
        pooled,
        sizes,
        random(1, 4, 8, 6),
        random(1, 3, 64, 48),
    )


def _theirs(state: Mapping[str, Tensor]) -> Answers:
    x, timesteps, context, pooled, sizes, z, image = _inputs()
    unet, vae = reference.unet(UNET, state), reference.vae(VAE, state, scale=0.13025)
    text, text_2 = reference.text(TEXT, state), reference.open_clip(TEXT_2, state, OPEN_CLIP)
    tokenizer, tokenizer_2 = reference.tokenizer(), reference.tokenizer(pad="!")
    told = {"text_embeds": pooled, "time_ids": torch.tensor([sizes, sizes])}
    hidden, answer = [], None
    for encoder, words in ((text, tokenizer), (text_2, tokenizer_2)):
        answer = encoder(words(TEXTS, padding="max_length", return_tensors="pt").input_ids, output_hidden_states=True)
        hidden.append(answer.hidden_states[-2])
    assert answer is not None
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text,
        text_encoder_2=text_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        **WORDS,
        guidance_scale=6.0,
        num_inference_steps=STEPS,
        width=SIDE,
        height=SIDE,
        latents=Noise(SEED, (4, SIDE // 8, SIDE // 8))()[None],
        output_type="np",
    ).images[0]
    return Answers(
        unet(x, timesteps, context, added_cond_kwargs=told).sample.clone(),
        torch.cat(hidden, dim=-1),
        answer.text_embeds.clone(),
        vae.decode(z).sample.clone(),
        vae.encode(image.clamp(-1, 1)).latent_dist.mean.clone(),
        (picture * 255).round().astype(int),
    )


def _ours(manager: ModelManager) -> Answers:
    x, timesteps, context, pooled, sizes, z, image = _inputs()
    model: Any = manager.load("xl")
    numbers = number_features(sizes, torch.device("cpu"))
    vector = torch.cat([pooled, numbers.expand(2, -1)], dim=1)
    encoders = model.prompts.encoders
    windows = encoders.encode_chunks([chunk(each, encoders.tokenizer).windows[0] for each in TEXTS])
    request = Txt2Img(
        **WORDS,
        cfg_scale=6.0,
        seed=SEED,
        steps=STEPS,
        width=SIDE,
        height=SIDE,
        sampler="Euler",
        schedule="Uniform",
        checkpoint="xl",
    )
    return Answers(
        model.denoiser.unet(x, timesteps, context, None, vector),
        torch.stack([window.context for window in windows]),
        torch.stack([window.pooled for window in windows]),
        model.latent.vae.decode(z),
        model.latent.vae.encode(image.clamp(-1, 1))[0],
        run_reference(generate(stages_of(request)), manager).pixels.numpy().astype(int),
    )


def test_it_is_known_and_whole(file: Path) -> None:
    info = scan([file.parent])[0]
    assert (info.family, info.problem) == ("sdxl", "")


@pytest.mark.parametrize("part", ["denoiser", "contexts", "pooled", "decoded", "encoded"])
def test_the_networks_answer_as_theirs(part: str, ours: Answers, theirs: Answers) -> None:
    expected = getattr(theirs, part)
    assert reference.error(getattr(ours, part), expected) < CLOSE
    assert float(expected.std()) > 0.1, "a comparison of zeros would prove nothing"


def test_a_small_picture_is_theirs(ours: Answers, theirs: Answers) -> None:
    assert ours.picture.shape == theirs.picture.shape == (SIDE, SIDE, 3)
    assert np.abs(ours.picture - theirs.picture).max() <= 1
    assert theirs.picture.std() > 20, "a grey picture would prove nothing"
