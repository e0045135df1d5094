"""The published latent-diffusion models at full size, without their numbers: detection, the strict check, and what the list of
models and the prompt check say of them.

Networks have the sizes of CompVis' configurations (latent-diffusion's `models/ldm/*/config.yaml` and
`configs/latent-diffusion/`); names and shapes of U-Nets and VQ autoencoders are held to diffusers' classes of these sizes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modules.catalogue import Catalogue
from modules.checkpoints import keys, sizes
from modules.checkpoints.completeness import part_shapes
from modules.checkpoints.families import recognise
from modules.checkpoints.families.ldm import MEMBERS, LDMFamily
from modules.checkpoints.files import scan
from modules.checkpoints.footprint import of_header
from modules.checkpoints.header import Header, TensorEntry
from modules.checkpoints.ldm_layout import ldm_layout
from modules.diffusion.bert import BERTConfig, BERTText
from modules.diffusion.unet import UNet, UNetConfig
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from modules.errors import CheckpointError, RequestError
from modules.prompts.library import Library
from modules.prompts.tokenizer import Tokenizer
from modules.prompts.wordpiece import WordPieces
from modules.request import Img2Img
from tests.diffusion import ldm_reference
from tests.ldm import UNETS, ldm_state
from tests.tiny import write

VQ = VAEConfig(channels=(128, 256, 512), latent_channels=3, codebook=8192)
VQ_F8 = VAEConfig(channels=(128, 256, 256, 512), codebook=16384, attention=(False, False, False, True))
KL = VAEConfig()


def unet(channels: int, mult: tuple[int, ...], attended: tuple[int, ...], further: int = 0, **options: Any) -> UNetConfig:
    """By model_channels, channel_mult and attention_resolutions; without a context unless one is given."""
    depth = options.pop("depth", 1)
    latent = options.pop("latent", 3)
    said = {"self_only": "context_dim" not in options, "context_dim": 1, "middle_depth": depth, **options}
    return UNetConfig(
        in_channels=latent + further,
        out_channels=latent,
        channels=tuple(channels * each for each in mult),
        transformer_depth=tuple(depth if 2**level in attended else 0 for level in range(len(mult))),
        **said,
    )


@dataclass(frozen=True)
class Published:
    """`millions` are the parameters of the U-Net where they are published (README and table 12 of Rombach et al. 2022)."""

    family: str
    unet: UNetConfig
    vae: VAEConfig = VQ
    bert: BERTConfig | None = None
    condition: tuple[tuple[str, tuple[int, ...]], ...] = ()
    millions: int = 0


PUBLISHED = {
    "celebahq256, ffhq256, lsun_beds256": Published("ldm-unconditional", unet(224, (1, 2, 3, 4), (2, 4, 8)), millions=274),
    "lsun_churches256": Published(
        "ldm-unconditional-kl",
        unet(192, (1, 2, 2, 4, 4), (1, 2, 4, 8), latent=4, scale_shift=True, resampling_blocks=True),
        KL,
        millions=294,
    ),
    "bsr_sr": Published("ldm-super-resolution", unet(160, (1, 2, 2, 4), (8, 16), 3)),
    "inpainting_big": Published(
        "ldm-inpaint",
        unet(256, (1, 2, 3, 4), (2, 4, 8), 4, resampling_blocks=True),
        replace(VQ, middle_attention=False),
        millions=387,
    ),
    "semantic_synthesis256, semantic_synthesis512": Published(
        "ldm-map", unet(128, (1, 4, 8), (8, 16, 32), 3), condition=(("channel_mapper.weight", (3, 182, 1, 1)),)
    ),
    "cin256-v2": Published(
        "ldm-class",
        unet(192, (1, 2, 3, 5), (2, 4, 8), context_dim=512),
        condition=(("embedding.weight", (1001, 512)),),
        millions=400,
    ),
    "cin-ldm-vq-f8": Published(
        "ldm-class-f8",
        unet(256, (1, 2, 4), (1, 2, 4), latent=4, context_dim=512),
        VQ_F8,
        condition=(("embedding.weight", (1000, 512)),),
    ),
    "txt2img-1p4B": Published(
        "ldm-text", unet(320, (1, 2, 4, 4), (1, 2, 4), latent=4, context_dim=1280), KL, BERTConfig(), millions=872
    ),
    "text2img256": Published(
        "ldm-text-vq",
        unet(192, (1, 2, 3, 5), (2, 4, 8), context_dim=640),
        bert=BERTConfig(width=640, layers=32, hidden=2560),
    ),
    "layout2img-openimages256": Published(
        "ldm-layout",
        unet(128, (1, 2, 3, 4), (2, 4, 8), depth=3, context_dim=512),
        bert=BERTConfig(vocabulary=8192, width=512, layers=16, hidden=2048, positions=92),
    ),
}


def header_of(model: Published) -> Header:
    """Names and shapes of the file, with what training leaves behind."""
    with torch.device("meta"):
        parts: dict[str, nn.Module] = {keys.UNET: UNet(model.unet), keys.VAE: AutoencoderKL(model.vae)}
        if model.bert:
            parts[keys.TEXT] = BERTText(model.bert)
    shapes = {prefix + name: tuple(each.shape) for prefix, part in parts.items() for name, each in part.state_dict().items()}
    if model.unet.self_only:  # convolutions over positions in a row
        rows = (".qkv.weight", ".1.proj_out.weight")
        shapes = {name: (*shape, 1) if name.endswith(rows) and len(shape) == 2 else shape for name, shape in shapes.items()}
    shapes |= {f"cond_stage_model.{name}": shape for name, shape in model.condition}
    if model.bert:
        shapes[keys.TEXT + "to_logits.weight"] = (model.bert.vocabulary, model.bert.width)
    shapes |= {"betas": (1000,), "alphas_cumprod": (1000,), "logvar": (1000,), "first_stage_model.loss.logvar": ()}
    if model.family == "ldm-inpaint":
        shapes |= {name.replace(keys.VAE, "cond_stage_model."): shape for name, shape in shapes.items() if keys.VAE in name}
    return Header({}, {name: TensorEntry("F32", shape, 0, 0) for name, shape in shapes.items()}, 0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_are_known_and_whole(name: str) -> None:
    model = PUBLISHED[name]
    header = header_of(model)
    family = recognise(header.shapes)
    assert isinstance(family, LDMFamily)
    assert family.name == model.family
    family.check(header)
    layout = ldm_layout(header.tensors)
    assert layout.unexpected == []
    shapes = part_shapes(header, layout.unet)
    numbers = sum(map(prod, shapes.values()))
    if model.millions:
        assert round(numbers / 1e6) in (model.millions, model.millions + 1)
    assert of_header(header).denoiser == numbers
    if model.unet.self_only:
        config = replace(model.unet, heads=0, head_width=32)
        with torch.device("meta"):
            state = {own: torch.empty(entry.shape) for own, entry in header.tensors.items()}
        theirs = ldm_reference.unet(config, state)
        assert sum(each.numel() for each in theirs.state_dict().values()) == numbers
    if model.vae.codebook:
        with torch.device("meta"):
            state = {own: torch.empty(entry.shape) for own, entry in header.tensors.items()}
        first_stage = ldm_reference.vq(model.vae, state)
        expected = sum(map(prod, part_shapes(header, layout.vae).values()))
        assert sum(each.numel() for each in first_stage.state_dict().values()) == expected
    if model.family == "ldm-text":
        text = sum(prod(entry.shape) for own, entry in header.tensors.items() if own.startswith(keys.TEXT))
        assert (numbers + text) // 1e7 == 145, "1.45 billion"


@pytest.mark.parametrize("name", UNETS)
def test_no_tensor_may_be_missing(name: str) -> None:
    tensors = {own: TensorEntry("F32", tuple(each.shape), 0, 0) for own, each in ldm_state(name).items()}
    family = recognise(Header({}, tensors, 0).shapes)
    assert family.name == name
    family.check(Header({}, tensors, 0))
    layout = ldm_layout(tensors)
    unet = part_shapes(Header({}, tensors, 0), layout.unet)
    assert dict(sizes.unet_tensors(sizes.unet_sizes(unet))).keys() == unet.keys()
    for part in (layout.unet, layout.vae, layout.condition if name != "ldm-map" else {}):  # without it, it is super-resolution
        for stored in list(part.values())[::7]:
            without = {own: entry for own, entry in tensors.items() if own != stored}
            with pytest.raises(CheckpointError):
                recognise(Header({}, without, 0).shapes).check(Header({}, without, 0))


def test_another_form_is_named_for_what_it_is() -> None:
    """Here with an autoencoder of f16, as the retrieval-augmented models have."""
    other = Published("", unet(64, (1, 2), (2,), latent=16), VAEConfig(channels=(128, 128, 256, 256, 512), latent_channels=16))
    with pytest.raises(
        CheckpointError, match=r"of a form that is not known here \(no words, concat none, KL autoencoder with 16 ch"
    ):
        recognise(header_of(other).shapes)
    assert len({member.form for member in MEMBERS}) == len(MEMBERS)


def test_a_request_says_only_what_counts_and_a_prompt_is_checked(tmp_path: Path) -> None:
    for name in ("ldm-class", "ldm-layout", "ldm-text", "ldm-unconditional", "ldm-super-resolution", "ldm-map"):
        write(tmp_path / f"{name}.safetensors", ldm_state(name))
    (tmp_path / "ldm-layout.labels.txt").write_text("person\ncat, kitten\n", "utf-8")
    catalogue = Catalogue([tmp_path], Library(tmp_path), lambda: None)

    plain = catalogue.complete({"checkpoint": "ldm-unconditional", "cfg_scale": 7.0, "negative_prompt": "x", "seed": 1})
    assert (plain.cfg_scale, plain.negative_prompt, plain.width, plain.steps) == (1.0, "", 256, 50), "no words, no guidance"
    given: dict[str, Any] = {"source": "0" * 64, "seed": 1, "denoising_strength": 0.3, "upscaler_noise_level": 50}
    for name in ("ldm-super-resolution", "ldm-map"):
        request = catalogue.complete({**given, "checkpoint": name})
        assert isinstance(request, Img2Img)
        assert (request.denoising_strength, request.upscaler_noise_level) == (1.0, None)
        with pytest.raises(RequestError, match="cannot paint from words alone"):
            catalogue.complete({"checkpoint": name})
        with pytest.raises(RequestError, match="can neither inpaint a part of it nor extend it"):
            catalogue.complete({**given, "checkpoint": name, "mask": "1" * 64})

    def notes(name: str, prompt: str) -> str:
        return " ".join(catalogue.prompts.check({"checkpoint": name, "prompt": prompt}).notes)

    assert "did you mean 'goldfish'" in notes("ldm-class", "goldfisch")
    assert notes("ldm-class", "goldfish") == notes("ldm-text", "goldfisch") == notes("ldm-unconditional", "") == ""
    assert "paints without words" in notes("ldm-unconditional", "a cat")
    assert notes("ldm-layout", "Kitten 0 0 50% 1; 1 0.2 0.2 0.5 0.5") == ""
    assert "'dog' is no class of this checkpoint" in notes("ldm-layout", "dog 0 0 1 1")
    long = "antidisestablishmentarianism"
    counted = catalogue.prompts.check({"checkpoint": "ldm-text", "prompt": long}).tokens
    assert counted == len(WordPieces().encode(long)) != len(Tokenizer().encode(long)), "BERT's count"
    assert "a map of classes, which is img2img's picture" in catalogue.checkpoint("ldm-map").description
    listed = {info.name: info.motifs for info in scan([tmp_path])}
    assert (listed["ldm-layout"], listed["ldm-class"][207], listed["ldm-text"]) == (("person", "cat"), "golden retriever", ())
