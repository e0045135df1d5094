"""Each family on a narrow file of its layout with random weights, beside diffusers and transformers on the same weights.

A line is a family: what its file is detected as, whether every tensor had a place, the relative errors of denoiser, text
encoders and autoencoder, and the largest difference of a whole picture of ten steps, in 1/255 (the figure).  All in float32 on
the CPU; a minute.  `markdown()` is the table of modules/checkpoints/README.md.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    DDPMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from torch import Tensor

from modules.checkpoints import keys
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.diffusion.conditioning import number_features
from modules.diffusion.noise import Noise
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import VAEConfig
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.prompts.chunks import chunk
from modules.request import Img2Img, Txt2Img
from tests import sd2, sdxl, tiny, x4
from tests.bench import Figure
from tests.diffusion import reference

State = dict[str, Tensor]

STEPS, SEED, SCALE, SIDE = 10, 5, 6.0, 64
WORDS = {"prompt": "a red apple on a table", "negative_prompt": "blurry"}
SD_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
X4_BETAS = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"}
SD1_UNET = UNetConfig(channels=(32, 64, 96), transformer_depth=(1, 1, 0), context_dim=128)
SD1_VAE = VAEConfig(channels=(64, 64, 64, 96))  # two channels to a group: of one, a grey picture's have no variance
SD1_TEXT = replace(tiny.TINY_TEXT, width=128, layers=3, heads=2, hidden=256)
SSD_1B = replace(sdxl.UNET, middle_depth=0, middle_res_blocks=1, output_depth=(1, 2, 3, 2, 1, 1, 0, 0, 0))
KOALA = replace(sdxl.UNET, res_blocks=1, middle_depth=0, middle_res_blocks=0)


@dataclass(frozen=True)
class Line:
    """A family, and how diffusers is asked for the same: `kind` is its pipeline, `scheduler` makes its scheduler; `marks` are
    further tensors of the file, `metadata` what it says of itself."""

    title: str
    state: Callable[[], State]
    unet: UNetConfig
    vae: VAEConfig
    kind: Any
    scheduler: Callable[[], Any]
    texts: str = "sd1"
    scale: float = 0.18215
    marks: Mapping[str, Tensor] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "Uniform"
    vae_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What came out: `errors` are relative, by part, `picture` the largest difference in 1/255."""

    title: str
    family: str
    strict: bool
    errors: Mapping[str, float]
    picture: int


def _euler(prediction: str = "epsilon", betas: Mapping[str, Any] = SD_BETAS) -> Callable[[], Any]:
    return lambda: EulerDiscreteScheduler(**betas, steps_offset=1, prediction_type=prediction)


def _edm(top: float, data: float, prediction: str = "epsilon") -> Callable[[], Any]:
    return lambda: EDMEulerScheduler(sigma_min=0.002, sigma_max=top, sigma_data=data, prediction_type=prediction)


def _sd1(channels: int) -> tuple[Callable[[], State], UNetConfig, VAEConfig]:
    unet = replace(SD1_UNET, in_channels=channels)
    return (lambda: tiny.random_state(unet, SD1_VAE, SD1_TEXT, 11)), unet, SD1_VAE


def _sd2(channels: int = 4, v: bool = False) -> tuple[Callable[[], State], UNetConfig, VAEConfig]:
    unet = replace(sd2.UNET, in_channels=channels)

    def state() -> State:
        made = sd2.sd2_state(11, v=v)
        if channels != 4:
            network = tiny.randomised(UNet(unet), 11).state_dict()
            made |= {keys.UNET + name: sdxl.linear_names(name, tensor) for name, tensor in network.items()}
        return made

    return state, unet, sd2.VAE


def _sdxl(unet: UNetConfig = sdxl.UNET, channels: int = 4) -> tuple[Callable[[], State], UNetConfig, VAEConfig]:
    wide = replace(unet, in_channels=channels)
    return (lambda: sdxl.sdxl_state(11, wide)), wide, sdxl.VAE


