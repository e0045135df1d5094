"""The options of a request beside what is set for every picture: what the page and the command line offer, by group.

They are read from the field declarations in `modules/request/`: from the source and not by importing it, as the command line
shows its help with the standard library alone, before pydantic is installed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from modules.fields import About, about, kind_of

if TYPE_CHECKING:
    from pydantic import BaseModel

Groups = Mapping[str, tuple["Option", ...]]
"""Options by the heading under which they are shown."""

GROUPS = ("Checkpoint", "Noise", "Sampler", "Schedule", "Guidance", "Large pictures", "Prompt", "File")
"""Headings in the order in which they are shown; others follow in the order of their first field."""
PICTURE = "Picture"
"""The group of what only a picture from a picture has: the page has controls of its own for it."""
EXTENSIONS = "extensions."
"""What the name of an extension's option begins with: `extensions.NAME.FIELD`."""


@dataclass(frozen=True)
class Option:
    """A field that may be left alone.  `choices` are for those that are one of several words, `switch` marks yes or no."""

    name: str
    label: str
    help: str
    switch: bool = False
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """`s_churn` is --s-churn, `extensions.glow.at_end` is --glow.at-end."""
        return "--" + self.name.removeprefix(EXTENSIONS).replace("_", "-")


@dataclass(frozen=True)
class Declared:
    """A field of which there is an `About`, and its kind in words."""

    name: str
    about: About
    switch: bool
    choices: tuple[str, ...]


def declared_in(*sources: str) -> list[Declared]:
    """The fields that these Python sources declare with an `About`, in their order.  Nothing of them is run.

    >>> source = 'class A:\\n    b: Annotated[Literal["c", "d"], About("B", "either", group="G")] = "c"'
    >>> [(one.name, one.about.label, one.choices) for one in declared_in(source)]
    [('b', 'B', ('c', 'd'))]
    """
    lines = [line for source in sources for line in ast.parse(source).body]
    aliases = {ast.unparse(line.targets[0]): line.value for line in lines if isinstance(line, ast.Assign)}
    found = []
    for field in (field for line in lines if isinstance(line, ast.ClassDef) for field in line.body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.annotation, ast.Subscript):
            continue
        kind, *metadata = field.annotation.slice.elts if isinstance(field.annotation.slice, ast.Tuple) else (field.annotation,)
        for call in metadata:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "About":
                words: dict[str, Any] = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
                one = About(*map(ast.literal_eval, call.args), **words)
                kind = aliases.get(ast.unparse(kind), kind)
                found.append(Declared(ast.unparse(field.target), one, ast.unparse(kind) == "bool", _words(kind)))
    return found


def _words(kind: ast.expr) -> tuple[str, ...]:
    """The words of a `Literal[...]`, none of any other kind."""
    if not isinstance(kind, ast.Subscript) or ast.unparse(kind.value) != "Literal":
        return ()
    words = ast.literal_eval(kind.slice)
    return words if isinstance(words, tuple) else (words,)


def declared_by(model: type[BaseModel], prefix: str = "") -> list[Declared]:
    """The fields that a pydantic class declares with an `About`; `prefix` comes before their names."""
    kinds = [(name, one, kind_of(model, name)) for name, one in about(model).items()]
    return [
        Declared(prefix + name, one, kind is bool, get_args(kind) if get_origin(kind) is Literal else ())
        for name, one, kind in kinds
    ]


def grouped(declared: Iterable[Declared]) -> dict[str, tuple[Option, ...]]:
    """What is offered of these fields, by group."""
    offered = sorted((one for one in declared if one.about.group), key=lambda one: one.about.position)
    groups: dict[str, list[Option]] = {name: [] for name in (*GROUPS, *(one.about.group for one in offered))}
    for one in offered:
        groups[one.about.group].append(Option(one.name, one.about.label, one.about.help, one.switch, one.choices))
    return {name: tuple(options) for name, options in groups.items() if options}


def joined(*many: Groups) -> dict[str, tuple[Option, ...]]:
    """The options of several tables, group by group."""
    groups: dict[str, tuple[Option, ...]] = {}
    for table in many:
        for name, options in table.items():
            groups[name] = (*groups.get(name, ()), *options)
    return groups


_NAMES = ("sampling", "guidance", "refiner", "checkpoint", "tiles", "mask", "requests")
SOURCES = tuple(Path(__file__).with_name("request") / f"{name}.py" for name in _NAMES)
"""Where fields of a request are declared that have a group."""

_ALL = grouped(declared_in(*(source.read_text("utf-8") for source in SOURCES)))

OPTIONS: dict[str, tuple[Option, ...]] = {name: options for name, options in _ALL.items() if name != PICTURE}
"""By group, in the order in which they are shown."""

FROM_PICTURES: tuple[Option, ...] = _ALL[PICTURE]
"""What the command line also offers with a picture to start from; the page has controls of its own for them."""
