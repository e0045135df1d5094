"""The manifest of an extension, `extension.toml`: what it is called, what it needs, and which halves it has.

name = "freeu"                  # as its folder is called
title = "FreeU"
version = "1.0.0"
description = "Better pictures from the same network."
atelier = ">=0.1"               # versions of Atelier, optional
python = ["pillow>=10"]         # what else must be installed, optional
web = "web"                     # web.py of the folder, for the web process, optional
engine = "engine"               # engine.py of the folder, for the engine, optional
on_failure = "without"          # or "fail": what becomes of a picture when a hook of it raises
"""

from __future__ import annotations

import difflib
import re
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from modules import __version__
from modules.errors import ExtensionError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MANIFEST = "extension.toml"
MAX_BYTES = 64 << 10
"""Of a manifest."""
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Of an extension and its folder."""
_MODULE = re.compile(r"[a-z_][a-z0-9_]{0,39}")

Half = Literal["web", "engine"]
HALVES: tuple[Half, ...] = ("web", "engine")
OnFailure = Literal["without", "fail"]

_TEXTS = {"name": 40, "title": 80, "version": 40, "description": 500, "atelier": 100, "web": 40, "engine": 40, "on_failure": 10}
"""The keys whose values are texts, and how many characters those may have."""
_NEEDED = ("name", "version")


@dataclass(frozen=True)
class Manifest:
    """What an `extension.toml` says.

    `atelier` is a version specifier, "" for any; `python` are requirements as pip takes them (PEP 508); `web` and `engine` are
    names of modules in the folder, "" for none; `on_failure` is "without" or "fail".
    """

    name: str
    title: str
    version: str
    description: str = ""
    atelier: str = ""
    python: tuple[str, ...] = ()
    web: str = ""
    engine: str = ""
    on_failure: OnFailure = "without"

    @property
    def halves(self) -> tuple[Half, ...]:
        """The halves that it has."""
        return tuple(half for half in HALVES if self.module(half))

    def module(self, half: Half) -> str:
        """The module of a half, "" where it has none."""
        return self.web if half == "web" else self.engine

    def misfit(self) -> str:
        """Why it is not for this version of ours, "" where it is."""
        if not self.atelier or SpecifierSet(self.atelier).contains(__version__, prereleases=True):
            return ""
        return f"it is for Atelier {self.atelier}, and this is {__version__}; get a version of it that fits, or update Atelier"


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`, whose name is not looked at.

    Raises:
        ExtensionError: there is none, or it makes no sense; says what is wrong.
    """
    try:
        with (folder / MANIFEST).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ExtensionError(f"it has no {MANIFEST}") from None
    except OSError as error:
        raise ExtensionError(f"its {MANIFEST} cannot be read: {error.strerror or error}") from None
    return parse_manifest(data)


def parse_manifest(data: bytes) -> Manifest:
    """The manifest that these bytes are.

    Raises:
        ExtensionError: they make no sense as one; says what is wrong.
    """
    if len(data) > MAX_BYTES:
        raise ExtensionError(f"its {MANIFEST} is larger than {MAX_BYTES >> 10} KiB")
    try:
        said = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ExtensionError(f"its {MANIFEST} is not valid TOML: {str(error)[:200]}") from None
    return _checked(said)


def _checked(said: dict[str, Any]) -> Manifest:
    known = (*_TEXTS, "python")
    for key in said:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise ExtensionError(f"its {MANIFEST} has the unknown key {key[:60]!r}; {hint}")
    for key in _NEEDED:
        if key not in said:
            raise ExtensionError(f"its {MANIFEST} does not say its {key}")
    texts = {key: _text(key, said[key]) for key in _TEXTS if key in said}
    if not NAME.fullmatch(texts["name"]):
        raise _wrong("name", texts["name"], "lower-case letters, digits and _, at most 40, a letter first")
    try:
        Version(texts["version"])
    except InvalidVersion:
        raise _wrong("version", texts["version"], "a version such as 1.0.0") from None
    try:
        SpecifierSet(texts.get("atelier", ""))
    except InvalidSpecifier:
        raise _wrong("atelier", texts["atelier"], "versions of Atelier such as >=0.1") from None
    for half in HALVES:
        if texts.get(half) and not _MODULE.fullmatch(texts[half]):
            raise _wrong(half, texts[half], f'the name of a module in its folder, such as "{half}" for {half}.py')
    if not texts.get("web") and not texts.get("engine"):
        raise ExtensionError(f'its {MANIFEST} names no half; add web = "web" or engine = "engine"')
    if texts.get("on_failure", "without") not in ("without", "fail"):
        raise _wrong("on_failure", texts["on_failure"], '"without" or "fail"')
    texts.setdefault("title", texts["name"].replace("_", " ").capitalize())
    return Manifest(**texts, python=_requirements(said.get("python", [])))  # type: ignore[arg-type]


def _text(key: str, value: Any) -> str:
    """
    Raises:
        ExtensionError: it is no text, too long, or has characters that cannot be seen.
    """
    if not isinstance(value, str):
        raise _wrong(key, value, "a text")
    if len(value) > _TEXTS[key]:
        raise ExtensionError(f"its {MANIFEST} has a {key} of {len(value)} characters; {_TEXTS[key]} is the most")
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in value):
        raise _wrong(key, value, "one line of characters that can be seen")
    return value.strip()


def _requirements(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value) or len(value) > 50:
        raise _wrong("python", value, 'a list of at most 50 requirements such as ["pillow>=10"]')
    for one in value:
        try:
            requirement = Requirement(one)
        except InvalidRequirement:
            raise _wrong("python", one, 'requirements such as "pillow>=10"') from None
        if requirement.url:
            raise _wrong("python", one, "requirements with versions; addresses are not taken")
    return tuple(value)


def _wrong(key: str, value: Any, must: str) -> ExtensionError:
    text = repr(value)
    return ExtensionError(f"its {MANIFEST} has {key} = {text if len(text) <= 80 else text[:77] + '...'}; it must be {must}")
