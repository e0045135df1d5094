"""Options of extensions in a request: `extensions: {name: {field: value}}`.

A plugin names a pydantic class for its options (the hook `request_extensions`), whose fields are declared as a request's own
are, with an `About`.  All of them at their defaults means that the extension does nothing; it is left out of the request then.

    class GlowOptions(BaseModel):
        strength: Annotated[Real, Field(ge=0, le=1), About("Glow", "how much light, 0 to 1", group="Guidance")] = 0.0

    class Glow:
        @hookimpl
        def request_extensions(self):
            return [RequestExtension("glow", GlowOptions, "Glow", tabs=("txt2img", "img2img"))]

What a request keeps of extensions that are not in use is `kept_extensions`' matter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError, ValidationInfo

from modules.fields import about, idle_fields
from modules.hooks import HOOKS, Table
from modules.options import EXTENSIONS as PREFIX
from modules.options import Option, declared_by, grouped, joined
from modules.request.explaining import explained
from modules.request.kinds import clean_text

TABS = ("txt2img", "img2img", "inpaint")
"""The tabs of the page that may have an accordion of an extension's options."""

Given = dict[str, dict[str, Any]]
"""Options by name, by extension: JSON values."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MAX_DEPTH = 8

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class RequestExtension:
    """An extension that requests may have options of.

    `name` is the extension's in requests, on the command line and in infotexts (lower-case letters, digits, _); `options` is
    the pydantic class of its options, each of which has a default.  `title` is what people read, by default the name in words;
    `tabs` are those that have an accordion of the options: A1111's API offers them for pictures from words where "txt2img" is
    among them, and for pictures from pictures where one of the others is.

    Raises:
        ValueError: the name, the class or a tab is none of that kind.
    """

    name: str
    options: type[BaseModel]
    title: str = ""
    tabs: tuple[str, ...] = TABS

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"an extension's name is lower-case letters, digits and _, not {self.name[:60]!r}")
        if needed := [field for field, declared in self.options.model_fields.items() if declared.is_required()]:
            raise ValueError(f"the options of {self.name!r} need defaults, which change nothing: {', '.join(needed)} has none")
        if unknown := [tab for tab in self.tabs if tab not in TABS]:
            raise ValueError(f"the options of {self.name!r} can stand in {', '.join(TABS)}, not in {unknown[0]!r}")
        if not self.title:
            object.__setattr__(self, "title", self.name.replace("_", " ").capitalize())

    def serves(self, image: bool) -> bool:
        """Whether its options are offered for pictures from pictures (`image`), or for those from words."""
        return any((tab != "txt2img") == image for tab in self.tabs)

    def read(self, given: Mapping[str, Any]) -> BaseModel:
        """The options that `given` sets.

        Raises:
            ValueError: a sentence for each field that is not there or cannot have such a value.
        """
        unknown = [field for field in given if field not in self.options.model_fields]
        prefix = f"{PREFIX}{self.name}."
        if unknown:
            raise ValueError("; ".join(f"{prefix}{clean_text(field)[:60]}: there is no such field" for field in unknown))
        try:
            return self.options.model_validate(given)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            raise ValueError("; ".join(dict.fromkeys(explained(self.options, one, prefix) for one in errors))) from None


EXTENSIONS: Table[RequestExtension] = Table(HOOKS, "request_extensions", "request extension", lambda one: (one.name,))
"""The extensions that requests may have options of, by name."""


def checked(given: Given, info: ValidationInfo) -> Given:
    """The options of extensions that are away from their defaults: what a request keeps of `given`.

    A stored request (`info.context`) also keeps, as they are, options of extensions that are not installed or that take no such
    options any more: it must stay readable.

    Raises:
        ValueError: a sentence for each extension that is not installed, and for each field that cannot have its value.
    """
    stored = bool(info.context and info.context.get("stored"))
    kept, wrong = {}, []
    for name, options in given.items():
        as_it_is = {}
        try:
            as_it_is = _plain(options)
            kept[name] = _dumped(_installed(name).read(as_it_is))
        except ValueError as error:
            wrong.append(str(error))
            kept[clean_text(name)] = as_it_is
    if wrong and not stored:
        raise ValueError("; ".join(wrong))
    return {name: options for name, options in kept.items() if options}


def understood(given: Any) -> tuple[Given, list[str]]:
    """What of stored options is taken here, and a sentence for each extension of which it is not."""
    kept, notes = {}, []
    for name, options in given.items() if isinstance(given, dict) else ():
        try:
            kept[name] = _dumped(_installed(name).read(_plain(options)))
        except ValueError as error:
            notes.append(f"made with the extension {clean_text(name)[:60]!r}, whose options are left out: {error}")
    return {name: options for name, options in kept.items() if options}, notes


def without_idle(given: Given) -> Given:
    """`given` with the options put back to their defaults that make no difference beside the others."""
    kept = {}
    for name, options in given.items():
        if read := _read(name, options):
            fields = type(read).model_fields
            read = read.model_copy(update={field: fields[field].get_default() for field in idle_fields(read)})
            options = _dumped(read)
        if options:
            kept[name] = options
    return kept


def changed_options(given: Given) -> Given:
    """`given` without the options that are at their defaults; of what is not understood here everything."""
    read = {name: _read(name, options) for name, options in given.items()}
    return {name: one.model_dump(mode="json", exclude_defaults=True) if one else given[name] for name, one in read.items()}


def idle_options(given: Given) -> set[str]:
    """The options of installed extensions, by their full names, of which no value would make a difference beside the others."""
    read = {name: _read(name, given.get(name, {})) or one.options() for name, one in EXTENSIONS.items()}
    return {f"{PREFIX}{name}.{field}" for name, options in read.items() for field in idle_fields(options)}


def value_of(given: Given, option: str) -> Any:
    """The value of an installed extension's option by its full name, `extensions.NAME.FIELD`; its default without one."""
    name, _, field = option.removeprefix(PREFIX).partition(".")
    return getattr(_read(name, given.get(name, {})) or EXTENSIONS[name].options(), field)


