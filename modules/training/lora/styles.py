"""Built-in styles: filters that turn a picture into one in another style, and folders of pictures made with them.

The pictures come from the checkpoint itself, so nothing has to be downloaded, and what is trained differs from what the
checkpoint paints in the style alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from modules.checkpoints.handle import ModelHandle
from modules.pixels import Floats, Picture
from modules.training.lora.files import write_whole
from modules.training.lora.painting import paint

PAPER, INK = 255.0, 22.0
NIGHT = (14.0, 12.0, 34.0)
CELLS = 32
"""Rows and columns of a picture in pixel art."""
PALETTE = 24
"""Colours of one."""


def outline(picture: Picture) -> Picture:
    """A drawing in ink: dark lines of even width along the edges, white paper everywhere else."""
    lines = _lines(picture)[..., None]
    return _bytes((PAPER * (1 - lines) + INK * lines).repeat(3, axis=2))


def neon(picture: Picture) -> Picture:
    """Lines along the edges in the pictures' colours at full brightness, on a dark ground."""
    lines, colours = _lines(picture)[..., None], picture.astype(np.float32)
    bright = colours * (255 / np.maximum(colours.max(axis=2, keepdims=True), 1))
    return _bytes(lines * bright + (1 - lines) * np.array(NIGHT, np.float32))


def pixel(picture: Picture) -> Picture:
    """Pixel art: the mean of each of `CELLS` x `CELLS` blocks, in a palette of `PALETTE` colours."""
    image = Image.fromarray(picture)
    small = image.resize((CELLS, CELLS), Image.Resampling.BOX).quantize(PALETTE, dither=Image.Dither.NONE).convert("RGB")
    return np.asarray(small.resize(image.size, Image.Resampling.NEAREST))


@dataclass(frozen=True)
class Style:
    """A filter, and the words that captions get in addition to what a picture shows."""

    name: str
    apply: Callable[[Picture], Picture]
    trigger: str
    describe: str


STYLES: Mapping[str, Style] = {
    style.name: style
    for style in (
        Style("outline", outline, "ink outline drawing", "Ink drawings: dark lines on white paper, as in a colouring book."),
        Style("pixel", pixel, "pixel art", f"Pixel art of {CELLS} by {CELLS} cells."),
        Style("neon", neon, "neon outline", "Glowing lines in the motif's colours on a dark ground."),
    )
}


def make_folder(
    model: ModelHandle,
    style: Style,
    prompts: Sequence[str],
    seed: int,
    work: Path,
    steps: int,
    bf16: bool,
    say: Callable[[str], None],
) -> Path:
    """A folder below `work` of `prompts` as pictures in `style`, with captions.  What an earlier call painted is used again.

    The pictures as the checkpoint painted them stand beside it in "painted".
    """
    painted, styled = work / "painted", work / style.name
    named = [f"{number:04d}" for number in range(len(prompts))]
    missing = [number for number, prompt in enumerate(prompts) if _text(painted / f"{named[number]}.txt") != prompt]
    if missing:
        say(f"painting {len(missing)} of {len(prompts)} pictures to learn from")
    seeds = [seed * 10_000 + number for number in missing]
    pictures = paint(model, [prompts[number] for number in missing], seeds, steps=steps, bf16=bf16)
    for number, picture in zip(missing, pictures, strict=True):
        _write(painted / f"{named[number]}.png", picture)
        write_whole(painted / f"{named[number]}.txt", prompts[number].encode())
    for stale in styled.glob("*.*"):
        if stale.stem not in named:
            stale.unlink()
    for name, prompt in zip(named, prompts, strict=True):
        with Image.open(painted / f"{name}.png") as image:
            _write(styled / f"{name}.png", style.apply(np.asarray(image)))
        write_whole(styled / f"{name}.txt", f"{prompt}, {style.trigger}".encode())
    return styled


def _lines(picture: Picture) -> Floats:
    """How much of each pixel (H, W) is line, 0 to 1: where the smoothed picture changes fast, widened and smoothed again."""
    unit = min(picture.shape[:2]) / 256
    smooth = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(1.5 * unit))).astype(np.float32)
    reach = max(1, round(unit))
    padded = np.pad(smooth, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    across = np.abs(padded[reach:-reach, 2 * reach :] - padded[reach:-reach, : -2 * reach]).max(axis=2)
    down = np.abs(padded[2 * reach :, reach:-reach] - padded[: -2 * reach, reach:-reach]).max(axis=2)
    edges = Image.fromarray(((np.hypot(across, down) > 14) * 255).astype(np.uint8))
    soft = np.asarray(edges.filter(ImageFilter.GaussianBlur(1.2 * unit))).astype(np.float32)
    lines: Floats = np.clip((soft - 70) / 90, 0, 1)
    return lines


def _bytes(values: Floats) -> Picture:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _write(path: Path, picture: Picture) -> None:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    write_whole(path, data.getvalue())


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
