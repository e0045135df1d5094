"""Whether the networks in a file are whole and go together: what loading would refuse, found by the header alone.

No torch and no tensor is read: the web process lists with it, so that the list says what painting would say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from modules.checkpoints import keys, sizes
from modules.checkpoints.header import Header, TensorEntry
from modules.checkpoints.keys import Layout, Place, shape_at, stored_name
from modules.checkpoints.transformer_sizes import T5Sizes, t5_sizes, t5_tensors
from modules.diffusion.block_formats import BLOCK_FORMATS
from modules.errors import CheckpointError
from modules.prompts.chunks import WINDOW
from modules.prompts.tokenizer import VOCABULARY_SIZE

if TYPE_CHECKING:
    from modules.checkpoints.families.parts import TextPart

FEATURES = 256
"""Numbers of a network's vector for each number beside its pooled text, see `diffusion.conditioning.features`."""

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", *BLOCK_FORMATS)
"""Number formats in which weights may be stored."""


def check_complete(header: Header, encoders: Sequence[TextPart], numbers: int) -> None:
    """Refuse a checkpoint whose U-Net, autoencoder and text `encoders` are not whole, or do not go together.

    Raises:
        CheckpointError: the message is the rest of a sentence that begins with the file's name.
    """
    layout = keys.layout(header.tensors)
    unet = sizes.unet_sizes(part_shapes(header, layout.unet))
    places = [text_places(layout, encoder) for encoder in encoders]
    texts = [sizes.text_sizes(part_shapes(header, part)) for part in places]
    check_together(encoders, numbers, texts, unet)
    check_part(header, layout.unet, sizes.unet_tensors(unet), "U-Net")
    check_vae(header, layout.vae)
    for encoder, part, text in zip(encoders, places, texts, strict=True):
        check_part(header, part, sizes.text_tensors(text), encoder.title)


def check_vae(header: Header, places: Mapping[str, Place]) -> sizes.VAESizes:
    """Refuse an autoencoder that is not whole; its tensors are at `places`.

    Raises:
        CheckpointError: as `check_complete`.
    """
    vae = sizes.vae_sizes(part_shapes(header, places))
    check_part(header, places, sizes.vae_tensors(vae), "VAE")
    return vae


def check_t5(header: Header, context_width: int) -> T5Sizes:
    """Refuse a T5 encoder that is not whole or not as wide as the transformer expects.

    Raises:
        CheckpointError: the message is the rest of a sentence that begins with the file's name.
    """
    places = keys.layout(header.tensors).text_3
    found = t5_sizes(part_shapes(header, places))
    if found.width != context_width:
        raise CheckpointError(
            f"has a T5 text encoder {found.width} wide, where the transformer expects {context_width}; use T5 v1.1 XXL"
        )
    check_part(header, places, t5_tensors(found), "T5 text encoder")
    return found


def check_scaling(header: Header, scale: float) -> None:
    """Refuse a VAE whose configuration scales latents otherwise than its family.

    Raises:
        CheckpointError: as `check_complete`.
    """
    said = float(header.metadata.get(keys.SCALING_FACTOR, scale))
    if abs(said - scale) > 1e-4:
        raise CheckpointError(f"has a VAE with scaling_factor {said:g} in its config.json, where its U-Net expects {scale:g}")


def text_places(layout: Layout, encoder: TextPart) -> dict[str, Place]:
    """Where the tensors of a text encoder are, without a projection that the family does not read."""
    places = layout.part(encoder.part)
    return places if encoder.pooled else {name: place for name, place in places.items() if name != "text_projection.weight"}


def part_shapes(header: Header, places: Mapping[str, Place]) -> dict[str, tuple[int, ...]]:
    """The shapes of a part's tensors by our names."""
    return {name: shape_at(place, header.tensors[stored_name(place)].shape) for name, place in places.items()}


def check_together(encoders: Sequence[TextPart], numbers: int, texts: Sequence[sizes.TextSizes], unet: sizes.UNetSizes) -> None:
    """Refuse text encoders that are not CLIP's, or not as wide as the context and the vector that the U-Net expects.

    Raises:
        CheckpointError: as `check_complete`.
    """
    if any(text.vocabulary < VOCABULARY_SIZE or text.positions < WINDOW for text in texts):
        raise CheckpointError(
            "has a text encoder with another vocabulary than CLIP's; use an SD 1.x, SD 2.x or SDXL checkpoint"
        )
    width = sum(text.width for text in texts)
    if width != unet.context_dim:
        what = "text encoders" if len(texts) > 1 else "a text encoder"
        raise CheckpointError(f"has {what} {width} wide and a U-Net that expects {unet.context_dim}; use another file")
    pooled = sum(text.projection for encoder, text in zip(encoders, texts, strict=True) if encoder.pooled)
    vector = pooled + numbers * FEATURES
    if vector != unet.vector_width:
        raise CheckpointError(
            f"gives {vector} numbers of pooled text and sizes to a U-Net that expects {unet.vector_width}; use another file"
        )


def check_part(header: Header, names: Mapping[str, Place], wanted: Iterable[tuple[str, tuple[int, ...]]], part: str) -> None:
    """Refuse a part that lacks tensors, or has them otherwise than `wanted`.

    Raises:
        CheckpointError: as `check_complete`.
    """
    expected = dict(wanted)
    check_missing([name for name in expected if name not in names], part)
    for name, shape in expected.items():
        stored = stored_name(names[name])
        entry = header.tensors[stored]
        check_format(stored, entry.dtype)
        check_shape(stored, shape_at(names[name], entry.shape), shape)
        if scale := header.tensors.get(keys.scale_of(stored)):
            check_scale(keys.scale_of(stored), scale)


def check_scale(name: str, entry: TensorEntry) -> None:
    """Refuse the scale of an 8-bit weight that is not one floating-point number."""
    if entry.dtype not in ("F32", "F16", "BF16") or prod(entry.shape) != 1:
        size = "x".join(map(str, entry.shape)) or "1"
        raise CheckpointError(
            f"has the scale {name!r} of size {size} in {entry.dtype}, expected one number in F32; use another file"
        )


def check_missing(missing: list[str], part: str) -> None:
    """Refuse a part that lacks tensors."""
    if missing:
        raise CheckpointError(f"lacks {listed(missing)} of its {part}; the file is incomplete, use another one")


def check_format(name: str, dtype: str) -> None:
    """Refuse a tensor that is not stored as floating-point numbers."""
    if dtype not in FLOATS:
        raise CheckpointError(f"stores the tensor {name!r} as {dtype}, not as floating-point numbers; use another file")


def check_shape(name: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Refuse a tensor that is not stored in the shape that is wanted, see `sizes.same_numbers`."""
    if not sizes.same_numbers(stored, wanted):
        found, expected = "x".join(map(str, stored)), "x".join(map(str, wanted))
        raise CheckpointError(f"has the tensor {name!r} of size {found}, expected {expected}; use another file")


def listed(names: list[str]) -> str:
    """`names` for a message: how many, and the first three.

    >>> listed(["a", "b"])
    "2 tensors ('a', 'b')"
    """
    shown = ", ".join(repr(name) for name in names[:3])
    return f"{len(names)} tensors ({shown}{', ...' if len(names) > 3 else ''})" if len(names) > 1 else f"the tensor {shown}"
