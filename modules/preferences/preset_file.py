"""A preset as a JSON file that people hand on: `{"atelier_preset": 1, "tab": ..., "name": ..., "fields": {...}}`."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from modules.errors import RequestError

VERSION = 1
MAX_NAME = 100
MAX_BYTES = 256 * 1024
"""Of a preset's fields as JSON."""

TABS = ("txt2img", "img2img", "inpaint")
_FIELD = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_MAX_FIELDS = 500
_MAX_DEPTH = 6


def checked_name(name: Any) -> str:
    """
    Raises:
        RequestError: it cannot be a preset's name.
    """
    text = unicodedata.normalize("NFC", name).strip() if isinstance(name, str) else ""
    if not text or len(text) > MAX_NAME or not text.isprintable():
        raise RequestError(f"name: it must be 1 to {MAX_NAME} characters that can be seen")
    return text


def checked_fields(tab: Any, fields: Any) -> dict[str, Any]:
    """
    Raises:
        RequestError: they are no fields of a form.
    """
    if tab not in TABS:
        raise RequestError(f"tab: it must be one of {', '.join(TABS)}")
    if not isinstance(fields, dict) or not fields or len(fields) > _MAX_FIELDS:
        raise RequestError("fields: it must be an object of a form's fields")
    for name, value in fields.items():
        if not isinstance(name, str) or not _FIELD.fullmatch(name) or not _plain(value, _MAX_DEPTH):
            raise RequestError(f"fields: {str(name)[:60]!r} is no field with a plain value")
    if len(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")) > MAX_BYTES:
        raise RequestError(f"fields: they have more than {MAX_BYTES // 1024} kB")
    return dict(fields)


def written(tab: str, name: str, fields: Any) -> str:
    return json.dumps({"atelier_preset": VERSION, "tab": tab, "name": name, "fields": fields}, ensure_ascii=False, indent=2)


def read(said: Any) -> tuple[str, str, dict[str, Any]]:
    """Tab, name and fields of a file's JSON.

    Raises:
        RequestError: it is no preset, or one of a newer version.
    """
    version = said.get("atelier_preset") if isinstance(said, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise RequestError('the file is no preset: it must be a JSON object with "atelier_preset": 1')
    if version > VERSION:
        raise RequestError(f"the file is a preset of version {version}, and this program reads {VERSION}; update it")
    return said.get("tab"), checked_name(said.get("name")), checked_fields(said.get("tab"), said.get("fields"))


def _plain(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(key, str) and _plain(each, depth - 1) for key, each in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_plain(each, depth - 1) for each in value)
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and value == value)
