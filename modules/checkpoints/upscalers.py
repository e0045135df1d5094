"""Upscaler files: super-resolution networks in the models folders, by name, and what their tensors make of them.  No torch.

A file is known by the names and shapes of its tensors, as spandrel knows it: RRDBNet under ESRGAN's first names
(`model.1.sub.0.RDB1.conv1.0.weight`), BasicSR's (`body.0.rdb1.conv1.weight`) or those in between (`RRDB_trunk`), and
SRVGGNetCompact (`body.0.weight`, `body.1.weight`).  Only safetensors are opened; a `.pth` is made into one by the tool
"convert".
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from pathlib import Path
from typing import Any, Literal, cast, get_args

from modules.checkpoints.completeness import check_format, check_missing, check_shape
from modules.checkpoints.folders import files_below
from modules.checkpoints.header import Header, read_header
from modules.diffusion.upscaler_config import Activation, CompactConfig, RRDBConfig
from modules.errors import CheckpointError, UnknownName
from modules.pixels.enlarging import UPSCALERS

FOLDERS = frozenset(("esrgan", "realesrgan", "upscale_models", "upscalers"))
"""A1111's, ComfyUI's and our own names of the folder."""
SUFFIX = ".safetensors"

NONE = "None"
"""A1111's name of no upscaler."""

ALIASES = {
    "ESRGAN_4x": ("ESRGAN_4x", "ESRGAN"),
    "R-ESRGAN 4x+": ("RealESRGAN_x4plus",),
    "R-ESRGAN 4x+ Anime6B": ("RealESRGAN_x4plus_anime_6B",),
    "R-ESRGAN 2x+": ("RealESRGAN_x2plus",),
    "R-ESRGAN General 4xV3": ("realesr-general-x4v3",),
    "R-ESRGAN General WDN 4xV3": ("realesr-general-wdn-x4v3",),
    "R-ESRGAN AnimeVideo": ("realesr-animevideov3",),
}
"""A1111's names of upscalers that it downloads, and how the published files are called
(`realesrgan_model.get_realesrgan_models`, v1.10.1)."""

MOST = {"features": 512, "growth": 256, "blocks": 128, "convs": 256, "doublings": 4, "scale": 16}
"""Of a network: what is larger is no upscaler that was published, and would ask for absurd amounts of memory."""

_PREFIXES = ("params_ema.", "params.", "model_ema.", "module.", "netG.", "generator.")
"""Of all names in files that were wrapped or trained on several devices."""

Kind = Literal["ESRGAN", "ESRGAN+", "Real-ESRGAN compact", "spandrel"]


@dataclass(frozen=True)
class UpscalerInfo:
    """A file: `name` is its stem, as A1111 calls it; `scale` how many times as large its pictures are, 0 where only loading
    tells; `problem` is a sentence that names the file, empty when it is usable."""

    name: str
    path: Path
    scale: int = 0
    kind: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Layout:
    """What is in a file: the network's configuration, and by our names where its tensors are."""

    config: RRDBConfig | CompactConfig
    places: Mapping[str, str]

    @property
    def kind(self) -> Kind:
        if isinstance(self.config, CompactConfig):
            return "Real-ESRGAN compact"
        return "ESRGAN+" if self.config.plus else "ESRGAN"


def scan_upscalers(folders: Sequence[Path]) -> list[UpscalerInfo]:
    """All upscalers in the models folders, by name; of equal names the first counts."""
    infos: dict[str, UpscalerInfo] = {}
    for path in files_below(folders, FOLDERS, (SUFFIX,)):
        try:
            info = described_upscaler(path)
        except OSError:
            continue  # it went away meanwhile
        infos.setdefault(info.name.casefold(), info)
    return sorted(infos.values(), key=lambda info: info.name.casefold())


def described_upscaler(path: Path) -> UpscalerInfo:
    """What `scan_upscalers` says of the file at `path`.

    Raises:
        OSError: it is gone.
    """
    status = path.stat()
    return _described(str(path), status.st_size, status.st_mtime_ns, status.st_ino, can_read_others())


def find_upscaler(
    folders: Sequence[Path], name: str, field: str = "upscaler", others: Sequence[str] | None = None
) -> UpscalerInfo:
    """The one of this name, in any case, with or without its suffix, or under A1111's name for it.

    `field` and `others`, the names that are no files (`no_files` unless given), are for the message.

    Raises:
        UnknownName: there is none.
        CheckpointError: it cannot be used; the message names the file.
    """
    found = {info.name.casefold(): info for info in scan_upscalers(folders)}
    wanted = name.casefold().removesuffix(SUFFIX)
    published = next((stems for alias, stems in ALIASES.items() if alias.casefold() == wanted), ())
    for each in (wanted, *(stem.casefold() for stem in published)):
        if info := found.get(each):
            if info.problem:
                raise CheckpointError(info.problem)
            return info
    names = no_files() if others is None else others
    raise UnknownName(field, name, [*names, *(info.name for info in found.values() if not info.problem)])


