"""Recipes of pictures from elsewhere: the models that they name, under the names that these have here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules.catalogue.names import Names
from modules.checkpoints.companions import lora_file, lora_of_hash
from modules.checkpoints.files import find
from modules.errors import RequestError, UnknownName
from modules.pixels.enlarging import hires_upscalers
from modules.request import RefinerOptions

_WITH_NETWORKS = ("prompt",)
"""Fields of a request, and of its second pass, in which networks are named."""


class Recipes:
    """Finds what recipes name; each call changes `fields` to what is here and says what is not."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def vae(self, fields: dict[str, Any]) -> str:
        """Leave out the autoencoder of a recipe that is not here; what to say about that, "" where it is."""
        name = fields.get("vae")
        if not isinstance(name, str) or name.casefold() == "taesd":  # which is refused where it is not here
            return ""
        try:
            fields["vae"] = self.names.vae(name)
        except RequestError:
            del fields["vae"]
            return f"the VAE {name[:80]!r} is not here; the checkpoint's own is used"
        return ""

    def upscaler(self, fields: dict[str, Any]) -> str:
        """Give the upscaler of a recipe's second pass the name that it has here, or Lanczos in its place; what to say about
        that, "" where it is here."""
        hires = fields.get("hires")
        if not isinstance(hires, dict) or not isinstance(name := hires.get("upscaler"), str):
            return ""
        try:
            fields["hires"] = {**hires, "upscaler": self.names.upscaler(name, "hires.upscaler", hires_upscalers())}
        except RequestError:
            fields["hires"] = {**hires, "upscaler": "Lanczos"}
            return f"the upscaler {name[:80]!r} is not here; Lanczos takes its place"
        return ""

    def refiner(self, fields: dict[str, Any], cache: Path) -> str:
        """Give the refiner of a recipe, "name [hash]", the name that it has here, or leave it out; what to say about that, ""
        where it is here.  Hashes are those that `cache` remembers."""
        name = fields.get("refiner")
        if not isinstance(name, str) or not name:
            return ""
        if known := self._found(name, cache):
            fields["refiner"] = known
            return ""
        for field in RefinerOptions.model_fields:
            fields.pop(field, None)
        fields["refiner"] = ""
        return f"the refiner {name[:80]!r} is not here; the checkpoint goes on alone"

    def hires(self, fields: dict[str, Any], cache: Path) -> str:
        """Give the checkpoint of a recipe's second pass, "name [hash]", the name that it has here, or leave it out; what to say
        about that, "" where it is here."""
        if not isinstance(hires := fields.get("hires"), dict):
            return ""
        name = hires.get("checkpoint")
        if not isinstance(name, str) or not name:
            return ""
        known = self._found(name, cache)
        fields["hires"] = {**hires, "checkpoint": known}
        return "" if known else f"the hires checkpoint {name[:80]!r} is not here; the second pass runs with the first one's"

    def _found(self, name: str, cache: Path) -> str:
        """The name that a checkpoint of a recipe, "name [hash]", has here; "" where it is not here."""
        digits = re.search(r"\[([0-9a-fA-F]{8,64})\]\s*$", name)
        for known in (*([digits[1]] if digits else []), name):
            try:
                return find(self.names.folders, known, cache).name
            except UnknownName:
                continue
        return ""

    def loras(self, fields: dict[str, Any], hashes: Mapping[str, str], cache: Path) -> tuple[dict[str, Any], list[str]]:
        """A recipe's fields with LoRAs under the names that they have here, and what to say of that.

        `hashes` are those that the recipe gives to its names; a name that is here stays, whatever its file's hash.
        """
        renamed: dict[str, str] = {}
        for name, digits in hashes.items():
            if (
                digits
                and lora_file(self.names.folders, name) is None
                and (found := lora_of_hash(self.names.folders, digits, cache))
            ):
                renamed[name] = found.name
        if not renamed:
            return fields, []
        made: dict[str, Any] = {
            key: _renamed(text, renamed) for key in _WITH_NETWORKS if isinstance(text := fields.get(key), str)
        }
        if isinstance(hires := fields.get("hires"), dict):
            again = {key: _renamed(text, renamed) for key in _WITH_NETWORKS if isinstance(text := hires.get(key), str)}
            made["hires"] = {**hires, **again}
        return {**fields, **made}, [f"LoRA {old[:80]!r} is {new!r} here, by its hash" for old, new in renamed.items()]


def _renamed(prompt: str, names: Mapping[str, str]) -> str:
    """`prompt` with LoRAs under other names; hashes are told without the colons and commas of names (A1111)."""

    def tag(found: re.Match[str]) -> str:
        name = found[2].replace(":", "").replace(",", "")
        return f"{found[1]}{names[name]}" if name in names else found[0]

    return re.sub(r"(<(?:lora|lyco):)([^:<>]+)(?=[:>])", tag, prompt)
