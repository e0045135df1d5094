"""Detection of a file's model family, by the names and shapes of its tensors, never by the file's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modules.checkpoints import keys
from modules.checkpoints.families import ldm
from modules.checkpoints.families.family import Family
from modules.checkpoints.families.flux import FLUX
from modules.checkpoints.families.foreign import COMPANIONS, DEPTH, OTHER_MODELS, UNCLIP, UNCLIP_WIDTHS, Foreign
from modules.checkpoints.families.sd1 import SD1
from modules.checkpoints.families.sd2 import SD2
from modules.checkpoints.families.sd3 import SD3
from modules.checkpoints.families.sdxl import SDXL
from modules.checkpoints.families.unet import UNetFamily
from modules.checkpoints.families.x4 import X4
from modules.errors import CheckpointError
from modules.hooks import HOOKS, Listing, hookimpl

Shapes = Mapping[str, tuple[int, ...]]


class _BuiltIn:
    @hookimpl
    def families(self) -> tuple[Family, ...]:
        return (*SD1, *SD2, *SDXL, *X4, *ldm.MEMBERS, *SD3, *FLUX)


FAMILIES: Listing[Family] = Listing(HOOKS, "families", "model family", lambda family: (family.name,))
"""Every family, those of extensions last."""

HOOKS.register(_BuiltIn(), "atelier.families", built_in=True)


def recognise(shapes: Shapes) -> Family:
    """The family of a file with these tensors.

    Raises:
        CheckpointError: it is none that this version paints with.  The message is the rest of a sentence that begins with the
            file's name: "is an SDXL checkpoint; ...".
    """
    shapes = {keys.canonical(name): shape for name, shape in shapes.items()}
    if found := next((family for family in FAMILIES if family.detects(shapes)), None):
        return found
    if other := ldm.other_form(shapes):
        raise CheckpointError(other)
    text = "\n" + "\n".join(shapes) + "\n"
    stem = shapes.get(keys.UNET + "input_blocks.0.0.weight")
    if stem is None or len(stem) != 4:
        raise CheckpointError(_what_else(text))
    for foreign in OTHER_MODELS:
        if any(mark in text for mark in foreign.marks):
            raise CheckpointError(f"is {foreign.what}; {foreign.advice}")
    if bare := _sd2_without_its_encoder(shapes, stem[1]):
        raise CheckpointError(f"is {bare.what}; {bare.advice}")
    if not any(name.startswith(keys.VAE) for name in shapes):
        raise CheckpointError("has no autoencoder (VAE): it is a U-Net alone; use a full checkpoint")
    known = [family for family in FAMILIES if isinstance(family, UNetFamily) and all(mark in shapes for mark in family.marks)]
    most = max(len(family.marks) for family in known)
    family = _with_stem([family for family in known if len(family.marks) == most], stem[1])
    for encoder in family.text:
        if not any(name.startswith(keys.PARTS[encoder.part]) for name in shapes):
            raise CheckpointError(f"has no {encoder.title}: it is only a part of a model; use a full checkpoint")
    return family


def _sd2_without_its_encoder(shapes: Shapes, channels: int) -> Foreign | None:
    """The relative of SD 2.x whose U-Net this is, where the file lacks the network of its own by which it would be known."""
    if keys.OPEN_CLIP_END not in shapes:
        return None
    vector = shapes.get(keys.UNET + "label_emb.0.0.weight", ())
    return DEPTH if channels == 5 else UNCLIP if len(vector) == 2 and vector[1] in UNCLIP_WIDTHS else None


def _with_stem(kind: Sequence[UNetFamily], channels: int) -> UNetFamily:
    for family in kind:
        if family.in_channels == channels:
            return family
    known = ", ".join(f"{family.in_channels} ({family.name})" for family in kind)
    raise CheckpointError(f"has a U-Net with {channels} input channels; this version knows {known}; choose another file")


def _what_else(text: str) -> str:
    """What a file without an ldm U-Net is; `text` holds its tensor names, one per line."""
    for foreign in (*COMPANIONS, *OTHER_MODELS):
        if any(mark in text for mark in foreign.marks):
            return f"is {foreign.what}; {foreign.advice}"
    if "decoder.conv_in.weight\n" in text or "encoder.conv_in.weight\n" in text:
        return "is a VAE alone; put it in the VAE folder of your models"
    if "\ninput_blocks.0.0.weight\n" in text:
        return "is a U-Net alone, without text encoder and VAE; use a full checkpoint"
    if "encoder.layers.0." in text or "encoder.block.0." in text or "resblocks.0." in text:
        return "is a text encoder alone; use a full checkpoint"
    first = text.strip().split("\n")[0][:60]
    known = "choose an SD 1.x, SD 2.x, SDXL, SD 3 or Flux checkpoint"
    return f"is not a model that this version knows (it holds tensors such as {first!r}); {known}"