def no_files() -> tuple[str, ...]:
    """The upscalers that are no files: none, and those that know pixels alone (the hook `upscalers`)."""
    return (NONE, *UPSCALERS)


def built_in(name: str) -> str:
    """The upscaler that is no file and that `name` means, in any case; "" where it means none."""
    return next((known for known in no_files() if known.casefold() == name.casefold()), "")


def can_read_others() -> bool:
    """Whether spandrel is installed, which reads the files that are not known here.  It needs torchvision."""
    return all(importlib.util.find_spec(package) is not None for package in ("spandrel", "torchvision"))


def layout_of(header: Header) -> Layout:
    """The network in a file.

    Raises:
        CheckpointError: it is none of those that are known, or not whole; the message is the rest of a sentence.
    """
    stored = _unwrapped(header)
    if "model.0.weight" in stored and any(name.startswith("model.1.sub.0.RDB1.") for name in stored):
        return _checked(header, _old(stored, header))
    if "conv_first.weight" in stored and any(re.match(r"(?:RRDB_trunk|body)\.0\.(?:rdb|RDB)1\.", name) for name in stored):
        return _checked(header, _new(stored, header))
    if "body.0.weight" in stored and "conv_first.weight" not in stored:
        return _checked(header, _compact(stored, header))
    raise CheckpointError(
        "is no upscaler of a kind that is known here (ESRGAN, Real-ESRGAN, Real-ESRGAN compact); choose another file, or "
        "install spandrel with torchvision, which reads more of them"
    )


def _unwrapped(header: Header) -> dict[str, str]:
    """Where each tensor is, by its name without what a training wrote around all of them."""
    for prefix in _PREFIXES:
        inside = {name.removeprefix(prefix): name for name in header.tensors if name.startswith(prefix)}
        if inside and (prefix == "params_ema." or len(inside) == len(header.tensors)):
            return inside
    return {name: name for name in header.tensors}


def _old(stored: Mapping[str, str], header: Header) -> Layout:
    """ESRGAN's first names: a sequence of the first convolution, a body, doublings, and two convolutions."""
    last = max((int(match[1]) for name in stored if (match := re.match(r"model\.(\d{1,4})\.", name))), default=0)
    doublings, rest = divmod(last - 4, 3)
    if rest or doublings < 0:
        raise CheckpointError(f"is an ESRGAN with {last + 1} layers, which no whole number of doublings has; use another file")
    blocks = max((int(match[1]) for name in stored if (match := re.match(r"model\.1\.sub\.(\d{1,4})\.", name))), default=0)
    layers = {"model.0": "conv_first", f"model.1.sub.{blocks}": "conv_body"}
    layers |= {f"model.{3 * number + 3}": f"conv_up{number + 1}" for number in range(doublings)}
    layers |= {f"model.{3 * doublings + 2}": "conv_hr", f"model.{3 * doublings + 4}": "conv_last"}
    places = {}
    for name, place in stored.items():
        layer, _, kind = name.rpartition(".")
        if layer in layers:
            places[f"{layers[layer]}.{kind}"] = place
        elif inner := re.fullmatch(r"model\.1\.sub\.(\d{1,4})\.RDB([123])\.(conv\dx?1?)(?:\.0)?", layer):
            places[f"body.{inner[1]}.rdb{inner[2]}.{inner[3]}.{kind}"] = place
        else:
            places[name] = place
    return Layout(_rrdb_config(places, header, blocks, doublings), places)


def _new(stored: Mapping[str, str], header: Header) -> Layout:
    """BasicSR's names, which are ours, and those of its first versions."""
    renamed = {"trunk_conv": "conv_body", "HRconv": "conv_hr"}
    places = {}
    for name, place in stored.items():
        layer, _, kind = name.rpartition(".")
        layer = re.sub(r"^RRDB_trunk\.(\d{1,4})\.RDB([123])\.", r"body.\1.rdb\2.", layer)
        layer = re.sub(r"^upconv(\d)$", r"conv_up\1", renamed.get(layer, layer))
        places[f"{layer}.{kind}"] = place
    blocks = 1 + max((int(match[1]) for name in places if (match := re.match(r"body\.(\d{1,4})\.", name))), default=0)
    doublings = sum(f"conv_up{number}.weight" in places for number in range(1, 10))
    return Layout(_rrdb_config(places, header, blocks, doublings), places)


