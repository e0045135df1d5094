"""Random checkpoints of SD 3 and Flux: the real networks, only narrow, as single files and in parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import Unigram
from torch import Tensor, nn

from modules.checkpoints import keys
from modules.diffusion.clip import TextConfig
from modules.diffusion.flux import Flux, FluxConfig
from modules.diffusion.mmdit import MMDiT, MMDiTConfig
from modules.diffusion.t5 import T5Config, T5Text
from modules.diffusion.text import TextEncoder
from modules.diffusion.vae import AutoencoderKL, VAEConfig
from tests.tiny import drawn, write

VAE = VAEConfig(channels=(32, 32, 32, 32), res_blocks=1, latent_channels=16, quantised=False)
CLIP_L = TextConfig(width=32, layers=3, heads=1, hidden=64, layer=2, normalised=False, pooled=True)
BIG_G = TextConfig(width=64, layers=3, heads=1, hidden=64, projection=48, activation="gelu", layer=2, normalised=False, pad=0)
T5 = T5Config(vocabulary=64, width=112, inner=64, hidden=80, heads=2, layers=2)

SD3 = MMDiTConfig(width=64, heads=1, depth=3, context_width=112, pooled_width=80, hidden=256, positions=16)
SD35_LARGE = replace(SD3, heads=2, normalised=True)
SD35_MEDIUM = replace(SD35_LARGE, dual=2)
FLUX = FluxConfig(width=64, heads=2, doubles=2, singles=2, context_width=112, pooled_width=32, axes=(4, 14, 14))
SCHNELL = replace(FLUX, guided=False)
FILL = replace(FLUX, in_channels=96)

METADATA = {"atelier.native_size": "64x64", "atelier.steps": "4"}

Config = MMDiTConfig | FluxConfig


def transformer(config: Config) -> nn.Module:
    with torch.device("meta"):
        return MMDiT(config) if isinstance(config, MMDiTConfig) else Flux(config)


def state_of(network: nn.Module, prefix: str, seed: int) -> dict[str, Tensor]:
    """Random weights of a network, its names behind `prefix`."""
    generator = torch.Generator().manual_seed(seed)
    return {prefix + name: weight(name, each.shape, generator) for name, each in network.state_dict().items()}


def weight(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if name.endswith(("ln_q.weight", "ln_k.weight", ".scale", "layer_norm.weight")):
        return 1 + 0.1 * torch.randn(shape, generator=generator)
    if name == "pos_embed":
        return 0.3 * torch.randn(shape, generator=generator)
    return drawn(name, shape, generator)


def parts(config: Config, seed: int = 0, without: tuple[str, ...] = ()) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by part, under the names of single files; `without` are parts that it lacks."""
    sd3 = isinstance(config, MMDiTConfig)
    with torch.device("meta"):
        clip_l, big_g, t5, vae = TextEncoder(CLIP_L), TextEncoder(BIG_G), T5Text(T5), AutoencoderKL(VAE)
    found = {
        "unet": state_of(transformer(config), keys.UNET, seed),
        "vae": state_of(vae, keys.VAE, seed + 1),
        "text": state_of(clip_l.network, "text_encoders.clip_l.transformer.text_model.", seed + 2),
        "text_3": state_of(t5, "text_encoders.t5xxl.transformer.", seed + 4),
    }
    if sd3:
        names = state_of(big_g.network, "text_encoders.clip_g.transformer.text_model.", seed + 3)
        projection = torch.randn(48, 64, generator=torch.Generator().manual_seed(seed + 5)) / 8
        found["text_2"] = names | {"text_encoders.clip_g.transformer.text_projection.weight": projection}
    return {part: tensors for part, tensors in found.items() if part not in without}


def checkpoint(
    path: Path, config: Config, seed: int = 0, without: tuple[str, ...] = (), dtype: torch.dtype = torch.float32
) -> Path:
    """Write a single file, and T5's tokenizer beside it."""
    tensors = {name: each for part in parts(config, seed, without).values() for name, each in part.items()}
    tokenizer(path.parent / "tokenizer.json")
    return write(path, {name: each.to(dtype) for name, each in tensors.items()}, METADATA)


def split(folder: Path, config: Config, seed: int = 0) -> Path:
    """Write a transformer alone, with Black Forest Labs' bare names, and what goes with it in the folders for that."""
    found = parts(config, seed)
    (folder / "text_encoders").mkdir(parents=True, exist_ok=True)
    (folder / "vae").mkdir(exist_ok=True)
    tokenizer(folder / "text_encoders" / "tokenizer.json")
    names = {"text": "clip_l", "text_2": "clip_g", "text_3": "t5xxl_fp16"}
    for part, name in names.items():
        if part in found:
            prefix = "text_encoders." + {"text": "clip_l", "text_2": "clip_g", "text_3": "t5xxl"}[part] + ".transformer."
            write(folder / "text_encoders" / f"{name}.safetensors", _bare(found[part], prefix))
    vae_name = "sd3_vae" if isinstance(config, MMDiTConfig) else "ae"
    write(folder / "vae" / f"{vae_name}.safetensors", _bare(found["vae"], keys.VAE))
    return write(folder / "alone.safetensors", _bare(found["unet"], keys.UNET), METADATA)


def _bare(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): each for name, each in tensors.items()}


WORDS = ("a", "cat", "red", "dog", "on", "the", "mat", "blue", "one", "two")


def tokenizer(path: Path) -> Path:
    """Write a tokenizer of T5's kind with a few words and all letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), ("\u2581", -3.0)]
    pieces += [(f"\u2581{word}", -1.0 - number / 10) for number, word in enumerate(WORDS)]
    pieces += [(chr(letter), -6.0) for letter in range(ord("a"), ord("z") + 1)]
    backend = Tokenizer(Unigram(pieces, 2, False))
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(json.loads(backend.to_str()), ensure_ascii=False), encoding="utf-8")
    return path
