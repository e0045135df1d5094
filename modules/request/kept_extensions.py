"""Options of extensions that are not in use, which a request carries along: `kept_extensions: {name: {version, options}}`.

A picture outlives the extensions that it was made with.  What it says of one that is not installed here, or that is off, is
kept: a form holds it, and a picture that is made with that form has it in its file, under a key of its own that says that it
was not used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from modules.request.extensions import EXTENSIONS, Given, plain_options, understood
from modules.request.kinds import clean_text

Kept = dict[str, dict[str, Any]]
"""By extension, `version` ("" where it is not known) and `options`."""

MAX_KEPT, MAX_CHARACTERS = 32, 20_000
_WHAT = "kept_extensions: must be an object with {version, options} for each extension"


def checked_kept(given: Kept) -> Kept:
    """
    Raises:
        ValueError: a sentence on what is no such thing, or too much.
    """
    kept: Kept = {}
    for name, one in given.items():
        if not set(one) <= {"version", "options"} or not isinstance(one.get("version", ""), str):
            raise ValueError(_WHAT)
        kept[clean_text(name)[:80]] = {
            "version": clean_text(one.get("version", ""))[:40],
            "options": plain_options(one.get("options", {})),
        }
    if len(kept) > MAX_KEPT or len(json.dumps(kept)) > MAX_CHARACTERS:
        raise ValueError(f"kept_extensions: at most {MAX_KEPT} extensions and {MAX_CHARACTERS} characters are kept")
    return kept


def sorted_out(given: Any, versions: Mapping[str, str] | None = None) -> tuple[Given, Kept, list[str]]:
    """Of a picture's options of extensions: what is used here, what is kept, and a sentence for each extension that is missing.

    `versions` are those that the picture was made with.
    """
    found = given if isinstance(given, dict) else {}
    away = {name: options for name, options in found.items() if name not in EXTENSIONS and isinstance(options, dict)}
    used, notes = understood({name: options for name, options in found.items() if name not in away})
    kept: Kept = {}
    for name, options in away.items():
        version = (versions or {}).get(name, "")
        try:
            kept |= checked_kept({name: {"version": version, "options": options}})
        except ValueError as error:
            notes.append(f"made with the extension {clean_text(name)[:60]!r}, whose options are left out: {error}")
            continue
        notes.append(
            f"made with {_called(name, version)}, which is not installed here or is off: its options are kept, not used"
        )
    return used, kept, notes


def not_used(kept: Kept) -> list[str]:
    """A sentence for each extension that a picture was made without although its settings name it."""
    why = "which was not installed or was off: its options are kept, not used"
    return [f"made without {_called(name, one['version'])}, {why}" for name, one in kept.items()]


def named(kept: Kept) -> Iterator[str]:
    """The extensions with their versions, as people read them."""
    return (_called(name, one["version"]) for name, one in kept.items())


def versions_text(versions: Mapping[str, str]) -> str:
    """Versions as an infotext has them, "" for none: `freeu: 1.0.0, glow: 2`."""
    return ", ".join(f"{name}: {version}" for name, version in versions.items() if version)


def of_versions_text(text: str) -> dict[str, str]:
    """
    >>> of_versions_text("freeu: 1.0.0, glow: 2, nothing")
    {'freeu': '1.0.0', 'glow': '2'}
    """
    pairs = (part.partition(":") for part in text[:4000].split(","))
    return {name.strip(): version.strip() for name, _, version in pairs if version.strip()}


def of_kept_text(text: str) -> Kept | None:
    """What an infotext or a form says of them, None where that is nothing or none."""
    try:
        given = json.loads(text)
        sound = isinstance(given, dict) and given and all(isinstance(one, dict) for one in given.values())
        return checked_kept(given) if sound else None
    except (ValueError, RecursionError):
        return None


def as_kept_text(kept: Kept) -> str:
    """The same as one JSON object, "" for none."""
    return json.dumps(kept, ensure_ascii=False) if kept else ""


def _called(name: str, version: str) -> str:
    return " ".join(part for part in (clean_text(name)[:60], clean_text(version)[:40]) if part)
