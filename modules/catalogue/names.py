"""Names to things that exist in the models folders: checkpoints, autoencoders, upscalers, refiners, adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from pathlib import Path
from typing import Any

from modules.checkpoints.companions import (
    EmbeddingInfo,
    HypernetworkInfo,
    LoraInfo,
    lora_names,
    scan_embeddings,
    scan_hypernetworks,
    scan_loras,
)
from modules.checkpoints.families import FAMILIES
from modules.checkpoints.files import CheckpointInfo, Defaults, find, scan
from modules.checkpoints.refiners import refiner_problem
from modules.checkpoints.taesd import TinyInfo, scan_taesd
from modules.checkpoints.upscalers import UpscalerInfo, find_upscaler, no_files, scan_upscalers
from modules.checkpoints.vaes import AUTOMATIC, OWN, VaeInfo, find_vae, scan_vaes
from modules.errors import CheckpointError, RequestError, UnknownName
from modules.model_library.edits import own_defaults

DEFAULTS = frozenset(field.name for field in fields_of(Defaults))


class Names:
    """What the models folders hold.

    Args:
        folders: models folders.
        latest: the checkpoint that was asked for last, None when there was none.
    """

    def __init__(self, folders: Sequence[Path], latest: Callable[[], str | None]) -> None:
        self.folders, self._latest = folders, latest

    def checkpoints(self) -> list[CheckpointInfo]:
        """All files in the models folders, usable ones first; the others say what their problem is."""
        return [_as_preferred(info) for info in self._scanned()]

    def _scanned(self) -> list[CheckpointInfo]:
        return sorted(scan(self.folders), key=lambda info: (bool(info.problem), info.name.lower()))

    def checkpoint(self, name: Any) -> CheckpointInfo:
        """The usable checkpoint of that name, which may be any text, or the default one when it is none.

        Raises:
            RequestError: there is none, or it cannot be used.
        """
        return _as_preferred(self.as_in_its_file(name))

    def as_in_its_file(self, name: Any) -> CheckpointInfo:
        """`checkpoint`, with the defaults of its file alone; raises as it does."""
        if name and not isinstance(name, str):
            raise RequestError(f"checkpoint: must be the name of one, as text; {repr(name)[:60]} was given")
        if name:
            info = find(self.folders, name)
        else:
            default = self._default()
            if default is None:
                folders = ", ".join(str(folder) for folder in self.folders)
                raise RequestError(f"no checkpoint found; put an SD 1.x .safetensors file into {folders}")
            info = default
        if info.problem:
            raise RequestError(f"checkpoint {info.name!r} cannot be used: {info.problem}")
        return info

    def default_checkpoint(self) -> CheckpointInfo | None:
        """The checkpoint of the newest job if it is still here, else the first usable one."""
        info = self._default()
        return None if info is None else _as_preferred(info)

    def _default(self) -> CheckpointInfo | None:
        latest = self._latest()
        if latest:
            try:
                info = find(self.folders, latest)
                if info.name == latest and not info.problem:
                    return info
            except UnknownName:
                pass  # its file is gone
        return next((info for info in self._scanned() if not info.problem), None)

    def vaes(self) -> list[VaeInfo]:
        """All autoencoders in files of their own; those that cannot be used say why."""
        return scan_vaes(self.folders)

    def vae(self, name: str) -> str:
        """The name of the autoencoder that `name` means: Automatic, None or a file's.

        Raises:
            UnknownName: there is none.
            RequestError: its file cannot be used.
        """
        for known in (AUTOMATIC, OWN):
            if name.casefold() == known.casefold():
                return known
        try:
            return find_vae(self.folders, name).name
        except CheckpointError as error:
            raise RequestError(f"vae: {error}") from None

    def taesd(self) -> list[TinyInfo]:
        """All files of TAESD; those that cannot be used say why."""
        return scan_taesd(self.folders)

    def upscalers(self) -> list[UpscalerInfo]:
        """The upscalers in files; those that cannot be used say why."""
        return scan_upscalers(self.folders)

    def upscaler(self, name: str, field: str, others: Sequence[str] | None = None) -> str:
        """The name of the upscaler that `name` means: one of `others`, which are no files, or a file's; `field` is named in
        errors.

        Raises:
            UnknownName: there is none.
            RequestError: its file cannot be used.
        """
        others = no_files() if others is None else others
        if known := next((other for other in others if other.casefold() == name.casefold()), ""):
            return known
        try:
            return find_upscaler(self.folders, name, f"{field}: upscaler", others).name
        except CheckpointError as error:
            raise RequestError(f"{field}: upscaler {name!r} cannot be used: {error}") from None

    def refiner(self, name: str, checkpoint: CheckpointInfo) -> str:
        """The name of the checkpoint that `name` means, which can go on with pictures of `checkpoint`; "" for none.

        Raises:
            RequestError: there is none, or it cannot be used for that.
        """
        if name.casefold() in ("", "none"):
            return ""
        try:
            info = find(self.folders, name)
        except UnknownName as error:
            raise RequestError(f"refiner: {error}") from None
        if info.problem:
            raise RequestError(f"refiner: {info.name!r} cannot be used: {info.problem}")
        family, refining = FAMILIES.find(checkpoint.family), FAMILIES.find(info.family)
        if family is None or refining is None:  # of an extension that went away: the engine says so
            return info.name
        if problem := refiner_problem(checkpoint.name, family, info.name, refining):
            raise RequestError(f"refiner: {problem}")
        return info.name

    def embeddings(self) -> list[EmbeddingInfo]:
        """All textual inversions in the models folders; those that cannot be used say what their problem is."""
        return scan_embeddings(self.folders)

    def hypernetworks(self) -> list[HypernetworkInfo]:
        """All hypernetworks in the models folders; those that cannot be used say what their problem is."""
        return scan_hypernetworks(self.folders)

    def loras(self) -> list[str]:
        """The names of the LoRAs in the models folders."""
        return lora_names(self.folders)

    def lora_infos(self) -> list[LoraInfo]:
        """The LoRAs in the models folders, with what their headers say; the first time it reads all of them."""
        return scan_loras(self.folders)


def _as_preferred(info: CheckpointInfo) -> CheckpointInfo:
    """With the defaults that people gave this checkpoint in place of its file's."""
    own = {name: value for name, value in own_defaults(info.path).items() if name in DEFAULTS}
    return replace(info, defaults=replace(info.defaults, **own)) if own else info
