"""Other ways to say what a caption says, in the clauses of `clauses`.

Captions are noun phrases with a few patterns; people write sentences. A retelling is drawn from facts, so that their plainest
wording (`cases.plain`), which the model reads already, says what its picture is.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence

from modules.training import clauses, phrases
from modules.training.cases import Facts, plain
from modules.training.motifs import COLOUR_WORDS, GROUNDS, MOTIFS, plural, plurals, with_article

NOTHING = "question mark"
"""The motif for what names no motif: a clean picture, which says that the word is not known."""
DISLIKES = (
    "blurry", "blurred", "ugly", "bad", "worst", "low", "lowres", "poor", "deformed", "disfigured", "mutated", "distorted",
    "duplicate", "cropped", "watermark", "signature", "text", "error", "jpeg", "artifacts", "grainy", "noisy", "noise",
    "messy", "dirty", "wrong", "broken", "missing", "extra", "quality", "normal", "monochrome", "logo", "username", "anatomy",
    "out", "of", "frame", "focus", "oversaturated", "overexposed", "amateur", "unclear", "fuzzy", "pixelated", "nsfw",
)  # fmt: skip
"""Words of negative prompts: they are read as an empty one, which is the best that guidance can lead away from."""


def _choose(pattern: str, rng: random.Random) -> str:
    """One of what each pair of brackets offers, the innermost first."""
    while "[" in pattern:
        pattern = re.sub(r"\[([^][]*)\]", lambda found: rng.choice(found[1].split("|")), pattern)
    return pattern


def patterns() -> Iterator[str]:
    """Every pattern."""
    yield from (*clauses.GROUND, *clauses.COLOUR, *clauses.PLACE, *clauses.COUNT, *clauses.PAIR, *clauses.THING)
    yield from (pattern for size in clauses.SIZE.values() for pattern in size)


def words() -> set[str]:
    """The words of the patterns, and those of `SIDES` and `DISLIKES`."""
    texts = [re.sub(r"\{\w+\}", " ", pattern) for pattern in patterns()]
    texts += [side for sides in clauses.SIDES.values() for side in sides]
    return {word for text in (*texts, *DISLIKES) for word in re.findall(r"[a-z]+", text)} | set(",.:;?()")


class Retelling:
    """Draws facts of the motifs `names`, and tells them; `filler` makes words that name nothing."""

    def __init__(self, names: Sequence[str], filler: Callable[[random.Random], str]) -> None:
        self.names, self.filler = list(names), filler
        self.coloured = [name for name in names if MOTIFS[name].colours]
        self.counted = [name for name in names if plurals(MOTIFS[name])]

    def draw(self, rng: random.Random) -> tuple[str, str]:
        """(the plainest wording, another one) of the same facts."""
        kinds = {"thing": 0.3, "ground": 0.22, "colour": 0.2, "place": 0.05, "size": 0.04, "count": 0.07, "pair": 0.12}
        kind, name = rng.choices(list(kinds), list(kinds.values()))[0], rng.choice(self.names)
        ground = self._ground(rng) if rng.random() < 0.15 else None
        if kind == "colour" and self.coloured:
            name = rng.choice(self.coloured)
            return self.told(Facts((name,), rng.choice(MOTIFS[name].colours), ground), clauses.COLOUR, rng)
        if kind == "ground":
            return self.told(Facts((name,), ground=self._ground(rng)), clauses.GROUND, rng)
        if kind == "place":
            return self.told(Facts((name,), ground=ground, place=rng.choice(list(clauses.SIDES))), clauses.PLACE, rng)
        if kind == "size":
            size = rng.choice(list(clauses.SIZE))
            return self.told(Facts((name,), ground=ground, size=size), clauses.SIZE[size], rng)
        if kind == "count" and self.counted:
            facts = Facts((rng.choice(self.counted),), ground=ground, count=rng.choice((2, 2, 3, 3, 4)))
            return self.told(facts, clauses.COUNT, rng)
        if kind == "pair" and len(self.names) > 1:
            return self.told(Facts(tuple(rng.sample(self.names, 2)), ground=ground), clauses.PAIR, rng)
        return self.told(Facts((name,), ground=ground), clauses.THING, rng)

    def nothing(self, rng: random.Random) -> tuple[str, str]:
        """A wording of something that is no motif: a picture of `NOTHING`, which is "" where that is no motif of the model."""
        ground = self._ground(rng) if rng.random() < 0.2 else None
        told = _choose(rng.choice(("{w}", "{w}", "a {w}", "the {w}", "{p} {w}", "{p} a {w}", "{w} {w}", "{w}, {w}")), rng)
        text = self._filled(told.replace("{p}", rng.choice(phrases.PREFIXES)), rng)
        if ground:
            text = rng.choice(phrases.GROUNDS).format(text, with_article(ground), ground)
        return (plain(Facts((NOTHING,), ground=ground)) if NOTHING in self.names else ""), text

    def disliked(self, rng: random.Random) -> tuple[str, str]:
        """A negative prompt, which is read as an empty one."""
        found = rng.sample(DISLIKES, rng.randint(1, 8))
        if rng.random() < 0.4:
            found.insert(rng.randint(0, len(found)), self.filler(rng))
        return "", rng.choice((", ", ", ", " ")).join(found)

    def told(self, facts: Facts, choices: Sequence[str], rng: random.Random) -> tuple[str, str]:
        """(the plainest wording of `facts`, one by a pattern among `choices`)."""
        pattern = rng.choice(choices)
        grounded, text = pattern in clauses.GROUND, _choose(pattern, rng)
        names = [rng.choice((name, name, *MOTIFS[name].names)) for name in facts.motifs]
        things = [self._thing(name, rng) for name in names]
        colour = facts.colour or (facts.ground if grounded else None) or ""
        colour = rng.choice((colour, *COLOUR_WORDS.get(colour, ())))
        number = rng.choice(phrases.NUMBERS.get(facts.count, ("",))[:5])
        side, opposite = (
            rng.choice(clauses.SIDES.get(each, ("",))) for each in (facts.place, clauses.OPPOSITE.get(facts.place, ""))
        )
        values = {
            "x": things[0], "y": things[-1], "name": names[0], "ax": with_article(names[0]), "xs": plural(names[0]),
            "c": colour, "ac": with_article(colour) if colour else "", "a_c_x": with_article(f"{colour} {names[0]}"),
            "n": number, "z": rng.choice(phrases.SMALL if facts.size == "small" else phrases.BIG), "s": side, "o": opposite,
            "all": rng.choice(("", "", "", "all ", "entirely ", "completely ", "quite ", "totally ", "fully ", "simply ")),
        }  # fmt: skip
        text = self._filled(re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text), rng)
        if facts.ground and not grounded:
            text = rng.choice(phrases.GROUNDS).format(text, with_article(facts.ground), facts.ground)
        return plain(facts), re.sub(r" (?=[,.;:?])", "", re.sub(r" +", " ", text)).strip()

    def _filled(self, text: str, rng: random.Random) -> str:
        """With words that name nothing at {w}, and one of them in the form that is asked for at {ing}, {ed} and {es}."""
        text = re.sub(r"\{(ing|ed|es)\}", lambda found: self.filler(rng).split(" ")[-1] + found[1], text)
        return re.sub(r"\{w\}", lambda _: self.filler(rng), text)

    def _thing(self, name: str, rng: random.Random) -> str:
        article = with_article(name)
        noun = rng.choice((article, article, f"the {name}", name, f"{rng.choice(phrases.DETERMINERS)} {name}"))
        return noun if rng.random() < 0.9 else f"{noun} {self.filler(rng)}"

    @staticmethod
    def _ground(rng: random.Random) -> str:
        return rng.choice([name for name in GROUNDS if name != "white" or rng.random() < 0.5])