XL = {"texts": "sdxl", "scale": 0.13025}
_TOP = {"edm_vpred.sigma_max": torch.tensor(120.0)}
_PLAYGROUND = {"edm_mean": torch.zeros(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1)}
LINES = (
    Line("SD 1.x", *_sd1(4), StableDiffusionPipeline, _euler()),
    Line("SD 1.x inpainting", *_sd1(9), StableDiffusionInpaintPipeline, _euler()),
    Line("SD 1.x editing", *_sd1(8), StableDiffusionInstructPix2PixPipeline, _euler()),
    Line("SD 2.x", *_sd2(), StableDiffusionPipeline, _euler(), "sd2"),
    Line("SD 2.x, v", *_sd2(v=True), StableDiffusionPipeline, _euler("v_prediction"), "sd2"),
    Line("SD 2.x inpainting", *_sd2(9), StableDiffusionInpaintPipeline, _euler(), "sd2"),
    Line("SDXL", *_sdxl(), StableDiffusionXLPipeline, _euler(), **XL),
    Line("SDXL, v", *_sdxl(), StableDiffusionXLPipeline, _euler("v_prediction"), marks={"v_pred": torch.zeros(0)}, **XL),
    Line("SDXL inpainting", *_sdxl(channels=9), StableDiffusionXLInpaintPipeline, _euler(), **XL),
    Line("SDXL editing", *_sdxl(channels=8), StableDiffusionXLInstructPix2PixPipeline, _euler(), **XL),
    Line(
        "SDXL refiner",
        lambda: sdxl.refiner_state(11),
        sdxl.REFINER_UNET,
        sdxl.VAE,
        StableDiffusionXLImg2ImgPipeline,
        _euler(),
        "refiner",
        0.13025,
        made={"requires_aesthetics_score": True},
    ),
    Line("SSD-1B, Segmind Vega", *_sdxl(SSD_1B), StableDiffusionXLPipeline, _euler(), **XL),
    Line("KOALA", *_sdxl(KOALA), StableDiffusionXLPipeline, _euler(), **XL),
    Line("CosXL", *_sdxl(), StableDiffusionXLPipeline, _edm(120.0, 1.0, "v_prediction"), marks=_TOP, schedule="Karras", **XL),
    Line(
        "CosXL editing",
        *_sdxl(channels=8),
        StableDiffusionXLInstructPix2PixPipeline,
        _edm(120.0, 1.0, "v_prediction"),
        marks=_TOP,
        schedule="Karras",
        made={"is_cosxl_edit": True},
        **XL,
    ),
    Line(
        "Playground 2.5",
        *_sdxl(),
        StableDiffusionXLPipeline,
        _edm(80.0, 0.5),
        "sdxl",
        0.5,
        marks=_PLAYGROUND,
        schedule="Karras",
        vae_config={
            "latents_mean": [-1.6574, 1.886, -1.383, 2.5155],
            "latents_std": [8.4927, 5.9022, 6.5498, 5.2299],
        },
    ),
    Line(
        "SD x4 upscaler",
        lambda: x4.x4_state(11),
        x4.UNET,
        x4.VAE,
        StableDiffusionUpscalePipeline,
        _euler("v_prediction", X4_BETAS),
        "sd2",
        0.08333,
        made={"low_res_scheduler": DDPMScheduler(**X4_BETAS)},
    ),
)


@torch.inference_mode()
def measure() -> Iterator[Figure]:
    for line in LINES:
        result = measured(line)
        errors = ", ".join(f"{part} {_short(error)}" for part, error in result.errors.items())
        strict = "every tensor has a place" if result.strict else "tensors without a place"
        yield Figure(result.title, result.picture, "/255", f"detected as {result.family}, {strict}, {errors}")


@torch.inference_mode()
def markdown() -> str:
    """The same as a table."""
    rows = ["| family | detected as | strict load | denoiser | text | VAE | picture |", "|---|---|---|---|---|---|---|"]
    for line in LINES:
        found = measured(line)
        errors = [_short(found.errors[part]) for part in ("denoiser", "text", "VAE")]
        strict = "yes" if found.strict else "no"
        rows.append(f"| {found.title} | {found.family} | {strict} | {' | '.join(errors)} | {found.picture}/255 |")
    return "\n".join(rows)


def _short(error: float) -> str:
    return f"{error:.0e}" if error else "0"


