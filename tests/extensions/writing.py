"""Writes extensions for tests."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any


def write_extension(folder: Path, called: str, web: str = "", engine: str = "", **manifest: Any) -> Path:
    """An extension in `folder`/`called` with these sources as halves; the manifest gets these keys, those of None go."""
    said = {"name": called, "version": "1.0.0"} | ({"web": "web"} if web else {}) | ({"engine": "engine"} if engine else {})
    said |= manifest
    place = folder / called
    place.mkdir(parents=True)
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in said.items() if value is not None]
    (place / "extension.toml").write_text("".join(lines), encoding="utf-8")
    for module, source in (("web", web), ("engine", engine)):
        if source:
            (place / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return place


EMPTY = "class Plugin:\n    pass\n"

SAMPLER = """
from modules.diffusion.samplers import Sampler
from modules.diffusion.samplers.euler import euler
from modules.hooks import hookimpl

class Plugin:
    @hookimpl
    def samplers(self):
        return [Sampler("{0}", euler, ())]
"""
"""A half that adds a sampler of the name that is put in."""
