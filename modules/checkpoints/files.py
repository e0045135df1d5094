"""Which checkpoints there are: scanning folders, naming, and what each file says about itself.

The web process lists models with this file, so it needs no torch; nothing here reads more of a model than its header.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from modules.checkpoints.completeness import check_scaling
from modules.checkpoints.diffusers_folder import INDEX
from modules.checkpoints.families import Defaults, recognise
from modules.checkpoints.folders import listing
from modules.checkpoints.hashes import file_sha256, known_sha256
from modules.checkpoints.header import Header, TensorEntry
from modules.checkpoints.naming import Named, by_hash, named
from modules.checkpoints.sources import read_source, stamp_of, stem_of
from modules.checkpoints.training import yaml_identity, yaml_problem
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.schedules import SCHEDULES
from modules.errors import CheckpointError, UnknownName
from modules.hooks import HOOKS
from modules.prompts.labels import labels_identity
from modules.request import MAX_SIDE, MIN_SIDE, SIDE_STEP, clean_text

__all__ = [
    "CheckpointInfo",
    "Defaults",
    "Header",
    "TensorEntry",
    "described",
    "file_sha256",
    "find",
    "listed",
    "read_source",
    "scan",
]

SUFFIXES = (".safetensors", ".gguf", ".ckpt")
"""Files that people expect in the list.  A .ckpt is listed with the reason why it is not read."""

COMPANION_FOLDERS = frozenset(
    (
        *(
            "lora",
            "loras",
            "lycoris",
            "locon",
            "embeddings",
            "hypernetworks",
            "hypernetwork",
            "controlnet",
            "control_net",
            "ip-adapter",
            "ipadapter",
        ),
        *(
            "vae",
            "vae-approx",
            "vae_approx",
            "taesd",
            "clip",
            "clip_vision",
            "text_encoder",
            "text_encoders",
            "t5",
            "adetailer",
            "deepbooru",
            "blip",
        ),
        *("esrgan", "realesrgan", "upscale_models", "upscalers", "codeformer", "gfpgan"),
    )
)
"""Folders below a models folder that hold other kinds of files, by the names that other programs gave them."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint, a file or a folder in diffusers' layout, as users see it; `problem` is a sentence that names it, empty when
    it is usable."""

    name: str
    """Path below its models folder without suffix, "/" separated; unique in a scan."""
    path: Path
    title: str
    family: str
    """A name of `families.FAMILIES`; empty when the file was not recognised."""
    defaults: Defaults
    description: str = ""
    prompts: tuple[str, ...] = ()
    """Prompts that this model does well."""
    motifs: tuple[str, ...] = ()
    """What it can draw, where that is little enough to be listed."""
    problem: str = ""
    note: str = ""
    """What is wrong with the file's configuration, without which it can be used: a sentence that names it."""


def scan(folders: Sequence[Path]) -> list[CheckpointInfo]:
    """All checkpoints below `folders`, in their order, then by name.

    Hidden files and folders and those of other kinds of models (`COMPANION_FOLDERS`) are skipped, links are followed, and a
    folder that is reached twice is listed once.  Files that cannot be used are listed with their `problem`.  Unreadable or
    missing folders hold nothing.  Of files with the same name the later ones get " (2)", " (3)", ...
    """
    return [_info(each.path, each.name) for each in _listed(folders)]


def find(folders: Sequence[Path], name: str, cache: Path | None = None) -> CheckpointInfo:
    """The checkpoint that `name` means: by its name in the spellings of `naming.named`, then by its hash.

    A hash is at least 8 digits of a sha256 that `cache` (see `file_sha256`) remembers.  A file that cannot be used is found as
    well, with its `problem`.

    Raises:
        UnknownName: nothing or more than one file fits.
    """
    listed = _listed(folders)
    found = named(listed, name)
    if found is None and cache is not None:
        found = by_hash(listed, name, lambda each: known_sha256(each.path, cache))
    if found is None:
        raise UnknownName("checkpoint", name, [info.name for info in scan(folders) if not info.problem])
    return _info(found.path, found.name)


def listed(folders: Sequence[Path]) -> Sequence[Named]:
    """The files of `scan` by their names alone, the same object while nothing changed."""
    return _listed(folders)


def described(path: Path, name: str) -> CheckpointInfo:
    """What `scan` says of the file at `path`, under this name."""
    return _info(path, name)


@dataclass(frozen=True)
class _Listed:
    """A file by its name alone: looking one up opens no other."""

    name: str
    path: Path


def _listed(folders: Sequence[Path]) -> tuple[_Listed, ...]:
    """All files, in the order of `scan` and with its names."""
    visited: set[tuple[int, int]] = set()
    return _named(tuple((folder, tuple(_walk(str(folder), visited))) for folder in folders))


