"""What a picture says of how it was made, whichever program made it and whatever kind of file it is.

The file is walked, not decoded; only where it says nothing are its pixels looked at for a hidden text.  The programs' own
languages are the business of `readers`; which checkpoints and samplers exist here is for the caller to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from modules.errors import RequestError
from modules.hooks import HOOKS
from modules.images import exif, stealth
from modules.images.containers import USUAL, Bounds, Container, read_container
from modules.images.decode import decode
from modules.images.infotext import as_text, checkpoint_names, parse_record, render, request_fields
from modules.images.infotext_fields import IMG2IMG_FIELDS
from modules.images.infotext_keys import EXTENSION_VERSIONS, HIRES_CHECKPOINT, NEGATIVE, PROMPT, REFINER
from modules.images.infotext_parsing import parse
from modules.images.infotext_tiles import TILED, beyond_tiles
from modules.images.metadata import record_of
from modules.images.png import MAX_TEXTS
from modules.images.readers import READERS, ExtraNetwork, FileTexts, Reading, a1111
from modules.images.readers.file_texts import parse_object, said
from modules.request import SIDE_STEP, Upscaling, clean_text, parse_request
from modules.request.kept_extensions import not_used, of_versions_text, sorted_out
from modules.roles import as_role_fields

_SHOWN = 20_000
"""Characters of one raw text that are passed on."""


@dataclass(frozen=True)
class Found:
    """What was found in a picture or a text.

    `program` is "" when nothing was said.  `infotext` is A1111's text, the picture's own or one made from what other programs
    say.  `fields` are for `modules.request.parse_request`, each of them acceptable; `checkpoints` are the names of the
    checkpoint, surest first (hash, then name).  `items` are the settings as they are shown, without the prompts; `texts` all
    raw texts of the file by where they stood; `notes` sentences about what could not be taken over.  `format` is the file's
    (PNG, JPEG, WEBP, AVIF), "" for a text; width and height are the picture's pixels.
    """

    program: str = ""
    version: str = ""
    infotext: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    checkpoints: tuple[str, ...] = ()
    networks: tuple[ExtraNetwork, ...] = ()
    items: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    format: str = ""
    width: int = 0
    height: int = 0

    @property
    def lora_hashes(self) -> dict[str, str]:
        """What the picture says of its LoRAs' hashes, by their names."""
        return {network.name: network.hash for network in self.networks if network.kind == "lora" and network.hash}


def read_picture(data: bytes, name: str = "the picture", bounds: Bounds = USUAL) -> Found:
    """What the picture in `data` says of how it was made; one that says nothing has no `program`.

    Raises:
        RequestError: no PNG, JPEG, WebP or AVIF, damaged, of more pixels than `bounds` hold, or with more EXIF than is read.
    """
    container = read_container(data, name, bounds)
    file = _told(container)
    found = _own(container) or _foreign(file)
    hides = container.kind in ("PNG", "WEBP") and USUAL.hold(container.width, container.height)
    if not found.program and hides and (hidden := stealth.hidden_text(decode(data, name))):
        file = replace(file, chunks={**file.chunks, **_hidden_chunks(hidden)})
        found = _foreign(file)
    long = ", ".join(name[:40] or f"those behind the first {MAX_TEXTS}" for name in container.left_out)
    notes = (*found.notes, f"texts in the file that are too long to be read: {long[:400]}") if long else found.notes
    return replace(
        found, notes=notes, texts=_shown(file), format=container.kind, width=container.width, height=container.height
    )


def read_text(text: str) -> Found:
    """The recipe of a pasted A1111 text; without settings it is all prompt."""
    reading = a1111.read_text(text)
    return _foreign_found(reading, text) if reading else Found()


def _told(container: Container) -> FileTexts:
    tags = exif.read_tags(container.exif)
    texts = {tag: decoded(value) for tag, value in tags.items() if tag not in (exif.USER_COMMENT, exif.ORIENTATION)}
    comment = user_comment(tags.get(exif.USER_COMMENT, b"")) or decoded(container.comment)
    return FileTexts(container.texts, comment, texts, container.xmp.decode("utf-8", "replace"))


