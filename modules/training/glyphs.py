"""Glyphs of a colour emoji font as pixels, and the recoloured variants of those with a dominant colour.

The trainer was made for Noto Color Emoji (Google, SIL Open Font License 1.1; Debian's package `fonts-noto-color-emoji`), whose
CBDT table holds bitmaps of 136x128 pixels.
"""

from __future__ import annotations

import colorsys
import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from modules.errors import SettingsError
from modules.training.motifs import MOTIFS
from modules.training.recolour import analyse, recolour
from modules.training.scenes import Variant, variants

Bytes = npt.NDArray[np.uint8]

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
FONT_SIZE = 109  # the size that addresses the font's bitmaps
EDGE = 136  # px, the edge of a glyph here: about what the font has


def read_glyphs(font: Path = FONT, names: Sequence[str] = tuple(MOTIFS)) -> dict[str, Tensor]:
    """Glyphs (4, 136, 136) in [0, 1] by motif, RGBA with premultiplied alpha.

    Raises:
        SettingsError: there is no such font, or it has no glyph for a motif.
    """
    if not font.exists():
        raise SettingsError(f"{font} is missing; install it (apt install fonts-noto-color-emoji) or name another with --font.")
    try:
        face = ImageFont.truetype(str(font), FONT_SIZE)
    except OSError as error:
        raise SettingsError(
            f"{font} is no font with glyphs of {FONT_SIZE} pixels ({error}); name another with --font."
        ) from error
    return {name: _glyph(face, MOTIFS[name].emoji, name) for name in names}


def drawn_glyphs(names: Sequence[str]) -> dict[str, Tensor]:
    """Stand-ins as `read_glyphs` gives them, without a font: a polygon of its own form and colour for every motif."""
    made = {}
    for number, name in enumerate(names):
        corners, turn = 3 + number % 7, 0.7 * number
        hue = (number * 0.618) % 1
        red, green, blue = (round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.75, 0.85))
        points = [
            (EDGE / 2 * (1 + r * math.cos(turn + a)), EDGE / 2 * (1 + r * math.sin(turn + a)))
            for k in range(2 * corners)
            for a, r in [(math.pi * k / corners, 1.0 if k % 2 else 0.4 + 0.5 * (number % 3) / 3)]
        ]
        picture = Image.new("RGBA", (EDGE, EDGE), (0, 0, 0, 0))
        ImageDraw.Draw(picture).polygon(points, fill=(red, green, blue, 255))
        made[name] = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).float() / 255
    return made


def _glyph(face: ImageFont.FreeTypeFont, emoji: str, name: str) -> Tensor:
    """What is painted, in the middle of a square, scaled to `EDGE`.

    FreeType gives embedded bitmaps with premultiplied colours and Pillow hands them on in an RGBA picture as they are, so the
    channels are scaled each by itself. To take them for straight alpha would multiply twice: dark fringes.
    """
    sheet = Image.new("RGBA", (3 * EDGE, EDGE + 24), (0, 0, 0, 0))
    ImageDraw.Draw(sheet).text((12, 12), emoji, font=face, embedded_color=True)
    box = sheet.getbbox()
    if box is None:
        raise SettingsError(f"{face.path!s} has no glyph for {name!r}; name Noto Color Emoji with --font.")
    painted = np.asarray(sheet.crop(box))
    height, width = painted.shape[:2]
    edge = max(height, width)
    square = np.zeros((edge, edge, 4), np.uint8)
    top, left = (edge - height) // 2, (edge - width) // 2
    square[top : top + height, left : left + width] = painted
    scaled = [
        np.asarray(Image.fromarray(square[..., channel]).resize((EDGE, EDGE), Image.Resampling.LANCZOS)) for channel in range(4)
    ]
    glyph = torch.from_numpy(np.stack(scaled)).float() / 255
    glyph[:3] = torch.minimum(glyph[:3], glyph[3:])  # what ringing of the filter may have left above the alpha
    return glyph


def coloured_glyphs(glyphs: dict[str, Tensor], coloured: Collection[str] | None = None) -> tuple[list[Variant], Tensor]:
    """Variants of the motifs, and their glyphs (N, 4, E, E) as bytes, premultiplied, in the same order.

    `coloured` names the motifs that are wanted in other colours than their own, None means all that have them.

    Raises:
        SettingsError: a glyph that is to be recoloured has no dominant colour in this font.
    """
    order = [(name, c) for name, c in variants(list(glyphs)) if c is None or coloured is None or name in coloured]
    made: dict[Variant, Tensor] = {(name, None): glyph for name, glyph in glyphs.items()}
    wanted: dict[str, list[str]] = defaultdict(list)
    for name, colour in order:
        if colour is not None:
            wanted[name].append(colour)
    for name, colours in wanted.items():
        glyph = glyphs[name]
        straight = (glyph[:3] / glyph[3:].clamp_min(1 / 255)).clamp(0, 1)
        dominant = analyse(straight, glyph[3])
        if dominant is None:
            raise SettingsError(f"The font's {name!r} has no dominant colour to replace; name Noto Color Emoji with --font.")
        for colour, rgb in zip(colours, recolour(straight, dominant, colours), strict=True):
            made[name, colour] = torch.cat([rgb * glyph[3:], glyph[3:]])
    return order, torch.stack([made[variant] for variant in order]).mul(255).round().byte()