@lru_cache(maxsize=8)
def _named(found: tuple[tuple[Path, tuple[str, ...]], ...]) -> tuple[_Listed, ...]:
    """The files, as `_walk` found them below each folder, with a name for each."""
    listed: list[_Listed] = []
    names: set[str] = set()
    for folder, paths in found:
        for base, path in sorted(
            ((_name(Path(path), folder), path) for path in paths), key=lambda one: (one[0].casefold(), one[1])
        ):
            name, number = base, 1
            while name in names:
                number += 1
                name = f"{base} ({number})"
            names.add(name)
            listed.append(_Listed(name, Path(path)))
    return tuple(listed)


def _walk(folder: str, visited: set[tuple[int, int]]) -> Iterator[str]:
    """Checkpoint files below `folder`, without autoencoders of their own beside them (`vaes`).

    `visited` stops at folders that were seen, so links cannot lead in circles.
    """
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            return
        visited.add((status.st_dev, status.st_ino))
    except OSError:
        return
    inside = listing(Path(folder))
    if INDEX in inside.files:  # its files are parts of it
        yield folder
        return
    for name in inside.files:
        if name.lower().endswith(SUFFIXES) and Path(name).stem.lower()[-4:] != ".vae":
            yield os.path.join(folder, name)
    for name in inside.folders:
        if name.casefold() not in COMPANION_FOLDERS:
            yield from _walk(os.path.join(folder, name), visited)


def _name(path: Path, folder: Path) -> str:
    """The name below `folder`; what no JSON or picture's record could carry becomes the replacement character."""
    name = path.relative_to(folder).with_name(stem_of(path)).as_posix() if path != folder else folder.name
    return "".join(c if c.isprintable() else "\ufffd" for c in name)


def _info(path: Path, name: str) -> CheckpointInfo:
    try:
        identity = *stamp_of(path), path.stat().st_ctime_ns
        info = _described(str(path), name, HOOKS.revision, *identity, *yaml_identity(path), *labels_identity(path))
        note = "" if info.problem else clean_text(yaml_problem(path))
        return replace(info, note=note) if note else info
    except OSError as error:
        return _broken(path, name, f"{path.name} cannot be read ({error.strerror}); is it a link to a file that is gone?")


@lru_cache(maxsize=32_768)
def _described(path_text: str, name: str, *identity: int) -> CheckpointInfo:
    """What a file's header tells; kept in memory until it, its configuration or the families change."""
    path = Path(path_text)
    try:
        header = read_source(path)
        try:
            family = recognise(header.shapes)
            family.check(header)
            check_scaling(header, family.latent.scale)
        except CheckpointError as error:
            raise CheckpointError(f"{path.name} {error}") from None
    except CheckpointError as error:
        return _broken(path, name, str(error))
    said = header.metadata
    return CheckpointInfo(
        name=name,
        path=path,
        title=_text(said.get("modelspec.title"), 200).replace("\n", " ") or name,
        family=family.name,
        defaults=_defaults(said, family.defaults_of(header, path)),
        description=_text(said.get("atelier.description") or said.get("modelspec.description"), 2000) or family.about,
        prompts=_texts(said.get("atelier.prompts"), 100),
        motifs=_texts(said.get("atelier.motifs"), 5000) or family.motifs(header, path),
    )


def _broken(path: Path, name: str, problem: str) -> CheckpointInfo:
    return CheckpointInfo(name, path, title=name, family="", defaults=Defaults(), problem=problem)


def _defaults(said: Mapping[str, str], family: Defaults) -> Defaults:
    """What the file recommends; what makes no sense is replaced by the family's value."""
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", said.get("atelier.native_size", ""))
    sides = [int(side) for side in size.groups()] if size else []
    fit = all(MIN_SIDE <= side <= MAX_SIDE and side % SIDE_STEP == 0 for side in sides)
    width, height = sides if sides and fit else (family.width, family.height)
    sampler, schedule = said.get("atelier.sampler", ""), said.get("atelier.schedule", "")
    return Defaults(
        width=width,
        height=height,
        steps=int(_number(said.get("atelier.steps"), 1, 150, family.steps)),
        cfg_scale=_number(said.get("atelier.cfg_scale"), 0, 50, family.cfg_scale),
        sampler=sampler if sampler in SAMPLERS else family.sampler,
        schedule=schedule if schedule in SCHEDULES else family.schedule,
        distilled_cfg_scale=family.distilled_cfg_scale,
    )


def _number(text: str | None, low: float, high: float, otherwise: float) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return otherwise
    return value if math.isfinite(value) and low <= value <= high else otherwise


def _text(value: Any, limit: int) -> str:
    return clean_text(value).strip()[:limit] if isinstance(value, str) else ""


def _texts(value: str | None, limit: int) -> tuple[str, ...]:
    """A JSON list of texts; anything else is no list."""
    try:
        parts = json.loads(value or "[]")
    except (ValueError, RecursionError):
        return ()
    texts = (_text(part, 500) for part in parts) if isinstance(parts, list) else ()
    return tuple([text for text in texts if text][:limit])
