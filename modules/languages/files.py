"""The language files and what a page loads of them: `translate.js`, and one script for each language.

A file is JSON: the English text, and what stands in its place.  One that is missing or damaged leaves English, and the log says
so.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

log = logging.getLogger("atelier")

FOLDER = Path(__file__).parent

LANGUAGES = {"de": "Deutsch", "es": "Español", "ja": "日本語", "zh-CN": "简体中文"}
"""Their files, without the ending, and their own names.  English needs no file."""


def read(name: str, folder: Path = FOLDER) -> dict[str, str]:
    """The texts of a language by their English.

    Raises:
        ValueError: the file is missing or is no table of texts.
    """
    try:
        found = json.loads((folder / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"the language file {name}.json cannot be read: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"the language file {name}.json is no table of texts by their English")
    return found


def script(name: str, folder: Path = FOLDER) -> bytes:
    """The texts of a language as the script that `translate.js` loads; without any where the file cannot be read."""
    try:
        texts = json.dumps(read(name, folder), ensure_ascii=False, separators=(",", ":"))
    except ValueError as error:
        log.warning("%s; the page stays English for who has this language", error)
        texts = "null"
    return f"window.atelierLanguage({texts});".encode()


def language_files(folder: Path = FOLDER) -> Router:
    """What is served below the folder of a page's own files, whose address changes with `digest`."""

    @cache
    def content(name: str) -> tuple[bytes, bytes]:
        body = (FOLDER / "translate.js").read_bytes() if name == "translate" else script(name, folder)
        return body, gzip.compress(body, 6, mtime=0)

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        if name != "translate" and name not in LANGUAGES:
            return Response(status_code=404)
        body, packed = content(name)
        headers = {"vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["content-encoding"] = packed, "gzip"
        return Response(body, media_type="text/javascript; charset=utf-8", headers=headers)

    return Router([Route("/{name}.js", answer)])


def digest() -> bytes:
    """Changes with every file that is served."""
    found = hashlib.sha256()
    for path in sorted((*FOLDER.glob("*.json"), FOLDER / "translate.js")):
        found.update(path.name.encode() + path.read_bytes())
    return found.digest()
