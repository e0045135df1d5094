"""Pictures to judge a trained adapter by: a sheet of prompts by weights, and the preview that stands beside its file."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from modules.pixels import Picture
from modules.training.lora.files import write_whole
from modules.training.lora.painting import paint
from modules.training.lora.prompts import drawn_prompts
from modules.training.lora.training import Trainer

WEIGHTS = (0.0, 0.5, 1.0)
PROMPTS = 12
PREVIEW_BYTES = 60_000


def sheet(trainer: Trainer, prompts: Sequence[str], file: Path, bf16: bool = False) -> None:
    """A row for each of `WEIGHTS`, a column for each prompt, one seed for all."""
    rows = [_paint(trainer, prompts, weight, bf16) for weight in WEIGHTS]
    write_whole(file, _png(Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))))


def preview(trainer: Trainer, prompt: str, file: Path, bf16: bool = False) -> None:
    """One picture at weight 1, in as many colours as `PREVIEW_BYTES` allow."""
    image = Image.fromarray(_paint(trainer, [prompt], 1.0, bf16)[0])
    data = _png(image)
    for colours in (256, 64, 16):
        if len(data) > PREVIEW_BYTES:
            data = _png(image.quantize(colours, dither=Image.Dither.NONE))
    write_whole(file, data)


def paint_extras(trainer: Trainer, file: Path, sheet_file: Path | None, prompt: str | None, say: Callable[[str], None]) -> None:
    """The sheet and the preview that were asked for; half of the sheet's prompts are none of the training's."""
    bf16 = trainer.recipe.bf16
    if prompt:
        preview(trainer, prompt, file.with_suffix(".preview.png"), bf16)
        say(f"{file.with_suffix('.preview.png').name} shows {prompt!r}")
    if sheet_file:
        info = trainer.model.info
        own = list(dict.fromkeys(example.caption.rpartition(", ")[0] or example.caption for example in trainer.data.examples))
        others = drawn_prompts(info, PROMPTS, trainer.recipe.seed + 1) if info.motifs or info.prompts else own
        prompts = [*own[: PROMPTS // 2], *others][:PROMPTS]
        sheet(trainer, prompts, sheet_file, bf16)
        say(f"{sheet_file}: weights {', '.join(map(str, WEIGHTS))} from top to bottom, of {'; '.join(prompts)}")


def _paint(trainer: Trainer, prompts: Sequence[str], weight: float, bf16: bool) -> list[Picture]:
    return list(paint(trainer.model, prompts, range(1, len(prompts) + 1), trainer.adapter.parts, weight, bf16=bf16))


def _png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return data.getvalue()
