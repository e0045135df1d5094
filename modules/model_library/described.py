"""What a model file and its neighbours say of it, for the list: one header, two small JSON files, no tensor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from modules.checkpoints.companions import described_hypernetwork
from modules.checkpoints.families import FAMILIES, UNetFamily
from modules.checkpoints.files import described as checkpoint_described
from modules.checkpoints.header import Header
from modules.checkpoints.sources import read_source, size_of, stamp_of
from modules.checkpoints.taesd import described_taesd
from modules.checkpoints.upscalers import described_upscaler
from modules.checkpoints.vaes import described_vae
from modules.errors import CheckpointError
from modules.hooks import HOOKS
from modules.model_library import family as families
from modules.model_library.kinds import KINDS, UNUSED
from modules.model_library.neighbours import json_beside, mapping, number, text, words
from modules.model_library.survey import Found

VERSION = 2
"""Of what is kept of a description: another version is made anew."""
_SHORT = {"sd1": families.SD1, "sd2": families.SD2, "sdxl": families.SDXL, "sd3": families.SD3, "flux": families.FLUX}
"""Families of checkpoints by the beginning of their names."""


@dataclass(frozen=True)
class Described:
    """What the list shows of a model.

    `width` is that of the text that its cross-attention sees, 0 where unknown; `hash` is what its header says, "" for
    nothing.  `negative` goes with it into negative prompts, `weight` is preferred for it.  `problem` is a sentence, empty for a
    sound file.  `about` is the beginning of its description, for searching; `preview` tells versions of its picture apart, ""
    for none.
    """

    size: int = 0
    modified: float = 0.0
    family: str = ""
    width: int = 0
    vectors: int = 0
    alias: str = ""
    base_model: str = ""
    triggers: tuple[str, ...] = ()
    negative: str = ""
    weight: float | None = None
    hash: str = ""
    about: str = ""
    preview: str = ""
    problem: str = ""

    def kept(self) -> dict[str, Any]:
        """As JSON-ready data, without what is as it always is."""
        return {name: value for name, value in asdict(self).items() if value != getattr(NOTHING, name)}

    @staticmethod
    def of(kept: Any) -> Described:
        """What `kept` gave.

        Raises:
            TypeError, ValueError, KeyError: it is something else.
        """
        known = {field.name for field in fields(Described)}
        if not isinstance(kept, dict) or not kept.keys() <= known:
            raise ValueError("no description of ours")
        return Described(**{**kept, "triggers": tuple(kept.get("triggers", ()))})


NOTHING = Described()


def stamp(found: Found) -> str:
    """What changes with the file, its neighbours or this program's idea of them; "" where the file is gone.

    Raises nothing.
    """
    try:
        size, changed, inode = stamp_of(found.path)
    except OSError:
        return ""
    parts = [f"{VERSION} {HOOKS.revision} {size} {changed} {inode}"]
    parts += [f"{name} {_stamp_of(found.path.with_name(name))}" for name in found.neighbours]
    return "\n".join(parts)


def _stamp_of(path: Path) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"


def describe(found: Found) -> Described:
    """Read what the list shows.  Never raises: what is wrong is the description's `problem`."""
    try:
        status, size = os.stat(found.path), size_of(found.path)
    except OSError as error:
        return Described(problem=f"{found.path.name} cannot be read ({error.strerror}); is it a link to a file that is gone?")
    said = _of_file(found)
    notes = json_beside(found.path.with_name(found.notes)) if found.notes else {}
    civitai = json_beside(found.path.with_name(found.civitai)) if found.civitai else {}
    base = _base_model(notes, civitai) or said.base_model
    triggers = words(notes["activation text"]) if "activation text" in notes else words(civitai.get("trainedWords"))
    about = text(notes.get("description"), 300) or text(mapping(civitai.get("model")).get("description"), 300) or said.about
    return Described(
        size=size,
        modified=status.st_mtime,
        family=said.family or families.by_words(base),
        width=said.width,
        vectors=said.vectors,
        alias=said.alias,
        base_model=base,
        triggers=triggers or said.triggers,
        negative=text(notes.get("negative text"), 2000),
        weight=number(notes.get("preferred weight")) or None,
        hash=said.hash,
        about=about,
        preview=_stamp_of(found.path.with_name(found.preview)) if found.preview else "",
        problem=_problem(found, said.problem),
    )


def _problem(found: Found, wrong: str) -> str:
    if not wrong and found.hidden_by and found.kind != "taesd":  # which are not chosen by name
        wrong = f"{found.path.name} is not used: {found.hidden_by} has the same name and comes first; rename one of them"
    if not wrong and not KINDS[found.kind].used:
        return f"{KINDS[found.kind].title}s are {UNUSED}."
    return wrong


