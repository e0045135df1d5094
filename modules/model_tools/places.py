"""Which files a request's names mean, and where its result goes: only what is in the models folders, and there only names that
are listed.  No torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modules.checkpoints.companions import lora_file, lora_names
from modules.checkpoints.diffusers_folder import is_folder_model
from modules.checkpoints.files import find, listed
from modules.checkpoints.folders import listing
from modules.checkpoints.sources import size_of
from modules.errors import RequestError, UnknownName
from modules.model_tools.kinds import kinds_folder
from modules.model_tools.origins import PICKLES, PIPELINE, SAFE, safe_name, shown
from modules.model_tools.requests import ConvertPickle, ExtractLora, GetModel, MergeLoras, Request, ToolRequest
from modules.model_tools.work import Order, part_of

MAX_DEPTH, MAX_LISTED = 8, 5000


@dataclass(frozen=True)
class Convertible:
    """A pickle, or a folder in diffusers' layout, in the models folders.  `name` is its path below its folder with "/";
    `converted`: the .safetensors file that a conversion would make is there already."""

    name: str
    path: Path
    size: int
    converted: bool


class Places:
    """The models folders.

    Args:
        folders: models folders; new checkpoints and LoRAs go into the first.
        by_path: whether a name may also be the path of a file, as on the command line.
        public_only: whether downloads may not reach into private networks, as of a server that is shared.
    """

    def __init__(self, folders: Sequence[Path], by_path: bool = False, public_only: bool = False) -> None:
        self.folders, self.by_path, self.public_only = list(folders), by_path, public_only

    def pickles(self) -> list[Convertible]:
        """All pickles below the models folders, by name; of equal names the first counts."""
        found: dict[str, Convertible] = {}
        for folder in self.folders:
            for path in _below(folder, PICKLES):
                name = path.relative_to(folder).as_posix()
                try:
                    size = path.stat().st_size
                except OSError:
                    continue
                found.setdefault(name, Convertible(name, path, size, path.with_suffix(SAFE).exists()))
                if len(found) == MAX_LISTED:
                    return sorted(found.values(), key=lambda each: each.name.casefold())
        return sorted(found.values(), key=lambda each: each.name.casefold())

    def diffusers(self) -> list[Convertible]:
        """All checkpoints in diffusers' layout, by the names of the list of checkpoints."""
        found = []
        for each in listed(self.folders):
            if each.path.is_dir() and each.path not in self.folders:  # beside which nothing is written
                try:
                    found.append(Convertible(each.name, each.path, size_of(each.path), _single(each.path).exists()))
                except OSError:
                    continue
        return sorted(found, key=lambda each: each.name.casefold())

    def vaes(self) -> dict[str, Path]:
        """The VAE files in folders `vae` of the models folders, by name."""
        found: dict[str, Path] = {}
        for folder in self.folders:
            for top in listing(folder).folders:
                if top.casefold() == "vae":
                    for path in _below(folder / top, (SAFE,)):
                        found.setdefault(path.relative_to(folder / top).with_suffix("").as_posix(), path)
        return found

    def loras(self) -> list[str]:
        return lora_names(self.folders)

    def order(self, request: Request, run: str, cache: Path) -> Order:
        """`request` with its names resolved; `run` is a name of its own for the hidden file that it writes.

        Raises:
            RequestError: a name is not here, or there is a file that has the new name.
        """
        files: dict[str, Path] = {}
        for field, kind, name in request.sources():
            try:
                files[field] = self._file(kind, name)
            except RequestError as error:
                raise RequestError(f"{field}: {error}") from None
        target = self.target(request)
        part = part_of(target, run, request)
        if isinstance(request, GetModel):  # its name is known when the other side has answered
            return Order(request, files, target, part, cache, self.public_only)
        if not request.replace and os.path.lexists(target):
            raise RequestError(f"there is a file {target.name} already; choose another name, or let it be replaced")
        if target in files.values():
            raise RequestError(f"{target.name} is one of the sources; choose another name")
        return Order(request, files, target, part, cache)

    def _file(self, kind: str, name: str) -> Path:
        path = Path(name).expanduser()
        if self.by_path and (path.is_file() or (kind in ("checkpoint", "pickle") and is_folder_model(path))):
            return path.absolute()
        if kind == "checkpoint":
            info = find(self.folders, name)
            if info.path.suffix.lower() != SAFE and not info.path.is_dir():
                raise RequestError(f"{info.path.name} is a pickle; convert it first")
            return info.path
        if kind == "lora":
            found = lora_file(self.folders, name)
            if found is None:
                raise UnknownName("LoRA", name, self.loras())
            return found
        files = self.vaes() if kind == "vae" else {each.name: each.path for each in self.pickles()}
        if kind == "pickle" and name not in files:
            files |= {each.name: each.path for each in self.diffusers()}
        if name not in files:
            what = "pickle" if name.lower().endswith(PICKLES) else "pickle or folder in diffusers' layout"
            raise UnknownName("VAE" if kind == "vae" else what, name, files)
        return files[name]

    def target(self, request: ToolRequest) -> Path:
        """The file that a request makes.

        Raises:
            RequestError: the pickle that it is made beside is not here.
        """
        if isinstance(request, ConvertPickle):
            path = self._file("pickle", request.file)
            return _single(path) if path.is_dir() else path.with_suffix(SAFE)
        folder = self.folders[0]
        if isinstance(request, GetModel):
            return folder / _expected(request)
        if isinstance(request, ExtractLora | MergeLoras):
            folder = kinds_folder(folder, "loras")
        return folder / f"{request.output}{SAFE}"  # type: ignore[attr-defined]


def _single(folder: Path) -> Path:
    """The file that a folder in diffusers' layout becomes, beside it."""
    return folder.with_name(folder.name + SAFE)


def _expected(request: GetModel) -> str:
    """What a download will be called as far as the request says; for showing it."""
    if request.output:
        return request.output
    file = "" if request.file == PIPELINE else request.file
    return safe_name(file or shown(request.source).rstrip("/")) or "model"


def _below(folder: Path, suffixes: tuple[str, ...], depth: int = 0) -> Iterator[Path]:
    """Files below `folder`; hidden ones are skipped, links to folders are not followed."""
    inside = listing(folder)
    yield from (folder / name for name in inside.files if name.lower().endswith(suffixes))
    if depth < MAX_DEPTH:
        for name in inside.folders:
            if not (folder / name).is_symlink():
                yield from _below(folder / name, suffixes, depth + 1)