def user_comment(value: bytes) -> str:
    """The text of EXIF's UserComment: 8 bytes that name its code, then the text.

    Programs disagree on the byte order of UNICODE: A1111 writes big-endian whatever the block's order is, others little.

    >>> user_comment(b"UNICODE\\0" + "a cat".encode("utf-16-be")), user_comment(b"UNICODE\\0" + "a cat".encode("utf-16-le"))
    ('a cat', 'a cat')
    """
    code, text = value[:8], value[8:]
    if code == b"UNICODE\0":
        return _utf16(text)
    if code == b"JIS\0\0\0\0\0":
        return clean_text(text.decode("iso2022_jp", "replace")).rstrip("\0")
    if code in (b"ASCII\0\0\0", bytes(8)):
        return decoded(text)
    return decoded(value)


def _utf16(text: bytes) -> str:
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return clean_text(text.decode("utf-16", "replace"))
    # Most text has many characters below 256: the half with more zeros is the upper one.
    little = text[1::2].count(0) > text[::2].count(0)
    return clean_text(text.decode("utf-16-le" if little else "utf-16-be", "replace"))


def decoded(value: bytes) -> str:
    """UTF-8 where it is that, else Latin-1; without NUL and other characters that no text has."""
    try:
        return clean_text(value.decode("utf-8"))
    except UnicodeDecodeError:
        return clean_text(value.decode("latin-1"))


def _hidden_chunks(hidden: str) -> dict[str, str]:
    """A hidden text as the chunks that it is a copy of: NovelAI hides a JSON object of them, the others A1111's text."""
    if chunks := {key: said(value) for key, value in parse_object(hidden).items() if isinstance(value, str)}:
        return chunks if "Comment" in chunks else {"parameters": hidden, **chunks}
    return {"parameters": clean_text(hidden)}


def _own(container: Container) -> Found | None:
    """From our record, which is complete."""
    try:
        info = parse_record(record_of(container)).info
    except RequestError:
        return None
    if isinstance(info.request, Upscaling):  # how its source was made stands beside the record
        return None
    infotext = render(info)
    parsed = parse(infotext)
    fields = as_role_fields(info.request.model_dump(mode="json"))
    checkpoints = tuple(name for name in (info.model_hash, info.model_name) if name)
    prompts = (info.request.prompt, info.request.negative_prompt)
    found = Found(
        "Atelier", info.version, infotext, *prompts, fields, checkpoints, a1111.networks(parsed), items=_items(parsed)
    )
    if info.request.refiner and (said := info.extras.get(REFINER)):
        found = replace(found, fields={**found.fields, "refiner": said})  # with its hash
    if (hires := info.request.hires) and hires.checkpoint and (said := info.extras.get(HIRES_CHECKPOINT)):
        found = replace(found, fields={**found.fields, "hires": {**found.fields["hires"], "checkpoint": said}})
    fields, notes = of_extensions(found.fields, of_versions_text(info.extras.get(EXTENSION_VERSIONS, "")))
    return replace(found, fields=fields, notes=notes)


