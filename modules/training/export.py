"""The stage "export": what was trained becomes one file in SD 1.x's single-file layout, fp16, with its defaults inside.

Everything that the trainer did differently is undone here by exact algebra: the norms' eps (`scale_streams`), the standardised
latents (`fold_latents`), the short vocabulary (`spread_rows`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from modules.checkpoints.header import open_model, read_header
from modules.errors import SettingsError
from modules.training.autoencoder import TRAINING_EPS, LatentAutoencoder
from modules.training.captions import TOKENS, other_fragments
from modules.training.denoiser import Denoiser
from modules.training.loop import replaced
from modules.training.motifs import MOTIFS, plurals
from modules.training.recipe import Recipe
from modules.training.starter import LATENT_SCALE, PREFIXES

LAYOUT_EPS = 1e-6  # the norms' eps that every loader of the layout assumes
VOCABULARY = 49408
STEPS = 20
PROMPTS = (
    "a red apple", "a cute panda on a yellow background", "two foxes", "a blue car next to a tree", "a pink elephant",
    "sticker of a rocket, dark blue background", "a cat and a dog", "three green frogs", "a dog wearing a top hat",
    "a big whale and a small duck", "a sailboat on the sea", "an owl on a purple background", "a cake, a gift and a balloon",
    "a penguin in the snow", "a purple octopus on the left", "a butterfly, pink background",
)  # fmt: skip

State = dict[str, Tensor]


def assemble(model: LatentAutoencoder, denoiser: Denoiser, tokens: Sequence[int]) -> State:
    """Every tensor of the file, fp32 on the CPU, by its name there; `tokens` are those of the embedding's rows from 1 on."""
    vae = _plain(model.vae)
    fold_latents(vae, model.mean.cpu(), model.deviation.cpu())
    scale_streams(vae, (LAYOUT_EPS / TRAINING_EPS) ** 0.5)
    text = _plain(denoiser.text)
    table = "embeddings.token_embedding.weight"
    text[table] = spread_rows(text[table], tokens)
    text["embeddings.position_ids"] = torch.arange(TOKENS)[None]
    parts: dict[str, State] = {"unet": _plain(denoiser.unet), "vae": vae, "text": text}
    return {PREFIXES[part] + name: value for part, state in parts.items() for name, value in state.items()}


def write(state: State, file: Path, said: dict[str, str]) -> None:
    """Write `state` in fp16 with its metadata, whole or not at all.

    Raises:
        SettingsError: a number is not finite in fp16.
    """
    half = {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state.items()}
    if broken := [name for name, value in half.items() if not value.isfinite().all()]:
        raise SettingsError(f"{broken[0]} and {len(broken) - 1} more tensors are not finite; train with a lower rate.")
    with replaced(file) as partial:
        save_file(half, str(partial), metadata=said)
        partial.chmod(0o644)


def metadata(recipe: Recipe, cfg_scale: float) -> dict[str, str]:
    """What the page takes its defaults, suggestions and known words from (`modules.prompts.vocabulary`)."""
    names = recipe.names
    others = {name: [*MOTIFS[name].aliases, *plurals(MOTIFS[name])] for name in names}
    words = {part for text in other_fragments() for part in re.findall(r"[\w'-]+", text.lower())}
    return {
        "format": "pt",
        "modelspec.title": "Atelier starter",
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.license": "trained on glyphs of Noto Color Emoji (Google, SIL Open Font License 1.1); see the model card",
        "atelier.native_size": f"{recipe.picture}x{recipe.picture}",
        "atelier.steps": str(STEPS),
        "atelier.cfg_scale": f"{cfg_scale:g}",
        "atelier.sampler": "DPM++ 2M",
        "atelier.schedule": "Karras",
        "atelier.description": f"A miniature model, trained by this project itself, that draws {len(names)} sticker motifs, "
        "one or several of them, many in other colours, on plain grounds.",
        "atelier.prompts": json.dumps(PROMPTS),
        "atelier.motifs": json.dumps(names),
        "atelier.names": json.dumps({name: more for name, more in others.items() if more}),
        "atelier.words": json.dumps(sorted(words)),
    }


def replace_part(file: Path, part: str, network: nn.Module, said: Mapping[str, str]) -> None:
    """Write a file anew with this network ("unet", "vae", "text") and metadata, whole or not at all, all else as it is."""
    with safe_open(str(file), "pt") as handle:
        state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (not a dict)
    write(state | {PREFIXES[part] + name: value for name, value in _plain(network).items()}, file, dict(said))


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


def fold_latents(vae: State, mean: Tensor, deviation: Tensor) -> None:
    """Put the standardisation, and the layout's latent scale, into the two quant convolutions.

    The encoder's mean becomes (m - mean) / deviation / 0.18215, so that scaled latents have unit variance; the decoder takes
    those. Log variance: constant -10.
    """
    channels = len(mean)
    gain = 1 / (deviation * LATENT_SCALE)
    vae["quant_conv.weight"][:channels] *= gain[:, None, None, None]
    vae["quant_conv.bias"][:channels] = (vae["quant_conv.bias"][:channels] - mean) * gain
    vae["quant_conv.weight"][channels:] = 0
    vae["quant_conv.bias"][channels:] = -10.0
    vae["post_quant_conv.weight"] *= LATENT_SCALE


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


def spread_rows(rows: Tensor, tokens: Sequence[int]) -> Tensor:
    """The full embedding: trained rows at their tokens' places, zeros everywhere else."""
    full = torch.zeros(VOCABULARY, rows.shape[1])
    full[torch.tensor(tokens)] = rows[1:]
    return full


def _plain(module: nn.Module) -> State:
    return {name: value.detach().float().cpu().contiguous().clone() for name, value in module.state_dict().items()}
