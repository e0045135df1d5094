"""The keys of A1111's text and the request's fields that they name, as the fields' declarations have them (`fields.About`).

Keys that A1111 has are spelled as it spells them; what only this program knows has keys in the same style, so that other
programs show and keep them.
"""

from __future__ import annotations

from modules.fields import infotext_keys
from modules.request import Img2Img

PROMPT = "Prompt"
NEGATIVE = "Negative prompt"
NEGATIVE_LINE = "Negative prompt:"

A1111_RNG = "GPU"
"""The random number source that a text without "RNG" means."""
ZERO_SNR = "Zero Terminal SNR"

EXTENSIONS = "Extensions"
"""Options of extensions, as one JSON object: text of our own."""
EXTENSIONS_KEPT = "Extensions not used"
"""The same of extensions that were not in use when the picture was made, with their versions."""
EXTENSION_VERSIONS = "Extension versions"
"""Of the extensions that it was made with; an extra, because a request does not say them."""

OPTIONS = infotext_keys(Img2Img, "options")
"""What is written where it is not at its default, in A1111's order; the last ones are not its own, but some are known from
extensions."""

SOFT_INPAINTING = infotext_keys(Img2Img, "soft inpainting")
"""A1111's script of that name; all of them are written, or none."""

INIT_HASH = "Init image hash"
"""A1111's MD5 of the source's pixels: an extra here, because nothing can be found by it."""

SOURCE = {"Source hash": "source", "Mask hash": "mask"}
"""The 64 digits under which the pictures are kept that it was painted from."""

OURS = infotext_keys(Img2Img, "picture options")
"""What A1111 does not write of a picture from a picture, or does not have."""

MASK_WEIGHT = "Conditional mask weight"
"""Of models that see the mask.  A1111 says it of every picture of one; as an extra it means that this is one."""

MASK = infotext_keys(Img2Img, "mask")
"""What is repainted."""

VAE = ("VAE hash", "VAE")
"""The file that the autoencoder comes from."""

HIRES_CHECKPOINT = "Hires checkpoint"
REFINER = "Refiner"
"""The checkpoint that goes on with the denoising loop; as an extra "name [hash]", as A1111 says it."""

CORE_KEYS = frozenset(
    {PROMPT, NEGATIVE, "Steps", "Sampler", "Schedule type", "CFG scale", "Image CFG scale", "Seed", "Size", "Size-1", "Size-2"}
    | {"Model hash", "Model", *VAE, "Clip skip", "Version", "Variation seed", "Variation seed strength", "ENSD", "RNG"}
    | {"Seed resize from", "Seed resize from-1", "Seed resize from-2", "Denoising strength", MASK_WEIGHT}
    | {EXTENSIONS, EXTENSIONS_KEPT, "Tiled Diffusion"}
    | OPTIONS.keys()
    | SOFT_INPAINTING.keys()
    | SOURCE.keys()
    | OURS.keys()
    | MASK.keys()
)
"""Keys that say something of the request; extras cannot take their place."""

EARLY_EXTRAS = ("Lora hashes", "Old prompt editing timelines", "TI hashes", "Emphasis")
"""Extras that A1111 says before the options of noise and sampler."""
