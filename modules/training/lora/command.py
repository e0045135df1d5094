"""``python -m modules.training lora``: a LoRA of a folder of captioned pictures, or of a built-in style.

Without options it makes the LoRA that ships, models/loras/atelier-outline.safetensors.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from modules.checkpoints.files import find
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.hashes import file_sha256
from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.errors import AtelierError, CheckpointError, RequestError
from modules.training.lora import export, sheets
from modules.training.lora.data import Example, buckets, read_folder
from modules.training.lora.files import need_space
from modules.training.lora.network import Shape, new_adapter
from modules.training.lora.prompts import drawn_prompts
from modules.training.lora.styles import STYLES, make_folder
from modules.training.lora.training import Recipe, Trainer, encode, prepare_attention

MODEL = Path("models/atelier-starter.safetensors")
SHIPPED = "outline"

OF_DATA: Mapping[str, Any] = {"rank": 16, "conv_rank": 0, "steps": 1500, "batch": 2, "rate": 1e-4}
"""What is usual for Stable Diffusion 1.5."""
OF_STYLE: Mapping[str, Any] = {"rank": 4, "conv_rank": 5, "steps": 400, "batch": 4, "rate": 1.5e-3}
"""What the starter, a seventieth of its size, learns a style with; as much as a file of a megabyte holds."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the stage."""
    parser.description = __doc__
    parser.add_argument("--model", type=Path, default=MODEL, help="SD 1.x checkpoint (default: %(default)s)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--data", type=Path, help="folder of pictures, each with its caption in a .txt of the same name")
    what.add_argument("--style", choices=STYLES, help=f"a built-in style, of pictures that the checkpoint paints ({SHIPPED})")
    parser.add_argument("--out", type=Path, help="file to write (models/loras/NAME.safetensors)")
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run with the same options stopped")

    data = parser.add_argument_group("pictures")
    data.add_argument("--caption", default="", help="of pictures of --data that have no text file")
    data.add_argument("--repeats", type=_count, default=1, help="how often an epoch has each picture (%(default)s)")
    data.add_argument("--no-buckets", action="store_true", help="crop every picture to the model's own size")
    data.add_argument("--pictures", type=_count, default=128, help="how many a style is learnt from (%(default)s)")
    data.add_argument("--prompts", type=Path, help="text file of what a style's pictures show, one a line")
    data.add_argument("--paint-steps", type=_count, default=14, help="sampling steps of these (%(default)s)")

    shape = parser.add_argument_group("adapter", "defaults: of --data; of --style")
    shape.add_argument("--rank", type=int, help="of attention and feed-forward layers (16; 4)")
    shape.add_argument("--alpha", type=float, help="the change is scaled by alpha / rank (the rank)")
    shape.add_argument("--conv-rank", type=int, help="of residual blocks and resampling, 0 for none (0; 5)")
    shape.add_argument("--conv-alpha", type=float, help="as --alpha (the rank)")
    shape.add_argument("--text-encoder", action="store_true", help="train the text encoder's layers too")

    recipe = parser.add_argument_group("training")
    recipe.add_argument("--steps", type=_count, help="(1500; 400)")
    recipe.add_argument("--batch", type=_count, help="pictures of a step (2; 4)")
    recipe.add_argument("--rate", type=float, help="peak learning rate (1e-4; 1.5e-3)")
    recipe.add_argument("--text-rate", type=float, default=5e-5, help="of the text encoder (%(default)s)")
    recipe.add_argument("--warmup", type=int, default=50, help="steps until the peak (%(default)s)")
    recipe.add_argument("--min-snr", type=float, default=5.0, help="gamma of the loss's weights, 0 for none (%(default)s)")
    recipe.add_argument("--caption-dropout", type=float, default=0.1, help="share of empty captions (%(default)s)")
    recipe.add_argument("--noise-offset", type=float, default=0.0, help="wandering of the noise's mean (%(default)s)")
    recipe.add_argument("--seed", type=int, default=1)
    recipe.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="auto is bf16 on CUDA")
    recipe.add_argument("--device", help="cuda or cpu (cuda where there is one)")
    recipe.add_argument("--threads", type=_count, help="of a CPU")

    card = parser.add_argument_group("the file's card")
    card.add_argument("--title", help="(the file's name)")
    card.add_argument("--trigger", help="words that its captions have in common")
    card.add_argument("--license", default="", help="of the pictures")
    card.add_argument("--sheet", type=Path, help="paint a sheet of pictures at weights 0, 0.5 and 1 into this PNG")
    card.add_argument("--preview", metavar="PROMPT", help="paint NAME.preview.png beside the file")


def run(options: argparse.Namespace) -> None:
    """Train, write the file, and exit with a sentence where that cannot be done."""
    try:
        train(options)
    except AtelierError as error:
        sys.exit(f"error: {error}")


