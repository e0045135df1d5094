"""What people write down about a model: into A1111's `name.json`, under its keys, so that A1111 reads it, and nothing else in
that file is touched.

What A1111 has no key for, a checkpoint's own defaults, is under a key of ours.  Files are replaced as a whole.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from modules.checkpoints.sources import stem_of
from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import find_schedule
from modules.errors import OutputError, RequestError
from modules.model_library.neighbours import (
    MAX_TEXT,
    MAX_TRIGGERS,
    MAX_WORD,
    OURS,
    NotOurs,
    json_beside,
    mapping,
    number,
    read_json,
    text,
)
from modules.model_library.survey import NOTES
from modules.request import Txt2Img, parse_request

DEFAULT_FIELDS = ("width", "height", "steps", "cfg_scale", "sampler", "schedule", "clip_skip", "vae", "negative_prompt")
"""Fields of a request for which a checkpoint may have defaults of its own; of those that requests have."""
_NAMES = {"negative": "negative_prompt"}
"""What the page calls a field."""
MAX_WEIGHT = 10.0


def edited(given: Mapping[str, Any]) -> dict[str, Any]:
    """A1111's keys and values from the page's: a value of None takes the key out.

    Raises:
        RequestError: a field makes no sense.
    """
    unknown = given.keys() - {"notes", "description", "weight", "triggers", "negative", "defaults"}
    if unknown:
        raise RequestError(f"{sorted(unknown)[0][:60]}: there is no such field of a model")
    keys: dict[str, Any] = {}
    for name, key in (("notes", "notes"), ("description", "description"), ("negative", "negative text")):
        if name in given:
            keys[key] = _text(name, given[name])
    if "weight" in given:
        keys["preferred weight"] = _weight(given["weight"])
    if "triggers" in given:
        keys["activation text"] = _triggers(given["triggers"])
    if "defaults" in given:
        keys[OURS] = {"defaults": checked_defaults(given["defaults"])}
    return keys


def checked_defaults(given: Any) -> dict[str, Any]:
    """Defaults of a checkpoint by the names of a request's fields; None for those to be taken out.

    Raises:
        RequestError: a field makes no sense.
    """
    if not isinstance(given, dict):
        raise RequestError("defaults: must be an object of fields")
    named: dict[str, Any] = {}
    for name, value in given.items():
        own = _NAMES.get(name, name)
        if name == "size":
            sides = value if isinstance(value, list) and len(value) == 2 else [None, None] if value is None else None
            if sides is None:
                raise RequestError("defaults: size must be a list of width and height")
            named["width"], named["height"] = sides
        elif own not in DEFAULT_FIELDS:
            raise RequestError(f"defaults: there is no default {str(name)[:60]!r}; known are {', '.join(DEFAULT_FIELDS)}")
        elif own not in Txt2Img.model_fields and value not in (None, "", "Automatic"):
            raise RequestError(f"defaults: {own} cannot be chosen in this version yet")
        elif own in Txt2Img.model_fields:
            named[own] = None if value == "" else value
    chosen = {name: value for name, value in named.items() if value is not None}
    request = parse_request(chosen)
    for name in chosen:
        named[name] = getattr(request, name)
    if "sampler" in chosen:
        named["sampler"] = find_sampler(request.sampler)[0].name
    if "schedule" in chosen:
        named["schedule"] = find_schedule(request.schedule).label
    return named


def write(path: Path, keys: Mapping[str, Any]) -> None:
    """Change these keys of the `name.json` beside the model at `path`, and no others.

    Raises:
        OutputError: it cannot be written, or what is there is no JSON of A1111's; nothing changes then.
    """
    target = path.with_name(stem_of(path) + NOTES)
    try:
        content = read_json(target)
    except FileNotFoundError:
        content = {}
    except (NotOurs, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise OutputError(f"{target.name} beside the model was not changed: it {reason}; mend or remove it") from None
    for key, value in keys.items():
        if key == OURS:
            value = _merged(mapping(content.get(OURS)), value)
        if value is None or value == {}:
            content.pop(key, None)
        else:
            content[key] = value
    try:
        data = json.dumps(content, indent=4, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character, which only an escape can say
        data = json.dumps(content, indent=4).encode()
    except RecursionError:
        raise OutputError(f"{target.name} beside the model was not changed: it is nested too deep; mend or remove it") from None
    replace_file(target, data)


def _merged(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {**mapping(before.get("defaults")), **change["defaults"]}
    kept = {name: value for name, value in defaults.items() if value is not None}
    rest = {name: value for name, value in before.items() if name != "defaults"}
    return {**rest, "defaults": kept} if kept else rest


def replace_file(target: Path, data: bytes) -> None:
    """Put `data` in the place of `target`, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    part = target.with_name(f".atelier-{secrets.token_hex(8)}.part")
    try:
        try:
            with open(part, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target.name} cannot be written beside the model ({error.strerror}); give this user the right to write into the "
            "folder, or keep the model in another"
        ) from None


def own_defaults(path: Path) -> dict[str, Any]:
    """The defaults that people gave the checkpoint at `path`, by the names of a request's fields; what makes no sense is left
    out.  The same object while the file does not change."""
    beside = path.with_name(stem_of(path) + NOTES)
    try:
        status = os.stat(beside)
    except OSError:
        return _NONE
    return _own_defaults(str(beside), status.st_size, status.st_mtime_ns, status.st_ino)


_NONE: dict[str, Any] = {}


@lru_cache(maxsize=32_768)
def _own_defaults(path: str, *identity: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in mapping(mapping(json_beside(Path(path)).get(OURS)).get("defaults")).items():
        try:
            checked = checked_defaults({name: value})
        except RequestError:
            continue
        found |= {key: one for key, one in checked.items() if one is not None}
    return found


def _text(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise RequestError(f"{name}: must be text")
    if value is not None and len(value) > MAX_TEXT:
        raise RequestError(f"{name}: at most {MAX_TEXT:,} characters, {len(value):,} were given")
    return text(value) or None


def _weight(value: Any) -> float | None:
    if value is None:
        return None
    found = number(value) if not isinstance(value, str) else None
    if found is None or abs(found) > MAX_WEIGHT:
        raise RequestError(f"weight: must be a number from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}")
    return found or None


def _triggers(value: Any) -> str | None:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise RequestError("triggers: must be a list of texts")
    if len(value) > MAX_TRIGGERS or any(len(word) > MAX_WORD for word in value):
        raise RequestError(f"triggers: at most {MAX_TRIGGERS} of {MAX_WORD} characters each")
    return ", ".join(filter(None, (text(word, MAX_WORD) for word in value))) or None
