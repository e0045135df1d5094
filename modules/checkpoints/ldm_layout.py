"""Where the parts of an original latent-diffusion checkpoint are in its file, and the sizes of what conditions it: no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from modules.checkpoints import keys
from modules.checkpoints.keys import Place
from modules.checkpoints.sizes import Shapes
from modules.errors import CheckpointError

CLASSES = "cond_stage_model.embedding.weight"
"""ldm's `ClassEmbedder`: a vector for each class."""
MAP = "cond_stage_model.channel_mapper.weight"
"""ldm's `SpatialRescaler`: a few channels for each class of a map."""
TOKENS, POSITIONS = keys.TEXT + "token_emb.weight", keys.TEXT + "pos_emb.emb.weight"
"""The text transformer, see `diffusion.bert`."""
SCALE = "scale_factor"
"""The number by which latents are multiplied, where it was measured in training."""
BETAS = "betas"

_AVERAGED = "model_ema.diffusion_model"
"""In front of the averaged weights of a U-Net, whose names have lost their dots."""


@dataclass(frozen=True)
class LDMLayout:
    """Our names -> places in the file, of the U-Net, the autoencoder, and the network that conditions the U-Net."""

    unet: dict[str, Place]
    vae: dict[str, Place]
    condition: dict[str, Place]
    unexpected: list[str]


def ldm_layout(names: Iterable[str]) -> LDMLayout:
    """Sort a file's tensor names by part.

    Where the file has the averaged weights of its whole U-Net, those are taken: ldm's scripts sample with them.
    """
    names = list(names)
    found = keys.layout(names)
    stored = {keys.canonical(name): name for name in names}
    averaged = {own: stored.get(_AVERAGED + own.replace(".", "")) for own in found.unet}
    condition: dict[str, Place] = {own: place for own, place in found.text.items() if not own.startswith("to_logits.")}
    own = {CLASSES: "embedding.weight", MAP: "channel_mapper.weight"}
    own |= {MAP.replace("weight", "bias"): "channel_mapper.bias"}
    condition |= {ours: stored[name] for name, ours in own.items() if name in stored}
    unet: dict[str, Place] = {ours: place for ours, place in averaged.items() if place is not None}
    taken = set(condition.values())
    return LDMLayout(
        unet if found.unet and len(unet) == len(found.unet) else found.unet,
        found.vae,
        condition,
        [name for name in found.unexpected if name not in taken],
    )


class BERTSizes(NamedTuple):
    """As in `diffusion.bert.BERTConfig`."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    hidden: int
    positions: int


def bert_sizes(shapes: Shapes) -> BERTSizes:
    """Of a text transformer whose tensors have these names and shapes.  Heads are 64 wide; a narrower one has one.

    Raises:
        CheckpointError: the tensors are no such transformer.
    """
    first = "attn_layers.layers"
    names = ("token_emb.weight", "pos_emb.emb.weight", f"{first}.0.1.to_q.weight", f"{first}.1.1.net.0.0.weight")
    for name in names:
        if len(shapes.get(name, ())) != 2:
            raise CheckpointError(f"lacks the tensor {name!r} of its text encoder; the file is incomplete, download it again")
    (vocabulary, width), (positions, _), (inner, _), (hidden, _) = (shapes[name] for name in names)
    numbers = {int(part) for name in shapes if name.startswith(first) and (part := name.split(".")[2]).isdecimal()}
    layers = (max(numbers) + 1) // 2
    if layers > 200:
        raise CheckpointError(f"has a text encoder of {layers} layers; use another file")
    return BERTSizes(vocabulary, width, layers, max(1, inner // 64), inner, hidden, positions)


def bert_tensors(sizes: BERTSizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor of a text transformer of these sizes."""
    width, inner, hidden = sizes.width, sizes.inner, sizes.hidden
    yield "token_emb.weight", (sizes.vocabulary, width)
    yield "pos_emb.emb.weight", (sizes.positions, width)
    for number in range(sizes.layers):
        attention, feed = f"attn_layers.layers.{2 * number}", f"attn_layers.layers.{2 * number + 1}"
        for name in (attention, feed):
            yield f"{name}.0.weight", (width,)
            yield f"{name}.0.bias", (width,)
        for each in ("to_q", "to_k", "to_v"):
            yield f"{attention}.1.{each}.weight", (inner, width)
        yield f"{attention}.1.to_out.weight", (width, inner)
        yield f"{attention}.1.to_out.bias", (width,)
        yield f"{feed}.1.net.0.0.weight", (hidden, width)
        yield f"{feed}.1.net.0.0.bias", (hidden,)
        yield f"{feed}.1.net.2.weight", (width, hidden)
        yield f"{feed}.1.net.2.bias", (width,)
    yield "norm.weight", (width,)
    yield "norm.bias", (width,)