def _rrdb_config(places: Mapping[str, str], header: Header, blocks: int, doublings: int) -> RRDBConfig:
    first, inner = _shape(places, header, "conv_first.weight", 4), _shape(places, header, "body.0.rdb1.conv1.weight", 4)
    unshuffle = {3: 1, 12: 2, 48: 4}.get(first[1], 0)
    if not unshuffle or 2**doublings < unshuffle:
        raise CheckpointError(f"is an ESRGAN for pictures of {first[1]} channels; pictures here have 3: use another file")
    plus = "body.0.rdb1.conv1x1.weight" in places
    _check_sizes(features=first[0], growth=inner[0], blocks=blocks, doublings=doublings)
    return RRDBConfig(first[0], blocks, inner[0], doublings, unshuffle, plus)


def _compact(stored: Mapping[str, str], header: Header) -> Layout:
    first = _shape(stored, header, "body.0.weight", 4)
    last = max(int(match[1]) for name in stored if (match := re.match(r"body\.(\d{1,4})\.", name)))
    out = _shape(stored, header, f"body.{last}.weight", 4)[0]
    scale = isqrt(out // 3)
    if last < 2 or last % 2 or first[1] != 3 or 3 * scale**2 != out or not scale:
        raise CheckpointError("is no upscaler of RGB pictures: its first or last layer has another number of channels")
    said = header.metadata.get("act_type", "relu")
    activation = "prelu" if "body.1.weight" in stored else said if said in get_args(Activation) else "relu"
    _check_sizes(features=first[0], convs=last // 2 - 1, scale=scale)
    return Layout(CompactConfig(first[0], last // 2 - 1, scale, cast(Activation, activation)), stored)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size > MOST[name]:
            raise CheckpointError(f"is an upscaler with {size:,} {name}; at most {MOST[name]:,} are read")


def _shape(places: Mapping[str, str], header: Header, name: str, dimensions: int) -> tuple[int, ...]:
    check_missing([] if name in places else [name], "upscaler")
    shape = header.tensors[places[name]].shape
    if len(shape) != dimensions or 0 in shape:
        found = "x".join(map(str, shape)) or "1"
        raise CheckpointError(f"has the tensor {places[name]!r} of size {found}, which no convolution has; use another file")
    return shape


def _checked(header: Header, layout: Layout) -> Layout:
    """`layout`, of which no tensor is missing, too many, or of another size."""
    wanted = dict(_wanted(layout.config))
    check_missing([name for name in wanted if name not in layout.places], "upscaler")
    if stranger := next((name for name in layout.places if name not in wanted), None):
        raise CheckpointError(
            f"is an upscaler of another form, with the tensor {layout.places[stranger]!r}; choose another file, or install "
            "spandrel with torchvision, which reads more of them"
        )
    for name, shape in wanted.items():
        entry = header.tensors[layout.places[name]]
        check_format(layout.places[name], entry.dtype)
        check_shape(layout.places[name], entry.shape, shape)
    return layout


def _wanted(config: RRDBConfig | CompactConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of the network and their shapes, as `diffusion.upscalers` builds it."""
    width = config.features
    if isinstance(config, CompactConfig):
        outs = [*([width] * (config.convs + 1)), 3 * config.scale**2]
        for number, out in enumerate(outs):
            yield from _conv(f"body.{2 * number}", 3 if number == 0 else width, out)
            if config.activation == "prelu" and number <= config.convs:
                yield f"body.{2 * number + 1}.weight", (width,)
        return
    yield from _conv("conv_first", 3 * config.unshuffle**2, width)
    for block in range(config.blocks):
        for dense in (1, 2, 3):
            stem = f"body.{block}.rdb{dense}"
            for number in range(5):
                out = config.growth if number < 4 else width
                yield from _conv(f"{stem}.conv{number + 1}", width + number * config.growth, out)
            if config.plus:
                yield f"{stem}.conv1x1.weight", (config.growth, width, 1, 1)
    for layer in ("conv_body", *(f"conv_up{number + 1}" for number in range(config.doublings)), "conv_hr"):
        yield from _conv(layer, width, width)
    yield from _conv("conv_last", width, 3)


def _conv(name: str, incoming: int, out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, incoming, 3, 3)
    yield f"{name}.bias", (out,)


@lru_cache(maxsize=256)
def _described(path_text: str, *identity: Any) -> UpscalerInfo:
    path, others = Path(path_text), bool(identity[-1])
    try:
        header = read_header(path)
        try:
            layout = layout_of(header)
        except CheckpointError as error:
            if others and header.tensors:
                return UpscalerInfo(path.stem, path, 0, "spandrel")
            raise CheckpointError(f"{path.name} {error}") from None
    except CheckpointError as error:
        return UpscalerInfo(path.stem, path, problem=str(error))
    return UpscalerInfo(path.stem, path, layout.config.scale, layout.kind)
