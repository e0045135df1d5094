"""Stage 5, the export: what was trained becomes one file in SD 1.x's single-file layout, fp16, with its defaults inside.

Everything that the trainer did differently is undone here by exact algebra: the norms' eps (`scale_streams`), the
standardised latents (`fold_latents`), the blocks left out (`add_identity_blocks`), the short vocabulary (`spread_rows`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from modules.checkpoints.header import open_model, read_header
from modules.training.autoencoder import TRAINING_EPS, VAE, LatentAutoencoder
from modules.training.concepts import CONCEPTS
from modules.training.denoiser import TOKENS, Denoiser
from modules.training.rendering import SIZE

LATENT_SCALE = 0.18215  # SD 1.x: the denoiser sees this times the autoencoder's latents
LAYOUT_EPS = 1e-6  # the norms' eps that every loader of the layout assumes
VOCABULARY = 49408
STEPS = 20
PROMPTS = (
    "a red apple", "a cute panda on a yellow background", "a rocket", "a sticker of a fox, green background",
    "a cat and a red car", "an owl on a purple background", "a birthday cake", "a castle next to a tree",
    "a robot on a blue background", "a butterfly, pink background", "a small duck", "a dragon and a sunflower",
)  # fmt: skip

State = dict[str, Tensor]


def assemble(model: LatentAutoencoder, mean: Tensor, deviation: Tensor, denoiser: Denoiser, tokens: Sequence[int]) -> State:
    """Every tensor of the file, fp32, by its name there. `mean` and `deviation` are those of the denoiser's latents."""
    vae = {name.removeprefix("vae."): value.clone() for name, value in model.state_dict().items() if name.startswith("vae.")}
    fold_latents(vae, mean, deviation, model)
    scale_streams(vae, (LAYOUT_EPS / TRAINING_EPS) ** 0.5)
    add_identity_blocks(vae)

    text = {name.removeprefix("text_model."): value.clone() for name, value in denoiser.text.state_dict().items()}
    table = "embeddings.token_embedding.weight"
    text[table] = spread_rows(text[table], tokens)
    text["embeddings.position_ids"] = torch.arange(TOKENS)[None]

    parts: dict[str, Mapping[str, Tensor]] = {
        "model.diffusion_model.": denoiser.unet.state_dict(),
        "first_stage_model.": vae,
        "cond_stage_model.transformer.text_model.": text,
    }
    return {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}


def write(state: State, file: Path, cfg_scale: float, description: str | None = None) -> None:
    """Write `state` in fp16 with the metadata from which the UI takes its defaults."""
    half = {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, str(file), metadata=metadata(cfg_scale, description))
    file.chmod(0o644)


def metadata(cfg_scale: float, description: str | None = None) -> dict[str, str]:
    sentence = f"A miniature model, trained by this project itself, that draws {len(CONCEPTS)} sticker motifs on plain grounds."
    return {
        "format": "pt",
        "modelspec.title": "Atelier starter",
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.license": "trained on glyphs of Noto Color Emoji (Google, SIL Open Font License 1.1); see the model card",
        "atelier.native_size": f"{SIZE}x{SIZE}",
        "atelier.steps": str(STEPS),
        "atelier.cfg_scale": f"{cfg_scale:g}",
        "atelier.sampler": "DPM++ 2M",
        "atelier.schedule": "Karras",
        "atelier.description": description or sentence,
        "atelier.prompts": json.dumps(PROMPTS),
        "atelier.motifs": json.dumps(list(CONCEPTS)),
    }


def rewrite_metadata(file: Path, changes: Mapping[str, str]) -> None:
    """Set these keys of a safetensors file's metadata, whole or not at all; the tensors' bytes stay as they are.

    Only the header is written anew, padded with spaces to 8 bytes as the format asks
    (https://huggingface.co/docs/safetensors, "Format"); offsets count from its end and need no change.

    Raises:
        CheckpointError: it is no whole safetensors file.
    """
    found = read_header(file)
    header: dict[str, object] = {"__metadata__": {**found.metadata, **changes}}
    for name, entry in found.tensors.items():
        header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": (entry.start, entry.end)}
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    partial = file.with_suffix(".writing")
    with open_model(file) as source, open(partial, "wb") as out:
        source.seek(found.data_start)
        out.write(len(raw).to_bytes(8, "little") + raw)
        shutil.copyfileobj(source, out)
    shutil.copymode(file, partial)
    os.replace(partial, file)


def fold_latents(vae: State, mean: Tensor, deviation: Tensor, model: LatentAutoencoder) -> None:
    """Put the standardisation, and the layout's latent scale, into the two quant convolutions.

    The encoder's mean becomes (m - mean) / deviation / 0.18215, so that scaled latents have unit variance. The decoder was
    trained on slightly other (running) statistics; the difference goes into its side. Log variance: constant -10.
    """
    channels = len(mean)
    gain = 1 / (deviation * LATENT_SCALE)
    vae["quant_conv.weight"][:channels] *= gain[:, None, None, None]
    vae["quant_conv.bias"][:channels] = (vae["quant_conv.bias"][:channels] - mean) * gain
    vae["quant_conv.weight"][channels:] = 0
    vae["quant_conv.bias"][channels:] = -10.0

    weight = vae["post_quant_conv.weight"][:, :, 0, 0]
    vae["post_quant_conv.bias"] += weight @ ((mean - model.mean) / model.deviation)
    vae["post_quant_conv.weight"] *= (deviation / model.deviation * LATENT_SCALE)[None, :, None, None]


def scale_streams(vae: State, factor: float) -> None:
    """Multiply every signal between two norms by `factor`, which is the same as dividing the norms' eps by its square.

    What enters a residual stream is scaled (weight and bias); what passes along it (resampling, shortcuts) keeps its weight
    and scales its bias.
    """
    enters = re.compile(r"(conv_in|conv1|conv2|proj_out)\.(weight|bias)$")
    passes = re.compile(r"(sample\.conv|nin_shortcut)\.bias$")
    for name in vae:
        if enters.search(name) or passes.search(name):
            vae[name] = vae[name] * factor


def add_identity_blocks(vae: State) -> None:
    """All-zero residual blocks, exact identities, where the trainer left a block out."""
    width = VAE.channels[0]
    for block in ("encoder.down.0.block.0", "decoder.up.0.block.1"):
        for norm, conv in (("norm1", "conv1"), ("norm2", "conv2")):
            vae[f"{block}.{norm}.weight"] = torch.zeros(width)
            vae[f"{block}.{norm}.bias"] = torch.zeros(width)
            vae[f"{block}.{conv}.weight"] = torch.zeros(width, width, 3, 3)
            vae[f"{block}.{conv}.bias"] = torch.zeros(width)


def spread_rows(rows: Tensor, tokens: Sequence[int]) -> Tensor:
    """The full embedding: trained rows at their tokens' places, zeros everywhere else."""
    full = torch.zeros(VOCABULARY, rows.shape[1])
    for row, token in zip(rows, tokens, strict=True):
        if token >= 0:
            full[token] = row
    return full
