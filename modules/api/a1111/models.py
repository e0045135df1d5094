"""Checkpoints under the names that A1111 gives them, and back.

There a file has a title "sub/name.safetensors [hash10]" and half a dozen other names, all of which clients send.  No path of
this machine is ever sent: `filename` is the bare file name.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from modules.api.a1111.options import CHECKPOINT, OwnOptions
from modules.app import App
from modules.checkpoints.files import CheckpointInfo
from modules.checkpoints.hashes import known_sha256
from modules.checkpoints.naming import by_hash, named, untitled
from modules.checkpoints.sources import suffix_of
from modules.errors import OutputError, RequestError, UnknownName


def sha256_of(app: App, info: CheckpointInfo) -> str:
    """As far as it is known; the engine works it out when it loads the file."""
    return known_sha256(info.path, Path(app.settings.data_dir) / "hashes.json")


def title(info: CheckpointInfo, sha256: str) -> str:
    """
    >>> from modules.checkpoints.families import Defaults
    >>> title(CheckpointInfo("sd/v1-5", Path("v1-5.safetensors"), "SD 1.5", "sd1", Defaults()), "6ce0161689b3853a")
    'sd/v1-5.safetensors [6ce0161689]'
    """
    name = info.name + suffix_of(info.path)
    return f"{name} [{sha256[:10]}]" if sha256 else name


def model_name(info: CheckpointInfo) -> str:
    return info.name.replace("/", "_").replace("\\", "_")


def usable(app: App) -> list[CheckpointInfo]:
    return [info for info in app.checkpoints() if not info.problem]


def own_checkpoint(app: App, own: OwnOptions, user: str) -> CheckpointInfo | None:
    """The checkpoint of this caller's options; None when there is none at all.

    Who has chosen none gets the instance's latest, and keeps that: what others paint with must not change it afterwards.
    """
    try:
        return find_checkpoint(app, own.of(user)[CHECKPOINT])
    except UnknownName:  # none chosen yet, or its file is gone
        info = app.default_checkpoint()
    if info is not None and user:
        with suppress(OutputError):  # it is asked for again next time
            own.set(user, {CHECKPOINT: info.name})
    return info


def find_checkpoint(app: App, wanted: str) -> CheckpointInfo:
    """The checkpoint that a client means: by one of A1111's names for it, by its hash, or by a part of its title.

    Of several titles with that part the shortest counts, as in A1111.  What is meant may have a `problem`: it is never replaced
    by another file whose name is similar.

    Raises:
        UnknownName: none is meant.
    """
    infos = app.checkpoints()
    hashes = {info.name: sha256_of(app, info) for info in infos}
    found = named(infos, wanted) or by_hash(infos, wanted, lambda info: hashes[info.name])
    if found is not None:
        return found
    for part in (wanted.strip().lower(), untitled(wanted).lower()):  # the file may have changed since its hash was sent
        fitting = [info for info in infos if part in title(info, hashes[info.name]).lower()]
        if part and fitting:
            return min(fitting, key=lambda info: len(info.name))
    raise UnknownName("checkpoint", wanted, [info.name for info in usable(app)])


def chosen_checkpoint(app: App, wanted: str) -> CheckpointInfo:
    """`find_checkpoint` for a caller who chooses the checkpoint.

    Raises:
        UnknownName: none is meant.
        RequestError: its file cannot be used.
    """
    info = find_checkpoint(app, wanted)
    if info.problem:
        raise RequestError(f"checkpoint {info.name!r} cannot be used: {info.problem}")
    return info
