"""Draw the README's sheet of prompts and what the starter makes of them: `python -m tests.ui.prompt_sheet [FILE]`.

Every picture is the first try: seed 7, and the checkpoint's own settings.
"""

from __future__ import annotations

import argparse
import tempfile
import textwrap
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from modules.catalogue import Catalogue
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.prompts.library import Library
from modules.settings import ROOT

PROMPTS = (
    *("a red apple", "a fox on a green background", "a cute penguin", "a rocket on a blue background", "a pink elephant"),
    *("a cat and a red car", "three green frogs", "a dog wearing a top hat", "a small duck", "a sailboat on the sea"),
)
SEED = 7
COLUMNS, EDGE, GAP, STRIP = 5, 256, 24, 56
PAPER, INK = (245, 245, 243), (36, 36, 36)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / ".github" / "prompts.png")
    file: Path = parser.parse_args().file
    folders = [ROOT / "models"]
    catalogue = Catalogue(folders, Library(None), lambda: "atelier-starter")
    with tempfile.TemporaryDirectory() as folder:
        manager = ModelManager(folders, torch.device("cpu"), torch.float32, sdpa, Path(folder) / "hashes.json")
        requests = [catalogue.complete({"prompt": prompt, "seed": SEED}) for prompt in PROMPTS]
        pictures = [Image.fromarray(run_reference(generate(stages_of(each)), manager).pixels.numpy()) for each in requests]

    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (EDGE + GAP) + GAP, rows * (EDGE + STRIP) + GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(20)
    for index, (prompt, picture) in enumerate(zip(PROMPTS, pictures, strict=True)):
        x, y = GAP + index % COLUMNS * (EDGE + GAP), GAP + index // COLUMNS * (EDGE + STRIP)
        sheet.paste(picture.resize((EDGE, EDGE), Image.Resampling.LANCZOS), (x, y))
        words = "\n".join(textwrap.wrap(prompt, 28))
        pen.multiline_text((x + EDGE // 2, y + EDGE + 8), words, INK, font, "ma", align="center")
    sheet.save(file, optimize=True)
    print(f"{file}: {file.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
