"""Extensions as the APIs list them."""

from __future__ import annotations

import re
from typing import Any

from modules.extensions.service import ExtensionView
from modules.request import EXTENSIONS

_USER = re.compile(r"(?<=://)[^/@\s]*@")


def public_source(view: ExtensionView) -> str:
    """Where it came from, an address without the user and password that it may have.

    >>> _USER.sub("", "https://ada:secret@example.org/freeu.git")
    'https://example.org/freeu.git'
    """
    return _USER.sub("", view.source)


def options_schema(name: str) -> dict[str, Any] | None:
    """The JSON schema of the options that requests may have of an extension, None where it has none (now)."""
    return EXTENSIONS[name].options.model_json_schema() if name in EXTENSIONS else None


def a1111_item(view: ExtensionView) -> dict[str, Any]:
    """As A1111's API lists it; what git knows is left empty, as A1111 does for what is no clone."""
    remote = public_source(view) if "://" in view.source or "@" in view.source else ""
    return {
        "name": view.name,
        "remote": remote,
        "branch": "",
        "commit_hash": "",
        "version": view.version,
        "commit_date": 0,
        "enabled": view.state == "on",
    }
