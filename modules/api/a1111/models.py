"""Checkpoints under the names that A1111 gives them, and back.

There a file has a title "sub/name.safetensors [hash10]" and half a dozen other names, all of which clients send.  No path of
this machine is ever told: `filename` is the bare file name.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from modules.api.a1111.options import CHECKPOINT, OwnOptions
from modules.app import App
from modules.checkpoints.files import CheckpointInfo
from modules.checkpoints.hashes import known_sha256
from modules.errors import OutputError, UnknownName


def sha256_of(app: App, info: CheckpointInfo) -> str:
    """As far as it is known; the engine works it out when it loads the file."""
    return known_sha256(info.path, Path(app.settings.data_dir) / "hashes.json")


def title(info: CheckpointInfo, sha256: str) -> str:
    """
    >>> from modules.checkpoints.families import Defaults
    >>> title(CheckpointInfo("sd/v1-5", Path("v1-5.safetensors"), "SD 1.5", "sd1", Defaults()), "6ce0161689b3853a")
    'sd/v1-5.safetensors [6ce0161689]'
    """
    name = info.name + info.path.suffix
    return f"{name} [{sha256[:10]}]" if sha256 else name


def model_name(info: CheckpointInfo) -> str:
    return info.name.replace("/", "_").replace("\\", "_")


def usable(app: App) -> list[CheckpointInfo]:
    return [info for info in app.checkpoints() if not info.problem]


def own_checkpoint(app: App, own: OwnOptions, user: str) -> CheckpointInfo | None:
    """The checkpoint of this caller's options; None when there is none at all.

    Who has chosen none gets the household's latest, and keeps that: what others paint with must not change it afterwards.
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
    """The checkpoint that a client means by one of A1111's names for it, or by a part of its title, the shortest first.

    Raises:
        UnknownName: none is meant.
    """
    infos = [(info, sha256_of(app, info)) for info in usable(app)]
    for info, sha256 in infos:
        names = {title(info, sha256), info.name, info.name + info.path.suffix, info.path.name, info.path.stem, model_name(info)}
        names |= {sha256[:10], sha256} - {""}
        if wanted in names:
            return info
    bare = wanted.rpartition(" [")[0] or wanted  # the file may have changed since its hash was told
    for part in (wanted, bare):
        fitting = [info for info, sha256 in infos if part.lower() in title(info, sha256).lower()]
        if part and fitting:
            return min(fitting, key=lambda info: len(info.name))
    raise UnknownName("checkpoint", wanted, [info.name for info, _ in infos])
