"""A1111's text taken apart: what it says as it says it, and what it means by what it leaves out.

`parse` knows the layout and nothing of the items; `completed` adds what A1111's reader assumes: its defaults, and what texts
of older versions of it mean.  Both never raise, whatever the text is.

Formats: AUTOMATIC1111 v1.10.1, `infotext_utils.parse_generation_parameters` and `infotext_versions`, whose behaviour is
matched.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from modules.images.infotext_keys import A1111_RNG, NEGATIVE, NEGATIVE_LINE, PROMPT
from modules.request import clean_text

MAX_INFOTEXT = 1 << 20
"""Characters that `parse` looks at; what the readers of files let through is no more."""
_FEWEST_ITEMS = 3  # fewer than this on the last line and it is part of the prompt
_FIRST_KEY = "Steps:"
_MOST_JSON = 8
"""Values of one line that are tried as JSON, which Civitai and its extension write without quotes."""
_TEMPLATES = ("Template:", "Negative Template:")
"""How the Dynamic Prompts extension begins the lines that it puts behind the settings."""

_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")


def parse(text: str) -> dict[str, str]:
    """What an A1111 text says, as it says it: "Prompt", "Negative prompt", then its items in order.

    An item "512x768" also yields `key-1` and `key-2`.  Never raises, and takes time linear in the length whatever `text`
    is; what does not look like items is prompt.
    """
    lines = clean_text(text[:MAX_INFOTEXT]).strip().split("\n")
    lines, items = _settings(lines)

    # The first line that starts with the words switches; everything behind it is negative.
    switch = next((i for i, line in enumerate(lines) if line.lstrip().startswith(NEGATIVE_LINE)), len(lines))
    negative = "\n".join(lines[switch:]).lstrip().removeprefix(NEGATIVE_LINE).removeprefix(" ")
    parsed = {PROMPT: "\n".join(lines[:switch]), NEGATIVE: negative}
    parsed |= {key: value for key, value in items.items() if key not in parsed}
    for key, value in items.items():
        if size := _SIZE.fullmatch(value):
            parsed.setdefault(f"{key}-1", size[1])
            parsed.setdefault(f"{key}-2", size[2])
    return parsed


def _settings(lines: list[str]) -> tuple[list[str], dict[str, str]]:
    """The lines of the prompts, and the items below them.

    Where the last line has none, the last one that begins with "Steps:" has them: extensions put lines behind it, or write
    values with a line break in them.  The templates of the Dynamic Prompts extension, one a line, are items too.
    """
    found, items = _scan(lines[-1])
    start = len(lines) - 1
    if not lines[-1].lstrip().startswith(_FIRST_KEY):
        first = next((i for i in range(len(lines) - 1, -1, -1) if lines[i].lstrip().startswith(_FIRST_KEY)), start)
        behind = next((i for i in range(first + 1, len(lines)) if lines[i].startswith(_TEMPLATES)), len(lines))
        # A value with quotes may go over several lines
        in_first, items_of_first = _scan("\n".join(lines[first:behind]).strip())
        if first < start and in_first >= _FEWEST_ITEMS:
            return lines[:first], items_of_first | _templates(lines[behind:])
    return (lines[:start], items) if found >= _FEWEST_ITEMS else (lines, {})


def _templates(lines: list[str]) -> dict[str, str]:
    """Each from its name to the next one or the end."""
    found: dict[str, list[str]] = {}
    key = ""
    for line in lines:
        name, colon, rest = line.partition(":")
        if colon and line.startswith(_TEMPLATES) and name not in found:
            key, line = name, rest.strip()
        found.setdefault(key, []).append(line)
    return {key: "\n".join(parts).strip() for key, parts in found.items()}


def _scan(line: str) -> tuple[int, dict[str, str]]:
    """The items of a line, and how many of them had the form `key: value`.

    One pass: a key is the longest run of word characters, blanks, "-" and "/" in front of a colon.  A piece between commas
    that is nothing but such a run is an item whose value equals its key.
    """
    items: dict[str, str] = {}
    found = 0
    begin = -1  # where the current run began, -1 outside of one
    alone = True  # nothing but blanks and the run since the last comma
    tries = _MOST_JSON
    at = 0
    while at <= len(line):
        char = line[at] if at < len(line) else ","
        if char == ":" and begin >= 0 and at - begin > 1:
            key = line[begin:at].rstrip()
            at = next((i for i in range(at + 1, len(line)) if not line[i].isspace()), len(line))
            end = 0
            if tries and line[at : at + 1] in ("[", "{"):
                end, tries = _json_end(line, at), tries - 1
            items[key], at = (line[at:end], end + 1) if end else _value(line, at)
            found += 1
            begin, alone = -1, True
            continue
        if char == ",":
            if found and alone and begin >= 0 and at - begin > 1:
                items.setdefault(line[begin:at].rstrip(), line[begin:at].rstrip())
            begin, alone = -1, True
        elif is_word(char):
            begin = at if begin < 0 else begin
        elif begin >= 0 and char not in " -/":
            begin, alone = -1, False
        elif begin < 0 and not char.isspace():
            alone = False
        at += 1
    return found, items


def _value(line: str, at: int) -> tuple[str, int]:
    """The value that begins at `at`, and where the next item begins."""
    if line.startswith('"', at):
        end = at + 1
        while end < len(line) and line[end] != '"':
            end += 2 if line[end] == "\\" else 1
        if end < len(line) and line[end + 1 : end + 2] in ("", ","):
            return _unquote(line[at : end + 1]), end + 2
    end = next((i for i in range(at, len(line)) if line[i] in ",\n"), len(line))
    return line[at:end].rstrip(), end + 1


def _json_end(line: str, at: int) -> int:
    """Behind the JSON value that begins at `at`, 0 if there is none that a comma or the end follows."""
    try:
        end = json.JSONDecoder().raw_decode(line, at)[1]
    except (ValueError, RecursionError):
        return 0
    return end if line[end : end + 1] in ("", ",", "\n") else 0


def _unquote(text: str) -> str:
    try:
        return clean_text(str(json.loads(text, strict=False)))
    except ValueError:
        return text


def is_word(char: str) -> bool:
    """Whether a key may hold it: a regular expression's \\w."""
    return char.isalnum() or char == "_"


