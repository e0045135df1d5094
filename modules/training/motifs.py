"""The motifs that the starter draws (`motifs.txt`), their names and plurals, and the colours of grounds and of objects.

Plain data: no pixels, no torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "red": (214, 48, 49), "orange": (240, 140, 40), "yellow": (250, 214, 70), "green": (70, 170, 80), "blue": (50, 110, 220),
    "purple": (130, 70, 180), "pink": (245, 150, 190), "white": (250, 250, 250), "black": (25, 25, 28), "gray": (140, 140, 145),
    "brown": (125, 80, 50),
}  # fmt: skip
"""The eleven basic colour terms (Berlin & Kay 1969) as grounds; named grounds are measured against these."""

MORE_GROUNDS: dict[str, RGB] = {
    "light blue": (160, 205, 240), "dark blue": (24, 42, 104), "light green": (168, 222, 156), "dark green": (22, 80, 44),
    "teal": (30, 150, 150), "beige": (236, 220, 190), "lavender": (200, 180, 235), "dark red": (120, 18, 26),
}  # fmt: skip
GROUNDS = {**COLOURS, **MORE_GROUNDS}

OBJECT_COLOURS: dict[str, RGB] = {
    "red": (218, 46, 46), "orange": (243, 142, 38), "yellow": (251, 213, 58), "green": (74, 170, 72), "blue": (46, 112, 224),
    "purple": (138, 72, 190), "pink": (246, 142, 188), "white": (238, 238, 242), "black": (52, 52, 58), "gray": (146, 146, 150),
    "brown": (130, 84, 52),
}  # fmt: skip
"""The same terms as colours of objects: lighter blacks and darker whites, so that shading stays visible."""

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "gray": ("gray", "grey", "silver"),
    "purple": ("purple", "violet"),
    "yellow": ("yellow", "golden"),
    "light blue": ("light blue", "sky blue", "pale blue"),
    "dark blue": ("dark blue", "navy blue", "navy"),
    "light green": ("light green", "lime green", "mint green"),
    "teal": ("teal", "turquoise", "cyan"),
    "beige": ("beige", "cream", "tan"),
    "lavender": ("lavender", "lilac", "light purple"),
    "dark red": ("dark red", "maroon", "crimson"),
}
"""What captions call a colour, where it has more than one word."""


@dataclass(frozen=True)
class Motif:
    """`colour` is what people call the glyph's own colour: None where it is never recoloured, "" where it has no name."""

    name: str
    emoji: str
    aliases: tuple[str, ...] = ()
    flags: str = ""
    colour: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    @property
    def countable(self) -> bool:
        return "m" not in self.flags

    @property
    def hat(self) -> bool:
        return "h" in self.flags

    @property
    def colours(self) -> tuple[str, ...]:
        """The colours in which it is drawn, its own among them where that has a name."""
        return () if self.colour is None else tuple(OBJECT_COLOURS)


def read_motifs(text: str) -> dict[str, Motif]:
    """Motifs by name from the lines of `motifs.txt`.

    Raises:
        ValueError: a name that two motifs claim.
    """
    motifs: dict[str, Motif] = {}
    owners: dict[str, str] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, emoji, aliases, flags, colour = [*line.split("|"), "", "", ""][:5]
        motif = Motif(name, emoji, tuple(a for a in aliases.split(",") if a), flags, {"": None, "?": ""}.get(colour, colour))
        for each in motif.names:
            if each in owners:
                raise ValueError(f"{each!r} names both {owners[each]!r} and {name!r}; give it to one of them.")
            owners[each] = name
        motifs[name] = motif
    return motifs


MOTIFS = read_motifs((Path(__file__).parent / "motifs.txt").read_text(encoding="utf-8"))
BY_ANY_NAME = {name: motif for motif in MOTIFS.values() for name in motif.names}

_IRREGULAR = {
    "mouse": "mice", "goose": "geese", "foot": "feet", "tooth": "teeth", "fish": "fish", "sheep": "sheep", "deer": "deer",
    "moose": "moose", "elk": "elk", "bison": "bison", "man": "men", "woman": "women", "policeman": "policemen", "ox": "oxen",
    "die": "dice", "leaf": "leaves", "wolf": "wolves", "werewolf": "werewolves", "knife": "knives", "loaf": "loaves",
    "elf": "elves", "scarf": "scarves", "child": "children", "cactus": "cacti", "fireman": "firemen",
    "spaceman": "spacemen", "snowman": "snowmen", "potato": "potatoes", "tomato": "tomatoes", "mango": "mangoes",
    "volcano": "volcanoes", "superhero": "superheroes", "hero": "heroes", "tornado": "tornadoes", "buffalo": "buffaloes",
    "pufferfish": "pufferfish", "blowfish": "blowfish", "jellyfish": "jellyfish", "clownfish": "clownfish",
}  # fmt: skip
_BREAKS = (
    " of ",
    " with ",
    " in ",
    " on ",
    " behind ",
    " and ",
    " blowing ",
    " covering ",
    " riding ",
    " screaming ",
    " lifting ",
)


def plural(name: str) -> str:
    """
    >>> plural("slice of pizza"), plural("fox"), plural("cherry"), plural("key")
    ('slices of pizza', 'foxes', 'cherries', 'keys')
    """
    cuts = [name.find(part) for part in _BREAKS if part in name]
    if cuts:
        return plural(name[: min(cuts)]) + name[min(cuts) :]
    head, _, word = name.rpartition(" ")
    if word in _IRREGULAR:
        word = _IRREGULAR[word]
    elif re.search(r"(s|x|z|ch|sh)$", word):
        word += "es"
    elif re.search(r"[^aeiou]y$", word):
        word = word[:-1] + "ies"
    else:
        word += "s"
    return f"{head} {word}" if head else word


def has_plural(name: str) -> bool:
    """Whether "two NAMEs" is English: not for names that are plurals themselves, nor for "person running"."""
    last = name.rsplit(" ", 1)[-1]
    return not name.startswith("person ") and (not last.endswith("s") or last.endswith(("ss", "us", "as")))


def plurals(motif: Motif) -> tuple[str, ...]:
    """The plurals of its names that are no other motif's name; none where it cannot be counted."""
    if not motif.countable:
        return ()
    found = (plural(name) for name in motif.names if has_plural(name))
    return tuple(text for text in found if text not in BY_ANY_NAME)


def with_article(name: str) -> str:
    """
    >>> [with_article(name) for name in ("owl", "unicorn", "umbrella", "x mark")]
    ['an owl', 'a unicorn', 'an umbrella', 'an x mark']
    """
    vowel = name[0] in "aeio" or name.startswith(("umbrella", "upside", "undead", "unhappy", "x "))
    return ("an " if vowel and not name.startswith("one-") else "a ") + name


def noun(motif: Motif) -> str:
    """The plainest noun phrase: "a fox", "grapes"."""
    return with_article(motif.name) if motif.countable else motif.name
