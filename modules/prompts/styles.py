"""Styles: named prompts that are wrapped around, or put behind, what a user writes; kept in A1111's `styles.csv`.

Reading, writing, applying and extracting do what A1111 1.10.1 does (`modules/styles.py` there), so that the file can be shared
with it.  Which styles a request names is not known here.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modules.errors import SettingsError
from modules.request import clean_text

PLACE = "{prompt}"
MAX_BYTES = 16 * 2**20
FIELDS = ("name", "prompt", "negative_prompt")


@dataclass(frozen=True)
class Style:
    """`{prompt}` in a text is where the user's goes; without it the style's text goes behind the user's."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(path: Path) -> dict[str, Style]:
    """The styles of a file by name; none when there is no file.  Rows whose name begins with # are passed over.

    Raises:
        SettingsError: the file cannot be read or is no such table.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{path} is larger than {MAX_BYTES // 2**20} MB; is it a styles file?")
        text, _ = decoded(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"the styles file {path} cannot be read: {error.strerror or error}") from None
    text = text.replace("\x00", "").lstrip("\r\n")  # the table begins with its first line that is not empty
    rows = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        return _by_name(rows, path)
    except csv.Error as error:
        raise SettingsError(
            f"{path}, line {rows.line_num}: {error}; it must be a table of name, prompt, negative_prompt"
        ) from None


def decoded(data: bytes) -> tuple[str, str]:
    """The text of a file that people edit, and the name of its encoding, "" for UTF-8.

    Spreadsheets write UTF-16, older programs Windows-1252.

    >>> decoded("é".encode("cp1252")), decoded("é".encode("utf-8-sig"))
    (('é', 'Windows-1252'), ('é', ''))
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace"), "UTF-16"
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace"), "Windows-1252"


def _by_name(rows: csv.DictReader[str], path: Path) -> dict[str, Style]:
    if rows.fieldnames is not None and "name" not in rows.fieldnames:
        found = ", ".join(rows.fieldnames)[:80]
        raise SettingsError(f"{path} has no column 'name', but {found!r}; the first line must be name,prompt,negative_prompt")
    styles: dict[str, Style] = {}
    for row in rows:
        name = row.get("name")
        if not name or name.startswith("#"):
            continue
        prompt = row["prompt"] if "prompt" in row else row.get("text")  # the oldest files have name,text
        styles[name] = Style(name, clean_text(prompt or ""), clean_text(row.get("negative_prompt") or ""))
    return styles


def write_styles(path: Path, styles: Iterable[Style]) -> None:
    """Replace the file, in one step; the one before stays as `.bak`.

    Raises:
        SettingsError: it cannot be written; the old file is untouched.
    """
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, FIELDS)
    table.writeheader()
    for style in styles:
        table.writerow({name: clean_text(getattr(style, name)) for name in FIELDS})
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            shutil.copy(path, path.with_name(f"{path.name}.bak"))
        with part.open("w", encoding="utf-8-sig", newline="") as file:
            file.write(text.getvalue())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SettingsError(f"the styles file {path} cannot be written: {error.strerror or error}") from None


def apply_styles(prompt: str, texts: Iterable[str]) -> str:
    """`prompt` with the texts of styles, one after the other.

    >>> apply_styles("a cat", ["photo of {prompt}, 35mm", "sharp"])
    'photo of a cat, 35mm, sharp'
    """
    for text in texts:
        if PLACE in text:
            prompt = text.replace(PLACE, prompt)
        else:
            prompt = ", ".join(part for part in (prompt.strip(), text.strip()) if part)
    return prompt


@dataclass(frozen=True)
class Extracted:
    """The names of the styles that a pair of prompts was made with, in the order of applying, and what is left."""

    styles: tuple[str, ...]
    prompt: str
    negative_prompt: str


def extract_styles(prompt: str, negative_prompt: str, styles: Mapping[str, Style] | Sequence[Style]) -> Extracted:
    """Undo `apply_styles` on both prompts of a picture, as pasting a picture's text does.

    A style is found where both of its texts are; styles that say nothing are found nowhere.
    """
    left = list(styles.values() if isinstance(styles, Mapping) else styles)
    found: list[str] = []
    while True:
        for style in left:
            if not (style.prompt or style.negative_prompt):
                continue
            positive = _unwrapped(style.prompt, prompt)
            negative = _unwrapped(style.negative_prompt, negative_prompt)
            if positive is not None and negative is not None:
                prompt, negative_prompt = positive, negative
                found.append(style.name)
                left.remove(style)
                break
        else:
            return Extracted(tuple(reversed(found)), prompt, negative_prompt)


def _unwrapped(text: str, prompt: str) -> str | None:
    """What `prompt` was before the style's text was applied; None when it was not."""
    text, stripped = text.strip(), prompt.strip()
    before, place, behind = text.partition(PLACE)
    if place:
        # Overlapping ends would make a prompt of negative length
        if len(stripped) >= len(before) + len(behind) and stripped.startswith(before) and stripped.endswith(behind):
            return stripped[len(before) : len(stripped) - len(behind)]
        return None
    return stripped[: len(stripped) - len(text)].removesuffix(", ") if stripped.endswith(text) else None