def train(options: argparse.Namespace, say: Callable[[str], None] = lambda line: print(line, flush=True)) -> Trainer:
    """The stage itself."""
    options = _completed(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    model, digest = _model(options)
    bf16 = options.precision == "bf16" or (options.precision == "auto" and model.device.type == "cuda")
    shape = Shape(options.rank, options.alpha, options.conv_rank, options.conv_alpha, options.text_encoder)
    adapter = new_adapter(model, shape, options.seed)
    need_space(options.out.parent, export.expected_size(adapter))
    need_space(options.work, export.expected_size(adapter))

    examples = _examples(options, model, say)
    size = model.info.defaults.width, model.info.defaults.height
    step = model.latent.factor * 2 ** (len(model.denoiser.unet.config.channels) - 1)  # type: ignore[attr-defined]
    data = encode(model, examples, [size] if options.no_buckets else buckets(*size, step), bf16, say)
    recipe = Recipe(
        options.steps, options.batch, options.rate, options.text_rate, options.warmup, options.min_snr,
        options.caption_dropout, options.noise_offset, options.seed, bf16,
    )  # fmt: skip
    facts = {"model": digest, "data": _fingerprint(examples), "adapter": str(shape), "recipe": str(replace(recipe, steps=0))}
    trainer = Trainer(model, adapter, data, recipe, options.work / f"{options.out.stem}.state.pt", facts, say)
    if options.resume and trainer.resume():
        say(f"going on at step {trainer.step}")
    numbers = sum(tensor.numel() for tensor in adapter.state().values())
    say(f"{len(examples)} pictures, {len(adapter.paths)} layers, {numbers:,} numbers in training")
    trainer.run()

    written = export.write(trainer, options.out, _card(options))
    say(f"{options.out}: {written:,} bytes after {trainer.step} steps in {trainer.seconds / 60:.1f} minutes of training")
    sheets.paint_extras(trainer, options.out, options.sheet, options.preview, say)
    return trainer


def _completed(options: argparse.Namespace) -> argparse.Namespace:
    """With the defaults that depend on what is trained.

    Raises:
        RequestError: a number makes no sense.
    """
    filled = argparse.Namespace(**vars(options))
    if not filled.data and not filled.style:
        filled.style = SHIPPED
    for name, value in (OF_STYLE if filled.style else OF_DATA).items():
        if getattr(filled, name) is None:
            setattr(filled, name, value)
    filled.alpha = filled.rank if filled.alpha is None else filled.alpha
    filled.conv_alpha = filled.conv_rank if filled.conv_alpha is None else filled.conv_alpha
    if filled.rank < 0 or filled.conv_rank < 0 or filled.rank + filled.conv_rank == 0:
        raise RequestError("--rank and --conv-rank: one of them must be above 0, and none below")
    if filled.text_encoder and not filled.rank:
        raise RequestError("--text-encoder needs a --rank above 0")
    for name, low, high in (("rate", 0.0, 1.0), ("text_rate", 0.0, 1.0), ("caption_dropout", 0.0, 1.0)):
        if not low <= getattr(filled, name) <= high:
            raise RequestError(
                f"--{name.replace('_', '-')}: {getattr(filled, name)} was given, it must be from {low:g} to {high:g}"
            )
    for name in ("alpha", "conv_alpha", "min_snr", "noise_offset", "warmup"):
        if not 0.0 <= getattr(filled, name) < 1e6:
            raise RequestError(f"--{name.replace('_', '-')}: {getattr(filled, name)} was given, it must not be negative")
    name = f"atelier-{filled.style}" if filled.style else filled.data.resolve().name
    filled.out = filled.out or Path("models/loras") / f"{name}.safetensors"
    if filled.out.suffix != ".safetensors":
        raise RequestError(f"--out: {filled.out.name} must end in .safetensors")
    return filled


def _model(options: argparse.Namespace) -> tuple[ModelHandle, str]:
    """The checkpoint and its sha256.

    Raises:
        RequestError, CheckpointError: there is no such file, or it is not one of SD 1.x.
    """
    path: Path = options.model
    if not path.is_file():
        raise RequestError(f"--model: {path} is not here; give a checkpoint of Stable Diffusion 1.x as .safetensors")
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device: cuda was asked for, and torch finds no CUDA device; leave the option out for the CPU")
    hashes = options.work / "hashes.json"
    options.work.mkdir(parents=True, exist_ok=True)
    info = find([path.parent], path.stem)
    if info.problem:
        raise CheckpointError(f"--model: {info.problem}")
    if info.family != "sd1":
        raise CheckpointError(
            f"--model: {path.name} is of the family {info.family}; LoRAs are trained here for Stable Diffusion 1.x checkpoints "
            "that paint from text alone (sd1): choose one of those"
        )
    model = ModelManager([path.parent], device, torch.float32, sdpa, hashes).load(info.name)
    prepare_attention(model.denoiser.unet, device)  # type: ignore[attr-defined]
    return model, file_sha256(path, hashes)


def _examples(options: argparse.Namespace, model: ModelHandle, say: Callable[[str], None]) -> list[Example]:
    if options.data:
        return read_folder(options.data, options.caption, options.repeats)
    if options.prompts:
        try:
            lines = [line.strip() for line in options.prompts.read_text("utf-8-sig").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise RequestError(f"--prompts: {options.prompts} cannot be read ({error})") from None
        if not lines:
            raise RequestError(f"--prompts: {options.prompts} is empty; write one prompt a line")
        prompts = [lines[index % len(lines)] for index in range(options.pictures)]
    else:
        prompts = drawn_prompts(model.info, options.pictures, options.seed)
    bf16 = options.precision == "bf16"
    folder = make_folder(model, STYLES[options.style], prompts, options.seed, options.work, options.paint_steps, bf16, say)
    return read_folder(folder, repeats=options.repeats)


def _fingerprint(examples: list[Example]) -> str:
    """Of captions and pictures, in their order: twelve digits."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{example.path.name}\0{example.caption}\0{example.repeats}\0".encode())
        digest.update(hashlib.sha256(example.path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _card(options: argparse.Namespace) -> export.Card:
    trigger = options.trigger
    if trigger is None:
        trigger = STYLES[options.style].trigger if options.style else ""
    usage = f"<lora:{options.out.stem}:1>" + (f" with the words {trigger!r}" if trigger else "")
    return export.Card(
        title=options.title or options.out.stem,
        trigger=trigger,
        usage=f"Write {usage} into the prompt; a lower weight for less of it.",
        description=STYLES[options.style].describe if options.style else "",
        license=options.license,
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} was given, it must be at least 1")
    return value
