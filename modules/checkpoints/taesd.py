"""TAESD files: tiny decoders and encoders in the models folders, and which of them goes with a checkpoint's latents.

No torch: the web process lists them, and refuses a request that asks for one that is not here.  A file holds a decoder, an
encoder or both, under the layer numbers of their sequences (`diffusion.taesd`), with or without `taesd_decoder.` in front, or
under the names of diffusers' AutoencoderTiny.  Whether it is for SD 1.x or SDXL is told by its name alone, "xl", and whether
for SD 3 or Flux.1 by "sd3": shapes are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from modules.checkpoints.completeness import check_format, check_missing, check_shape
from modules.checkpoints.folders import files_below
from modules.checkpoints.header import Header, read_header
from modules.errors import CheckpointError, RequestError

if TYPE_CHECKING:
    from modules.checkpoints.families.parts import LatentFormat

Half = Literal["decoder", "encoder"]
HALVES: tuple[Half, ...] = ("decoder", "encoder")

FOLDERS = frozenset(("vae_approx", "vae-approx", "taesd"))
"""ComfyUI's, A1111's and our own name of the folder."""
SUFFIX = ".safetensors"

CHANNELS, MORE_CHANNELS = 4, 16
"""Channels of the latents of SD 1.x, 2.x and SDXL; of SD 3 and Flux."""
FILE_NAMES = {"SD 1.x": "taesd", "SDXL": "taesdxl", "SD 3": "taesd3", "Flux": "taef1"}
"""How the published files begin that are for a latent space (`LatentFormat.preview`)."""

_DECODER_BLOCKS, _DECODER_PLAIN = (3, 4, 5, 8, 9, 10, 13, 14, 15, 18), (7, 12, 17)
_ENCODER_BLOCKS, _ENCODER_PLAIN = (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), (2, 6, 10)
_DIFFUSERS = re.compile(r"(?:decoder|encoder)\.layers\.(\d{1,2})\.(.+)")


@dataclass(frozen=True)
class TinyInfo:
    """A TAESD file: `name` is its path below the folder that it is in; `latent` names the latents that it is for as
    `LatentFormat.preview` does; `problem` is a sentence that names the file, empty when it is usable."""

    name: str
    path: Path
    latent: str
    halves: tuple[Half, ...] = ()
    problem: str = ""


def scan_taesd(folders: Sequence[Path]) -> list[TinyInfo]:
    """All files in folders `vae_approx` and `taesd` of the models folders, in the order in which they are chosen."""
    found = []
    for folder in folders:
        for path in files_below([folder], FOLDERS, (SUFFIX,)):
            try:
                found.append(described_taesd(path, "/".join(path.relative_to(folder).parts[1:])))
            except OSError:
                continue  # it went away meanwhile
    return found


def described_taesd(path: Path, name: str = "") -> TinyInfo:
    """What `scan_taesd` says of the file at `path`, which is called `name` below its folder.

    Raises:
        OSError: it is gone.
    """
    status = path.stat()
    name = name or path.name
    halves, problem, channels = _described(str(path), status.st_size, status.st_mtime_ns, status.st_ino)
    latent = "SDXL" if "xl" in name.casefold() else "SD 1.x"
    if channels == MORE_CHANNELS:
        latent = "SD 3" if "sd3" in name.casefold() else "Flux"
    return TinyInfo(name, path, latent, halves, problem)


def taesd_for(folders: Sequence[Path], latent: LatentFormat, half: Half) -> TinyInfo:
    """The file with this half of a TAESD for these latents.

    Raises:
        RequestError: there is none; the message says which file to put where.
        CheckpointError: the only one cannot be used; the message names the file.
    """
    if latent.preview not in FILE_NAMES:
        raise RequestError(f"vae_{half}: TAESD was asked for, but there is none for this checkpoint's latents; choose Full")
    fitting = [info for info in scan_taesd(folders) if info.latent == latent.preview]
    for info in fitting:
        if half in info.halves:
            return info
    if broken := next((info for info in fitting if info.problem), None):
        raise CheckpointError(f"vae_{half}: TAESD was asked for, but {broken.problem}")
    file = f"{FILE_NAMES[latent.preview]}_{half}{SUFFIX}"
    raise RequestError(
        f"vae_{half}: TAESD was asked for, but no {half} of it for {latent.preview} is here; put {file} into the folder "
        "vae_approx of your models folder, or choose Full"
    )


def fitting_decoder(folders: Sequence[Path], latent: LatentFormat) -> TinyInfo | None:
    """The file with the decoder for these latents, None where there is no usable one."""
    usable = (info for info in scan_taesd(folders) if info.latent == latent.preview and "decoder" in info.halves)
    return next(usable, None)


def places(header: Header, half: Half) -> dict[str, str]:
    """Where the tensors of a half are in a file, by their names in `diffusion.taesd`; empty where it is not there."""
    found: dict[str, str] = {}
    for name in header.tensors:
        if name.startswith(f"taesd_{half}."):
            found[name.removeprefix(f"taesd_{half}.")] = name
        elif name.startswith(f"{half}.layers.") and (theirs := _DIFFUSERS.fullmatch(name)):
            found[f"{int(theirs[1]) + (half == 'decoder')}.{theirs[2]}"] = name  # their clamp is no layer
        elif name[:1].isdigit() and ("0.weight" in header.tensors) == (half == "encoder"):
            found[name] = name
    return found


def channels_of(header: Header, half: Half) -> int:
    """Channels of the latents of a half that is there."""
    name, axis = ("1.weight", 1) if half == "decoder" else ("14.weight", 0)
    stored = places(header, half).get(name, "")
    shape = header.tensors[stored].shape if stored else ()
    return shape[axis] if len(shape) == 4 else CHANNELS


def _wanted(half: Half, channels: int) -> Mapping[str, tuple[int, ...]]:
    blocks, plain, last = (_DECODER_BLOCKS, _DECODER_PLAIN, 19) if half == "decoder" else (_ENCODER_BLOCKS, _ENCODER_PLAIN, 14)
    first, incoming, out = (1, channels, 3) if half == "decoder" else (0, 3, channels)
    wanted: dict[str, tuple[int, ...]] = {f"{first}.weight": (64, incoming, 3, 3), f"{first}.bias": (64,)}
    for number in blocks:
        for layer in (0, 2, 4):
            wanted |= {f"{number}.conv.{layer}.weight": (64, 64, 3, 3), f"{number}.conv.{layer}.bias": (64,)}
    wanted |= {f"{number}.weight": (64, 64, 3, 3) for number in plain}
    return {**wanted, f"{last}.weight": (out, 64, 3, 3), f"{last}.bias": (out,)}


@lru_cache(maxsize=256)
def _described(path_text: str, *identity: int) -> tuple[tuple[Half, ...], str, int]:
    """The halves that are there, what is wrong, and the channels of the latents."""
    path = Path(path_text)
    try:
        header = read_header(path)
        try:
            halves = tuple(_checked(header))
            return halves, "", channels_of(header, halves[0])
        except CheckpointError as error:
            raise CheckpointError(f"{path.name} {error}") from None
    except CheckpointError as error:
        return (), str(error), CHANNELS


def _checked(header: Header) -> Iterator[Half]:
    """The halves of a TAESD that a file holds, each whole."""
    there: list[Half] = [half for half in HALVES if places(header, half)]
    if not there:
        raise CheckpointError(
            "is no TAESD: there is neither its decoder nor its encoder in it; put it into the folder of its own kind"
        )
    for half in there:
        names, channels = places(header, half), channels_of(header, half)
        wanted = _wanted(half, channels)
        check_missing([name for name in wanted if name not in names], f"TAESD {half}")
        for name, shape in wanted.items():
            entry = header.tensors[names[name]]
            check_format(names[name], entry.dtype)
            check_shape(names[name], entry.shape, shape)
        if channels not in (CHANNELS, MORE_CHANNELS):
            raise CheckpointError(
                f"is a TAESD for latents of {channels} channels, which no checkpoint has that this version paints with; "
                "choose one for SD 1.x, SDXL, SD 3 or Flux"
            )
        if stranger := next((name for name in names if name not in wanted), None):
            raise CheckpointError(f"is a TAESD of another form, with the tensor {stranger!r}; choose one for SD 1.x or SDXL")
        yield half
