"""How a picture on disk was made: the fields of a request, from our record or from A1111's text.

What `generate --from FILE` reads.  Knows where the texts are and which to prefer; which checkpoints exist is for the caller
to see.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.errors import RequestError
from modules.images import png
from modules.images.infotext import checkpoint_names, parse, parse_record, request_fields


@dataclass(frozen=True)
class Recipe:
    """`fields` for `modules.request.parse_request`; `checkpoints` are the picture's names for its checkpoint, surest first
    (hash, then name); `program` is who wrote it ("" when it does not say)."""

    fields: dict[str, Any]
    checkpoints: tuple[str, ...]
    program: str


def read_recipe(source: Path | bytes) -> Recipe:
    """The recipe of a PNG.  Our own record is complete and preferred; other programs' pictures have only the text.

    Raises:
        RequestError: no readable PNG, or one that does not say how it was made.
    """
    texts = png.read_texts(source).texts
    try:
        info = parse_record(texts[png.RECORD]).info
    except (KeyError, RequestError):
        # A damaged or newer record says less than the text beside it, which every version reads.
        return recipe_of_text(texts.get(png.PARAMETERS, ""), source.name if isinstance(source, Path) else "the picture")
    fields = info.request.model_dump(mode="json")
    checkpoints = tuple(name for name in (info.model_hash, info.model_name) if name)
    return Recipe(fields, checkpoints, info.version)


def recipe_of_text(text: str, name: str = "the text") -> Recipe:
    """The recipe that an A1111 text tells.

    Raises:
        RequestError: there are no settings in it.
    """
    parsed = parse(text)
    if "Steps" not in parsed:
        raise RequestError(f"{name} does not say how it was made: no generation settings were found in it")
    return Recipe(request_fields(parsed), checkpoint_names(parsed), parsed.get("Version", ""))