def options_of(given: Given, name: str, kind: type[M]) -> M:
    """The options of the extension `name`, as its own code has them: an instance of its class; the defaults without any."""
    return kind.model_validate(given.get(name, {}))


def labels_of(given: Given) -> dict[str, Any]:
    """The options that are away from their defaults, by the labels that they are shown with."""
    shown = {}
    for name, options in changed_options(given).items():
        extension = EXTENSIONS.get(name)
        labels = about(extension.options) if extension else {}
        for field, value in options.items():
            label = labels[field].label if field in labels else ""
            label = label or f"{name} {field}".replace("_", " ").capitalize()
            shown[f"{extension.title}: {label}" if extension and label in shown else label] = value
    return shown


def offered() -> dict[str, tuple[Option, ...]]:
    """What the command line offers of the installed extensions, by group; options are called `extensions.NAME.FIELD`."""
    return joined(*(offered_by(one) for one in EXTENSIONS.values()))


def offered_by(extension: RequestExtension) -> dict[str, tuple[Option, ...]]:
    """What is offered of one extension, by group: the options that have a label; without a group they stand under its title."""
    declared = [one for one in declared_by(extension.options, f"{PREFIX}{extension.name}.") if one.about.label]
    groups = (one.about.group or extension.title for one in declared)
    return grouped(replace(one, about=replace(one.about, group=group)) for one, group in zip(declared, groups, strict=True))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` of a form or a command line as fields of a request: options under their full names become `extensions`.

    >>> nested({"steps": 5, "extensions.glow.strength": 0.5, "extensions.glow.at_end": True})
    {'steps': 5, 'extensions': {'glow': {'strength': 0.5, 'at_end': True}}}
    """
    fields = {name: value for name, value in values.items() if not name.startswith(PREFIX)}
    given: Given = {}
    for full, value in values.items():
        if full.startswith(PREFIX):
            name, _, field = full.removeprefix(PREFIX).partition(".")
            given.setdefault(name, {})[field] = value
    return {**fields, "extensions": given} if given else fields


def as_text(given: Given) -> str:
    """The options as an infotext has them: one JSON object, "" for none."""
    return json.dumps(changed_options(given), ensure_ascii=False) if given else ""


def of_text(text: str) -> Given | None:
    """The options in an item of an infotext, None where it has none."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(given, dict) and given and all(isinstance(options, dict) for options in given.values())
    return given if sound else None


def describe(schema: dict[str, Any]) -> None:
    """Make the JSON schema of the field `extensions` list those that are installed, with their fields where those are plain."""
    described = {name: one.options.model_json_schema() for name, one in EXTENSIONS.items()}
    properties = {name: {"type": "object"} if "$defs" in one else one for name, one in described.items()}
    schema.clear()
    schema |= {"type": "object", "description": "Options of extensions by name.", "default": {}, "properties": properties}


def version_of(name: str) -> str:
    """The version of the installed extension that has options of this name, "" where it says none."""
    return next((HOOKS.version_of(one.owner) for one in EXTENSIONS.entries.owned() if one.entry.name == name), "")


def plain_options(options: Any) -> dict[str, Any]:
    """Options as JSON values whose texts every file format can carry.

    Raises:
        ValueError: they are none.
    """
    if not isinstance(options, dict):
        raise ValueError("extensions: options are an object of values by name")
    plain: dict[str, Any] = _plain(options)
    return plain


def _installed(name: str) -> RequestExtension:
    if name in EXTENSIONS:
        return EXTENSIONS[name]
    known = ", ".join(EXTENSIONS) or "none"
    raise ValueError(f"extensions: there is no extension {clean_text(name)[:60]!r} here (installed: {known}); leave it out")


def _read(name: str, options: dict[str, Any]) -> BaseModel | None:
    """The options as the extension's class, None where it is not installed or does not take them (any more)."""
    try:
        return _installed(name).read(options)
    except ValueError:
        return None


def _dumped(options: BaseModel) -> dict[str, Any]:
    """The options as JSON values, nothing where all are at their defaults."""
    if options == type(options)():
        return {}
    dumped: dict[str, Any] = _plain(options.model_dump(mode="json"))
    return dumped


def _plain(value: Any, depth: int = 0) -> Any:
    """A JSON value whose texts every file format can carry.

    Raises:
        ValueError: it is no JSON value: a number is not finite, or it is nested too deep.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"extensions: options are nested at most {_MAX_DEPTH} deep")
    if isinstance(value, dict):
        return {clean_text(str(key)): _plain(one, depth + 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, depth + 1) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("extensions: a number must be finite")
    return clean_text(value) if isinstance(value, str) else value