def measured(line: Line) -> Result:
    state = {**line.state(), **line.marks}
    with tempfile.TemporaryDirectory() as place, _watched() as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place)
        tiny.write(folder / "model.safetensors", state, line.metadata)
        manager = ModelManager([folder], torch.device("cpu"), torch.float32, sdpa, folder / "hashes.json")
        model = manager.load("model")
        errors = {
            "denoiser": _denoiser(line, state, model),
            "text": _text(line, state, model),
            "VAE": _vae(line, state, model),
        }
        ours, theirs = _ours(line, manager), _theirs(line, state, model)
    assert theirs.std() > 15, "a grey picture would prove nothing"
    return Result(line.title, model.family.name, not said, errors, int(np.abs(ours - theirs).max()))


@contextmanager
def _watched() -> Iterator[list[str]]:
    """What loading says of tensors that it ignores."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    log, handler = logging.getLogger("modules.checkpoints"), Keep(logging.WARNING)
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


# ---- the networks


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def _denoiser(line: Line, state: State, model: ModelHandle) -> float:
    """Two rows at different timesteps."""
    unet = line.unet
    x, context, timesteps = _drawn(2, unet.in_channels, 8, 12), _drawn(2, 77, unet.context_dim), torch.tensor([981.0, 3.0])
    vector, more = None, {}
    if unet.classes:
        levels = torch.tensor([20, 300])
        vector, more = levels[:, None].float(), {"class_labels": levels}
    elif unet.vector_width:
        count = len(model.family.numbers)
        pooled, numbers = _drawn(2, unet.vector_width - 256 * count), [[float(7 * n + 64) for n in range(count)]] * 2
        vector = torch.stack(
            [torch.cat([each, number_features(own, model.device)]) for each, own in zip(pooled, numbers, strict=True)]
        )
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.tensor(numbers)}}
    theirs = reference.unet(unet, state)(x, timesteps, context, **more).sample
    return reference.error(model.denoiser.unet(x, timesteps, context, None, vector), theirs)


def _encoders(line: Line, state: State) -> list[tuple[Any, Any]]:
    """transformers' encoders with their tokenizers."""
    if line.texts == "sd1":
        return [(reference.text(SD1_TEXT, state), reference.tokenizer())]
    if line.texts == "sd2":
        return [(reference.penultimate_open_clip(sd2.TEXT, state, sd2.OPEN_CLIP), reference.tokenizer(pad="!"))]
    if line.texts == "refiner":
        encoder = reference.open_clip(sdxl.REFINER_TEXT, state, sdxl.REFINER_OPEN_CLIP)
        return [(encoder, reference.tokenizer(pad="!"))]
    second = reference.open_clip(sdxl.TEXT_2, state, sdxl.OPEN_CLIP)
    return [(reference.text(sdxl.TEXT, state), reference.tokenizer()), (second, reference.tokenizer(pad="!"))]


def _text(line: Line, state: State, model: ModelHandle) -> float:
    """From words to context, and to the pooled text where there is any."""
    texts = ["", "a photo of an astronaut riding a horse on mars, 4k"]  # no "!", which their tokenizers pad with
    contexts, pooled = [], None
    for encoder, tokenizer in _encoders(line, state):
        ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        answer = encoder(ids, output_hidden_states=True)
        last = line.texts in ("sd1", "sd2")
        contexts.append(answer.last_hidden_state if last else answer.hidden_states[-2])
        pooled = getattr(answer, "text_embeds", pooled)
    encoders = model.prompts.encoders
    windows = [chunk(each, encoders.tokenizer).windows[0] for each in texts]
    ours = encoders.encode_chunks(windows, 1)
    error = reference.error(torch.stack([window.context for window in ours]), torch.cat(contexts, dim=-1))
    if pooled is None:
        return error
    return max(error, reference.error(torch.stack([window.pooled for window in ours if window.pooled is not None]), pooled))


def _vae(line: Line, state: State, model: ModelHandle) -> float:
    theirs, vae = reference.vae(line.vae, state), model.latent.vae
    z, image = _drawn(1, 4, 8, 6), _drawn(1, 3, 64, 48).clamp(-1, 1)
    encoded = theirs.encode(image).latent_dist.mean
    return max(reference.error(vae.decode(z), theirs.decode(z).sample), reference.error(vae.encode(image)[0], encoded))


# ---- a picture


def _given() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))


