"""Whether the networks in a file are whole and go together: what loading would refuse, found by the header alone.

No torch and no tensor is read: the web process lists with it, so that the list says what painting would say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from modules.checkpoints import keys, sizes
from modules.checkpoints.header import Header
from modules.errors import CheckpointError
from modules.prompts.chunks import WINDOW
from modules.prompts.tokenizer import VOCABULARY_SIZE

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
"""Number formats in which weights may be stored."""


def check_complete(header: Header) -> None:
    """Refuse an SD 1.x checkpoint whose networks are not whole.

    Raises:
        CheckpointError: the message is the rest of a sentence that begins with the file's name.
    """
    layout = keys.layout(header.tensors)
    parts = {"U-Net": layout.unet, "VAE": layout.vae, "text encoder": layout.text}
    shapes = {part: {name: header.tensors[stored].shape for name, stored in names.items()} for part, names in parts.items()}
    unet, text = sizes.unet_sizes(shapes["U-Net"]), sizes.text_sizes(shapes["text encoder"])
    vae = sizes.vae_sizes(shapes["VAE"])
    check_together(text, unet.context_dim)
    _check_part(header, layout.unet, sizes.unet_tensors(unet), "U-Net")
    _check_part(header, layout.vae, sizes.vae_tensors(vae), "VAE")
    _check_part(header, layout.text, sizes.text_tensors(text), "text encoder")


def check_together(text: sizes.TextSizes, context_dim: int) -> None:
    """Refuse a text encoder that is not CLIP's, or not as wide as the context that the U-Net attends to.

    Raises:
        CheckpointError: as `check_complete`.
    """
    if text.vocabulary < VOCABULARY_SIZE or text.positions < WINDOW:
        raise CheckpointError("has a text encoder with another vocabulary than CLIP's; use an SD 1.x checkpoint")
    if text.width != context_dim:
        raise CheckpointError(f"has a text encoder {text.width} wide and a U-Net that expects {context_dim}; use another file")


def _check_part(header: Header, names: Mapping[str, str], wanted: Iterator[tuple[str, tuple[int, ...]]], part: str) -> None:
    expected = dict(wanted)
    check_missing([name for name in expected if name not in names], part)
    for name, shape in expected.items():
        entry = header.tensors[names[name]]
        check_format(names[name], entry.dtype)
        check_shape(names[name], entry.shape, shape)


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