def _base_model(notes: Mapping[str, Any], civitai: Mapping[str, Any]) -> str:
    """What the model was made on top of, in people's words."""
    edited = text(notes.get("sd version"), 100)
    return text(civitai.get("baseModel"), 100) or (edited if edited not in ("Unknown", "Other") else "")


def _of_file(found: Found) -> Described:
    """What the file itself says."""
    if found.pickle:
        return Described(
            problem=f"{found.path.name} is a pickle, which can run programs when it is read, and is not opened; convert it "
            f"with `python3 webui.py models convert {found.path.name}`"
        )
    try:
        header = read_source(found.path)
    except CheckpointError as error:
        return Described(problem=str(error))
    said = Described(
        alias=_alias(found, header),
        base_model=text(header.metadata.get("ss_sd_model_name"), 100),
        triggers=words(header.metadata.get("modelspec.trigger_phrase")),
        hash=_stored_hash(header),
        about=text(header.metadata.get("modelspec.description"), 300),
    )
    return _KIND_OF[found.kind](found, header, said)


def _alias(found: Found, header: Header) -> str:
    alias = (
        text(header.metadata.get("ss_output_name"), 200)
        if found.kind == "lora"
        else text(header.metadata.get("modelspec.title"), 200)
    )
    return alias if alias != found.name else ""


def _stored_hash(header: Header) -> str:
    """The trainer's own hash of what is behind the header, 12 digits as A1111 shows it."""
    stored = header.metadata.get("sshs_model_hash", "").lower()
    return stored[:12] if len(stored) >= 12 and all(digit in "0123456789abcdef" for digit in stored) else ""


def _checkpoint(found: Found, header: Header, said: Described) -> Described:
    info = checkpoint_described(found.path, found.name)
    name = next((short for begin, short in _SHORT.items() if info.family.startswith(begin)), "")
    shapes = header.shapes
    width = families.checkpoint_width(shapes)
    if not name and info.family:  # relatives of these take their adapters, as their layers are as wide
        known = FAMILIES.find(info.family)
        title = known.title if known is not None else info.family
        alone = known is not None and (known.concat == "low-res" or not isinstance(known, UNetFamily))
        name = title if alone else families.BY_WIDTH.get(width) or title
    return _with(
        said,
        family=name or families.foreign(shapes),
        width=width,
        problem=info.problem,
        about=info.description[:300] or said.about,
        hash="",
    )


def _lora(found: Found, header: Header, said: Described) -> Described:
    name, width = families.adapter(header.metadata, header.shapes)
    return _with(said, family=name, width=width)


def _embedding(found: Found, header: Header, said: Described) -> Described:
    name, width, vectors = families.embedding(header.shapes)
    problem = "" if width else f"{found.path.name} is not a textual inversion: it has no tensor emb_params or clip_l of vectors"
    return _with(said, family=name or families.by_metadata(header.metadata), width=width, vectors=vectors, problem=problem)


def _vae(found: Found, header: Header, said: Described) -> Described:
    return _with(_other(found, header, said), problem=described_vae(found.path).problem)


def _taesd(found: Found, header: Header, said: Described) -> Described:
    info = described_taesd(found.path, found.file.partition("/")[2])
    known = {"SDXL": families.SDXL, "SD 3": families.SD3, "Flux": families.FLUX}
    return _with(said, family=known.get(info.latent, families.SD1) if info.halves else "", problem=info.problem)


def _hypernetwork(found: Found, header: Header, said: Described) -> Described:
    return _with(_other(found, header, said), problem=described_hypernetwork(found.path).problem)


def _upscaler(found: Found, header: Header, said: Described) -> Described:
    info = described_upscaler(found.path)
    form = f"{info.kind}, {info.scale} times as large" if info.scale else info.kind
    return _with(said, about=said.about or form, problem=info.problem)


def _other(found: Found, header: Header, said: Described) -> Described:
    return _with(said, family=families.by_metadata(header.metadata), width=families.checkpoint_width(header.shapes))


_KIND_OF = {
    "checkpoint": _checkpoint,
    "lora": _lora,
    "embedding": _embedding,
    "vae": _vae,
    "taesd": _taesd,
    "hypernetwork": _hypernetwork,
    "upscaler": _upscaler,
    "controlnet": _other,
}


def _with(said: Described, **changes: Any) -> Described:
    return Described(**{**vars(said), **changes})