def of_extensions(fields: dict[str, Any], versions: Mapping[str, str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields with options of extensions that are in use here, and those of others kept; and sentences about the latter.

    `versions` are those of the extensions that the picture was made with.
    """
    already = fields.get("kept_extensions", {})
    used, kept, notes = sorted_out(fields.get("extensions"), versions)
    given: dict[str, Any] = {"extensions": used} if "extensions" in fields else {}
    given |= {"kept_extensions": {**already, **kept}} if already or kept else {}
    return {**fields, **given}, (*notes, *not_used(already))


def _foreign(file: FileTexts) -> Found:
    reading = _first_reading(file)
    return _foreign_found(reading, file.chunks.get("parameters") or file.comment) if reading else Found()


def _first_reading(file: FileTexts) -> Reading | None:
    """What the first reader says that knows such a file.  An extension's reader that fails is passed over."""
    for owned in READERS.owned():
        built_in = HOOKS.is_built_in(owned.owner)
        try:
            with nullcontext() if built_in else HOOKS.entering(owned.owner):
                if (found := owned.entry.read(file)) is not None:
                    return found
        except (Exception, SystemExit) as error:
            if built_in:
                raise
            text = f"its reader {owned.entry.name!r} failed at a picture: {type(error).__name__}"
            HOOKS.report(owned.owner, "readers", text, error)
    return None


def _foreign_found(reading: Reading, text: str) -> Found:
    parsed = dict(reading.items)
    prompt, negative = parsed.get(PROMPT, ""), parsed.get(NEGATIVE, "")
    versions = of_versions_text(parsed.get(EXTENSION_VERSIONS, ""))
    fields, away = of_extensions(request_fields(parsed), versions) if parsed else ({}, ())
    fields, refused = acceptable(fields)
    if reading.program in _WITHOUT_FTFY and not f"{prompt}{negative}".isascii():
        fields["raw_text"] = True
    notes = (*reading.notes, *away, *refused, *_beyond(parsed, "hires" in fields))
    items = _items(parsed)
    infotext = text if "Steps" in parse(text) else _as_text(prompt, negative, items)
    return Found(
        reading.program,
        reading.version,
        infotext,
        prompt,
        negative,
        fields,
        checkpoint_names(parsed),
        reading.networks,
        items,
        notes=notes,
    )


def acceptable(fields: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields that a request takes, sizes brought to the step that is painted; and a sentence for each that it does not."""
    kept: dict[str, Any] = {}
    notes = []
    for name, value in fields.items():
        if name in ("width", "height") and value % SIDE_STEP:
            rounded = max(SIDE_STEP, (value + SIDE_STEP // 2) // SIDE_STEP * SIDE_STEP)
            notes.append(f"{name}: {value} is painted as {rounded}, a multiple of {SIDE_STEP}")
            value = rounded
        extra = {"pictures": {"init": "0" * 64}} if name in IMG2IMG_FIELDS - {"pictures", "source"} else {}
        try:
            parse_request({**extra, name: value})
        except RequestError as error:
            notes.append(f"left out, {error}")
        else:
            kept[name] = value
    return kept, tuple(notes)


_WITHOUT_FTFY = frozenset({"ComfyUI", "SwarmUI", "Fooocus"})
"""Programs whose tokenizer takes curly quotes and full-width letters as they are."""

SECOND_PASS = "a second pass at a larger size"

_BEYOND = {
    "Hires upscale": SECOND_PASS,
    "Hires resize": SECOND_PASS,
    "Face restoration": "face restoration",
    "Tiling": "tiling",
    "Token merging ratio": "token merging",
    "Script": "a script",
    "FP8 weight": "8-bit weights",
    "Pad conds": "padded prompts",
    "Postprocess upscaler": "an upscaler",
    "Ultimate SD upscale upscaler": "an upscaler",
    "ADetailer model": "details that are painted again",
    "RP Active": "regions with words of their own",
    "AddNet Enabled": "networks of the extension Additional Networks",
    "FreeU Stages": "FreeU",
    "Hypertile U-Net": "HyperTile",
    "Module 1": "a VAE or text encoder of its own",
    "Diffusion in Low Bits": "weights of fewer bits",
    "Distilled CFG Scale": "distilled guidance",
}


_IDLE = ("", "Disable", "False", "None", "Automatic", "Built in")


def _beyond(parsed: Mapping[str, str], hires: bool) -> tuple[str, ...]:
    """What the text asks for and nobody here does; `hires` says that its second pass was understood."""
    asked = dict.fromkeys(["ControlNet"] if any(key.startswith("ControlNet") for key in parsed) else [])
    asked |= dict.fromkeys(what for key, what in _BEYOND.items() if parsed.get(key, "") not in _IDLE)
    asked |= dict.fromkeys(beyond_tiles(parsed.get(TILED, "")))
    if hires:
        asked.pop(SECOND_PASS, None)
    return (f"made with {', '.join(asked)}, which is not taken over",) if asked else ()


def _items(parsed: Mapping[str, str]) -> dict[str, str]:
    sizes = {f"{key}-{n}" for key in parsed for n in (1, 2)}
    return {key: value for key, value in parsed.items() if key not in (PROMPT, NEGATIVE) and key not in sizes}


def _as_text(prompt: str, negative: str, items: Mapping[str, str]) -> str:
    """What A1111 would have written."""
    return as_text(prompt, negative, items.items()) if "Steps" in items else ""


def _shown(file: FileTexts) -> dict[str, str]:
    names = {exif.DESCRIPTION: "EXIF ImageDescription", exif.MAKE: "EXIF Make", exif.MODEL: "EXIF Model"}
    names |= {exif.SOFTWARE: "EXIF Software", exif.COPYRIGHT: "EXIF Copyright", exif.MAKER_NOTE: "EXIF MakerNote"}
    texts = {**file.chunks, "EXIF UserComment": file.comment, "XMP": file.xmp if "XML:com.adobe.xmp" not in file.chunks else ""}
    texts |= {names[tag]: text for tag, text in file.tags.items() if tag in names}
    return {name[:100]: text[:_SHOWN] for name, text in texts.items() if text.strip()}
