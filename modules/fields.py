"""About: the declaration of a request's field that page, command line, infotext and both APIs read.

A field is declared once, in `modules.request` or in an extension's options: its kind and bounds for pydantic, and an `About`
beside them for everything else.

    glow: Annotated[Real, Field(ge=0, le=1), About("Glow", "how much light, 0 to 1", group="Guidance", infotext="Glow")] = 0.0

Standard library only: the command line shows its help before pydantic is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel

Section = Literal["options", "picture options", "soft inpainting", "mask", "texts", "own"]
"""The part of the infotext that writes a field.  "options": where not at its default, in A1111's order; "picture options":
the same of what only a picture from a picture has, behind those; "soft inpainting": all of them, where the first is on; "mask":
what is repainted; "texts": of a second pass, where it is not empty; "own": code of its own in `images.infotext`."""


@dataclass(frozen=True)
class About:
    """What is known of a request's field beside its kind and bounds.

    `label` and `help` are shown by the page and the command line, `help` by the API's description too.  `group` is the heading
    under which both offer the field, "" where it has a control of its own; within a group fields stand by `position`, then as
    they are declared.  `step` is the step of its slider.

    `infotext` is its key in A1111's infotext, or its keys, and `section` the part that writes it; within a section keys stand
    by `infotext_position`, then as they are declared.  `a1111` is the field's name in a call of A1111's API, `a1111_option` the
    name of A1111's option of the same meaning.

    The field is idle (no value makes a difference) unless all fields of `needs` are set, and where one of `unless` is.  What
    depends on sampler and schedule stands in `diffusion.samplers.relevance`.
    """

    label: str = ""
    help: str = ""
    group: str = ""
    position: int = 0
    step: float = 0.0
    infotext: str | tuple[str, ...] = ()
    section: Section = "options"
    infotext_position: int = 100
    a1111: str = ""
    a1111_option: str = ""
    needs: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Its keys in A1111's infotext."""
        return (self.infotext,) if isinstance(self.infotext, str) else self.infotext

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """The field's line of help as its description: pydantic calls this of a field's metadata."""
        described = handler(schema)
        if self.help:
            described.setdefault("description", self.help[:1].upper() + self.help[1:] + ".")
        return described


@dataclass(frozen=True)
class Bounds:
    """What a number may be, both ends included; None where there is no bound."""

    ge: float | None = None
    le: float | None = None
    multiple_of: float | None = None


@lru_cache(maxsize=64)
def about(model: type[BaseModel]) -> dict[str, About]:
    """The declarations of a pydantic class's fields by name, of those that have one."""
    parts = ((name, part) for name, field in model.model_fields.items() for part in field.metadata)
    return {name: part for name, part in parts if isinstance(part, About)}


@lru_cache(maxsize=64)
def infotext_keys(model: type[BaseModel], section: Section) -> dict[str, str]:
    """The keys of a section of the infotext in their order, and the fields of `model` that they name."""
    members = [(name, one) for name, one in about(model).items() if one.section == section]
    members.sort(key=lambda member: member[1].infotext_position)
    return {key: name for name, one in members for key in one.keys}


def kind_of(model: type[BaseModel], name: str) -> Any:
    """The type of a field without the None that it may be."""
    kind = model.model_fields[name].annotation
    if type(None) in get_args(kind):
        kind = get_args(kind)[0]
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def bounds_of(model: type[BaseModel], name: str) -> Bounds:
    """The bounds of a number's declaration."""
    field = model.model_fields[name]
    parts = list(field.metadata)
    if type(None) in get_args(field.annotation):  # a number or None: its bounds are a level deeper
        parts += [
            part for declared in get_args(get_args(field.annotation)[0])[1:] for part in getattr(declared, "metadata", ())
        ]
    return Bounds(**{end: getattr(part, end) for part in parts for end in ("ge", "le", "multiple_of") if hasattr(part, end)})


def shortest(number: float) -> float:
    """The number as it is written in the fewest characters: 1 for 1.0."""
    return int(number) if number == int(number) else number


def idle_fields(request: BaseModel) -> set[str]:
    """The fields of which no value would make a difference beside the others that their declarations name."""

    def is_set(name: str) -> bool:
        value = getattr(request, name, None)
        return any(value) if isinstance(value, tuple) else bool(value)

    declared = about(type(request)).items()
    return {name for name, one in declared if not all(map(is_set, one.needs)) or any(map(is_set, one.unless))}