def _ours(line: Line, manager: ModelManager) -> np.ndarray:
    basics: dict[str, Any] = {
        **WORDS, "seed": SEED, "steps": STEPS, "cfg_scale": SCALE, "width": SIDE, "height": SIDE,
        "sampler": "Euler", "schedule": line.schedule, "checkpoint": "model",
    }  # fmt: skip
    if line.kind in (StableDiffusionPipeline, StableDiffusionXLPipeline):
        request, pictures = Txt2Img(**basics), {}
    else:
        given = _given().resize((SIDE // 4, SIDE // 4)) if line.unet.classes else _given()
        request, pictures = Img2Img(**basics, source="0" * 64, denoising_strength=1.0), {"init": given}
    if line.unet.in_channels == 9:
        request = request.model_copy(
            update={"pictures": {"init": "0" * 64, "mask": "1" * 64}, "mask_blur_x": 0, "mask_blur_y": 0}
        )
        pictures["mask"] = Image.new("L", (SIDE, SIDE), 255)
    return run_reference(generate(stages_of(request), pictures), manager).pixels.numpy().astype(int)


def _theirs(line: Line, state: State, model: ModelHandle) -> np.ndarray:
    vae, scheduler = reference.vae(line.vae, state, scale=line.scale), line.scheduler()
    if line.vae_config:
        vae.register_to_config(**line.vae_config)
    encoders = _encoders(line, state)
    names = {"refiner": ("_2",), "sdxl": ("", "_2")}.get(line.texts, ("",))
    parts: dict[str, Any] = {"text_encoder": None, "tokenizer": None} if line.texts == "refiner" else {}
    for ending, (encoder, tokenizer) in zip(names, encoders, strict=True):
        parts |= {f"text_encoder{ending}": encoder, f"tokenizer{ending}": tokenizer}
    if line.unet.vector_width:
        parts["add_watermarker"] = False
    elif not line.unet.classes:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = line.kind(vae=vae, unet=reference.unet(line.unet, state), scheduler=scheduler, **parts, **line.made)
    pipeline.set_progress_bar_config(disable=True)
    call = _call(line, vae, scheduler, model)
    with _means(line.kind):
        painted = pipeline(**WORDS, guidance_scale=SCALE, num_inference_steps=STEPS, output_type="np", **call).images[0]
    return np.asarray((painted * 255).round()).astype(int)


def _call(line: Line, vae: Any, scheduler: Any, model: ModelHandle) -> dict[str, Any]:
    """What their pipeline is given beside the words.  Ours begins with the noised picture where there is one, theirs scales
    what it is given."""
    noise = Noise(SEED, (4, SIDE // model.latent.factor, SIDE // model.latent.factor))()[None]
    sizes = {"width": SIDE, "height": SIDE}
    if line.unet.classes:
        small = _given().resize((SIDE // 4, SIDE // 4))
        return {"image": small, "latents": noise, "generator": torch.Generator().manual_seed(SEED - 10)}
    if line.kind in (StableDiffusionPipeline, StableDiffusionXLPipeline):
        if not line.marks or "v_pred" in line.marks:
            return {**sizes, "latents": noise}
        top = float(scheduler.config.sigma_max)  # diffusers' EDM begins at sqrt(sigma^2 + 1), ours at sigma
        return {**sizes, "latents": noise * top / (top**2 + 1) ** 0.5}
    scheduler.set_timesteps(STEPS)
    image = torch.from_numpy(np.asarray(_given())).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    begun = vae.encode(image).latent_dist.mode() * line.scale + noise * scheduler.sigmas[0]
    if line.texts == "refiner":
        return {
            "image": _given(),
            "strength": 1.0,
            "latents": begun,
            "original_size": (SIDE, SIDE),
            "target_size": (SIDE, SIDE),
        }
    begun = begun / scheduler.init_noise_sigma
    if line.unet.in_channels == 9:
        return {**sizes, "image": _given(), "mask_image": Image.new("L", (SIDE, SIDE), 255), "strength": 1.0, "latents": begun}
    alike = sizes if line.unet.vector_width else {}
    return {**alike, "image": _given(), "image_guidance_scale": 1.5, "latents": begun}


@contextmanager
def _means(kind: Any) -> Iterator[None]:
    """Their autoencoder gives the mean, which is not drawn."""
    scope = kind.__call__.__wrapped__.__globals__
    before = scope.get("retrieve_latents")
    if before is not None:
        scope["retrieve_latents"] = lambda encoded, generator=None, sample_mode="": encoded.latent_dist.mode()
    try:
        yield
    finally:
        if before is not None:
            scope["retrieve_latents"] = before
