"""Sentences about scenes, as a newcomer might type them.

One scene is captioned anew each time that it is shown: with and without article, by name or alias, with a prefix, a ground,
empty praise at the end. `fragments` lists every piece of text that can occur: their tokens are the trained vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain

from modules.training.concepts import COLOURS, CONCEPTS
from modules.training.rendering import Layout, Scene

_BARE = {  # names that take no "a"
    "grapes", "cherries", "fire", "coffee", "beer", "lightning", "corn",
}  # fmt: skip
_PREFIXES = (
    "a sticker of", "an emoji of", "a drawing of", "a picture of", "a photo of", "an image of", "an illustration of",
    "a painting of", "sticker of", "emoji of",
)  # fmt: skip
_ADJECTIVES = ("cute", "big", "large", "beautiful", "simple", "nice", "lovely", "single")
_KINDS = ("sticker", "emoji", "icon", "cartoon")
_SMALL = ("small", "tiny", "little")
_GROUNDS = (
    "{0} on {1} background", "{0} on {1} background", "{0} on {1} background", "{0}, {2} background", "{0}, {2} background",
    "{0} on {2} background", "{0} on {2}", "{0} with {1} background", "{0} against {1} background", "{2} background, {0}",
    "{0} in front of {1} background", "{0}, on {1} background",
)  # fmt: skip
_PRAISE = (
    "masterpiece", "best quality", "high quality", "highly detailed", "4k", "sharp", "vector art", "flat colors",
    "digital art", "centered", "cartoon style", "simple background", "clean", "isolated",
)  # fmt: skip
_PAIRS = (
    "{0} and {1}", "{0} and {1}", "{0} and {1}", "{0} and {1}", "{0} next to {1}", "{0} next to {1}", "{0} beside {1}",
    "{0} with {1}", "{0} and {1} side by side", "{0} on the left and {1} on the right", "{0}, {1}",
)  # fmt: skip
_PLACES: dict[Layout, tuple[str, ...]] = {
    "left": ("{0} on the left", "{0} on the left side", "{0} at the left"),
    "right": ("{0} on the right", "{0} on the right side", "{0} at the right"),
    "top": ("{0} at the top", "{0} on top", "{0} in the upper half"),
    "bottom": ("{0} at the bottom", "{0} on the bottom", "{0} in the lower half"),
}


def caption(scene: Scene, rng: random.Random) -> str:
    """A sentence that is true of `scene`."""
    if scene.layout == "pair":
        left, right = (with_article(_name(placed.concept, rng), rng) for placed in scene.objects)
        text = rng.choice(_PAIRS).format(left, right)
    else:
        text = _single(scene, rng)
    if rng.random() < 0.3:
        text = f"{rng.choice(_PREFIXES)} {text}"
    if scene.ground:
        colour = "grey" if scene.ground == "gray" and rng.random() < 0.3 else scene.ground
        text = rng.choice(_GROUNDS).format(text, with_article(colour), colour)
    if rng.random() < 0.12:
        text = ", ".join([text, *rng.sample(_PRAISE, rng.randint(1, 3))])
    return text


def with_article(name: str, rng: random.Random | None = None) -> str:
    """ "an owl"; with a generator also "the owl" and "owl", now and then."""
    if name in _BARE:
        return name
    indefinite = ("an " if name[0] in "aeio" or name == "umbrella" else "a ") + name
    if rng is None:
        return indefinite
    return rng.choices([indefinite, name, f"the {name}"], [0.65, 0.27, 0.08])[0]


def fragments() -> Iterator[str]:
    """Every piece of text of which captions are made."""
    names = chain.from_iterable((concept.name, *concept.aliases) for concept in CONCEPTS.values())
    patterns = chain(_GROUNDS, _PAIRS, *_PLACES.values())
    plain = (pattern.format("", "", "") for pattern in patterns)
    return chain(names, COLOURS, _PREFIXES, _ADJECTIVES, _KINDS, _SMALL, _PRAISE, plain, ("a an the", ", .", "grey"))


def _single(scene: Scene, rng: random.Random) -> str:
    name = _name(scene.objects[0].concept, rng)
    if scene.layout == "small":
        return with_article(f"{rng.choice(_SMALL)} {name}", rng)
    if rng.random() < 0.12:
        name = f"{rng.choice(_ADJECTIVES)} {name}"
    if rng.random() < 0.08:
        name = f"{name} {rng.choice(_KINDS)}"
    text = with_article(name, rng)
    return rng.choice(_PLACES[scene.layout]).format(text) if scene.layout in _PLACES else text


def _name(concept: str, rng: random.Random) -> str:
    aliases = CONCEPTS[concept].aliases
    return rng.choice(aliases) if aliases and rng.random() < 0.4 else concept
