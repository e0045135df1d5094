"""Readers of settings: (value, folder that relative paths start from) -> value.

A value is text from a flag or the environment, or one of TOML from a file.  What cannot be read is a ValueError that says what
it must be.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.naming import Pattern
from modules.settings.settings import ROOT

MAX_WORKERS = 64
"""Engine processes of one server."""


def folder(value: Any, base: Path) -> Path:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("a folder")
    return Path(os.path.normpath(base / Path(value).expanduser()))


def folders(value: Any, base: Path) -> tuple[Path, ...]:
    """Folders, and last the project's own, so that the starter checkpoint is always at hand."""
    if isinstance(value, str):
        value = [part for part in value.split(os.pathsep) if part]
    if not isinstance(value, list):
        raise ValueError("a folder or a list of folders")
    return tuple(dict.fromkeys([*(folder(part, base) for part in value), ROOT / "models"]))


@dataclass(frozen=True)
class OneOf:
    """Reads one of several words."""

    choices: tuple[str, ...]

    def __call__(self, value: Any, _: Path) -> str:
        if value not in self.choices:
            raise ValueError(f"one of {', '.join(self.choices)}")
        return str(value)


def one_of(*choices: str) -> OneOf:
    return OneOf(choices)


def device(value: Any, _: Path) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", value):
        raise ValueError("auto, cpu, cuda or cuda:N")
    return value


def count(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise ValueError("a whole number from 1 to 999999")
    return int(text)


def whole(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError("a whole number from 0 to 999999")
    return int(text)


def workers(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= MAX_WORKERS:
        raise ValueError(f"a whole number from 1 to {MAX_WORKERS}")
    return int(text)


def percent(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= 100:
        raise ValueError("a whole number from 1 to 100")
    return int(text)


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def switch(value: Any, _: Path) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    raise ValueError("true or false")


def port(value: Any, _: Path) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError("a number from 0 to 65535 (0 takes any free port)")
    return int(text)


def host(value: Any, _: Path) -> str:
    if value == "localhost":
        return "localhost"
    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("an IP address of this machine such as 127.0.0.1, or localhost") from None
    return str(value)


def file(value: Any, base: Path) -> Path:
    try:
        return folder(value, base)
    except ValueError:
        raise ValueError("a file") from None


def each(read: Callable[[str], str], what: str) -> Callable[[Any, Path], tuple[str, ...]]:
    """Several values: a list, or a text with commas between them."""

    def read_all(value: Any, _: Path) -> tuple[str, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list):
            raise ValueError(what)
        try:
            return tuple(dict.fromkeys(read(part.strip()) for item in parts for part in item.split(",")))
        except (AttributeError, ValueError):
            raise ValueError(what) from None

    return read_all


def pattern(parse: Callable[[str], Pattern]) -> Callable[[Any, Path], str]:
    def read(value: Any, _: Path) -> str:
        if not isinstance(value, str):
            raise ValueError("a pattern such as [seed]")
        parse(value)
        return value

    return read


def host_name(text: str) -> str:
    if re.fullmatch(r"(?!-)[A-Za-z0-9._-]{1,253}", text):
        return text.lower()
    return str(ipaddress.IPv6Address(text.strip("[]")))


def tab(text: str) -> str:
    if text == "txt2img" or not re.fullmatch("[a-z][a-z0-9_]*", text):
        raise ValueError
    return text


def network(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False))


def origin(text: str) -> str:
    """As browsers write it, so that it can be compared as text."""
    match = re.fullmatch(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", text)
    if match is None:
        raise ValueError
    default = {"http": ":80", "https": ":443"}[match[1]]
    return text.lower().removesuffix(default)
