"""`models`: get models, and make model files of model files: merge, bake, extract-lora, merge-loras, convert.  May run beside a
server.

Each file is made by a process of its own, as in the server; Ctrl-C ends it and leaves nothing half-written, and a download goes
on when it is asked for again.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable
from typing import Any

from modules.errors import RequestError
from modules.model_tools.places import Places
from modules.model_tools.process import ToolProcess
from modules.model_tools.requests import parse
from modules.settings import Settings

BAR = 30


def run(values: argparse.Namespace, settings: Settings) -> int:
    """Carry out one tool; 0 when all files were made, 1 when one was not.

    Raises:
        AtelierError: it cannot be made, and why.
    """
    if values.action is None:
        raise RequestError("models: say what to make, see webui.py models --help")
    places = Places(settings.models_dirs, by_path=True)
    requests = [parse(fields) for fields in _FIELDS[values.action](values)]
    orders = [places.order(each, secrets.token_hex(8), settings.data_dir / "hashes.json") for each in requests]
    done = []
    for order in orders:
        shown = _Progress(order.target.name, quiet=values.json)
        process = ToolProcess(order)
        try:
            outcome = process.run(shown.say)
        finally:
            shown.end()
        made = order.target.parent / outcome.file
        done.append({"file": os.fspath(made), "notes": list(outcome.notes)})
        if not values.json:
            print(f"{made}: made")
            for note in outcome.notes:
                print(f"  {note}")
    if values.json:
        print(json.dumps(done))
    return 0


class _Progress:
    """A bar on a terminal; elsewhere a line for each tenth."""

    def __init__(self, name: str, quiet: bool) -> None:
        self._name, self._quiet, self._tenth = name, quiet, -1
        self._live = sys.stderr.isatty()

    def say(self, doing: str, progress: float) -> None:
        if self._quiet:
            return
        if self._live:
            full = round(progress * BAR)
            line = f"\r{self._name}: {'█' * full}{'·' * (BAR - full)} {progress:4.0%} {doing[:30]:30}"
            print(line, end="", file=sys.stderr, flush=True)
        elif int(progress * 10) > self._tenth:
            self._tenth = int(progress * 10)
            print(f"{self._name}: {progress:.0%} {doing}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._live and not self._quiet:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _convert(values: argparse.Namespace) -> list[dict[str, Any]]:
    return [{"tool": "convert", "file": name, "replace": values.force} for name in values.files]


def _get(values: argparse.Namespace) -> list[dict[str, Any]]:
    return [{"tool": "get", **_given(values, ("source", "file", "to", "fp16", "output", "sha256"))}]


def _merge(values: argparse.Namespace) -> list[dict[str, Any]]:
    names = ("a", "b", "c", "method", "multiplier", "blocks", "parts", "vae", "dtype", "output")
    return [{"tool": "merge", **_given(values, names)}]


def _extract(values: argparse.Namespace) -> list[dict[str, Any]]:
    names = ("base", "tuned", "rank", "conv_rank", "alpha", "clamp", "text", "rest", "dtype", "output")
    return [{"tool": "extract", **_given(values, names)}]


def _merge_loras(values: argparse.Namespace) -> list[dict[str, Any]]:
    names = ("method", "rank", "conv_rank", "checkpoint", "dtype", "output")
    return [{"tool": "merge-loras", **_given(values, names), "loras": [_lora(text) for text in values.loras]}]


def _bake(values: argparse.Namespace) -> list[dict[str, Any]]:
    return [{"tool": "bake", **_given(values, ("checkpoint", "dtype", "output")), "loras": [_lora(t) for t in values.loras]}]


def _given(values: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """What was said; the rest has the defaults of the request.  Numbers come as text and are read by it."""
    said = {name: getattr(values, name) for name in names}
    return {name: value for name, value in said.items() if value is not None} | {"replace": values.force}


def _lora(text: str) -> dict[str, Any]:
    """NAME, NAME:STRENGTH or NAME:STRENGTH:TEXT_STRENGTH; only numbers at the end count as strengths."""
    parts = text.rsplit(":", 2)
    numbers: list[float] = []
    while len(parts) > 1 and _is_number(parts[-1]):
        numbers.insert(0, float(parts.pop()))
    found: dict[str, Any] = {"name": ":".join(parts)}
    if numbers:
        found["strength"] = numbers[0]
    if len(numbers) > 1:
        found["text_strength"] = numbers[1]
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_FIELDS: dict[str, Callable[[argparse.Namespace], list[dict[str, Any]]]] = {
    "get": _get,
    "convert": _convert,
    "merge": _merge,
    "extract-lora": _extract,
    "merge-loras": _merge_loras,
    "bake": _bake,
}