# ------------------------------------------------------------------------------------------- what is meant by leaving it out

DEFAULTS = {
    "Clip skip": "1",
    "Hires resize-1": "0",
    "Hires resize-2": "0",
    "Hires sampler": "Use same sampler",
    "Hires schedule type": "Use same scheduler",
    "Hires checkpoint": "Use same checkpoint",
    "Hires prompt": "",
    "Hires negative prompt": "",
    "Mask mode": "Inpaint masked",
    "Masked content": "original",
    "Inpaint area": "Whole picture",
    "Masked area padding": "32",
    "RNG": A1111_RNG,
    "Schedule type": "Automatic",
    "Schedule max sigma": "0",
    "Schedule min sigma": "0",
    "Schedule rho": "0",
    "VAE Encoder": "Full",
    "VAE Decoder": "Full",
    "FP8 weight": "Disable",
    "Cache FP16 weight for LoRA": "False",
    "Refiner switch by sampling steps": "False",
}

_FIRST_PASS_PIXELS = 512 * 512


def completed(parsed: Mapping[str, str]) -> dict[str, str]:
    """`parsed` as A1111's reader returns it: with its defaults, its legacy items translated, and what its old versions meant.

    A text without items is left as it is: there is nothing to complete.
    """
    full = dict(parsed)
    if len(full) <= 2:
        return full
    if name := full.get("Hypernet"):
        full[PROMPT] = f"{full.get(PROMPT, '')}<hypernet:{name}:{full.get('Hypernet strength', '1.0')}>"
    _translate_first_pass(full)
    old = _meant_by_old_versions(full)
    if any(c in full.get(PROMPT, "") + full.get(NEGATIVE, "") for c in "(["):
        full.setdefault("Emphasis", "Original")
    for key, value in DEFAULTS.items():
        full.setdefault(key, value)
    return full | old


def _translate_first_pass(full: dict[str, str]) -> None:
    """Before A1111 1.0 "Size" was the size after the second pass; what was painted first stood beside it, 0 for "choose"."""
    sizes = [full.get(key, "") for key in ("First pass size-1", "First pass size-2", "Size-1", "Size-2")]
    if not all(re.fullmatch("[0-9]{1,9}", size) for size in sizes):
        return
    first_width, first_height, width, height = map(int, sizes)
    if not (first_width and first_height) and width and height:
        scale = math.sqrt(_FIRST_PASS_PIXELS / (width * height))
        first_width, first_height = (math.ceil(scale * side / 64) * 64 for side in (width, height))
    full |= {"Size-1": str(first_width), "Size-2": str(first_height)}
    full |= {"Hires resize-1": str(width), "Hires resize-2": str(height)}


Version = tuple[int, int, int, int]
_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:-(?:(\d{1,9})|(RC)))?(?:-.*)?", re.IGNORECASE)


def a1111_version(text: str) -> Version | None:
    """Major, minor, patch, commits since; None for what is no version of A1111's.  A release candidate has -1 commits.

    >>> a1111_version("v1.6.0-2-g4afaaf8a"), a1111_version("1.10.1"), a1111_version("f2.0.1v1.10.1")
    ((1, 6, 0, 2), (1, 10, 1, 0), None)
    """
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        return None
    commits = -1 if found[5] else int(found[4] or 0)
    return int(found[1]), int(found[2]), int(found[3] or 0), commits


def _meant_by_old_versions(full: Mapping[str, str]) -> dict[str, str]:
    version = a1111_version(full.get("Version", ""))
    if version is None:
        return {}
    meant = {}
    if version < (1, 6, 0, 0):
        if "[" in full.get(PROMPT, ""):
            meant["Old prompt editing timelines"] = "True"
        if full.get("Sampler") in ("DDIM", "PLMS"):
            meant["Pad conds v0"] = "True"
    if version < (1, 7, 0, 225):
        meant["Downcast alphas_cumprod"] = "True"
    if version < (1, 8, 0, 0) and full.get("Refiner"):
        meant["Refiner switch by sampling steps"] = "True"
    return meant
