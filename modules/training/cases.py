"""What the release gates ask: prompts with the facts that their pictures must show, by group. No pixels.

Every group is deterministic: the same motifs give the same prompts and seeds, so that files can be compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from modules.training.motifs import BY_ANY_NAME, COLOURS, MOTIFS, noun, plural, plurals, with_article

Order = Literal["row", "stack", "any"]
"""Where the first and the second of two motifs are: left and right, above and below, or side by side in either order."""

PARAPHRASES = Path(__file__).parent / "paraphrases.txt"
LATER = PARAPHRASES.with_name("later_paraphrases.txt")
"""Written when the clauses that are taught had been: no failure of theirs was looked at."""
PLACES = ("left", "right", "top", "bottom")
NUMBERS = {2: "two", 3: "three"}
UNKNOWN = (
    "photorealistic cathedral interior", "quantum entanglement", "zebrafish larvae", "supercalifragilistic", "xqzjv",
    "cyberpunk metropolis", "baroque tapestry", "sushi chef's apprentice manifesto", "hyperbolic paraboloid",
    "asdf jkl qwerty", "portrait of abraham lincoln", "impressionist haystacks", "escher staircase", "schnitzel",
    "thermodynamics", "gothic spire", "neon dystopia", "rembrandt lighting", "zeitgeist", "wabi-sabi", "mitochondria",
    "archipelago", "kaleidoscope", "lorem ipsum dolor",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What a picture must show. Empty and None mean that nothing is asked."""

    motifs: tuple[str, ...] = ()
    colour: str | None = None
    ground: str | None = None
    count: int = 1
    place: str = ""
    size: str = ""
    order: Order = "row"


@dataclass(frozen=True)
class Case:
    group: str
    prompt: str
    seed: int
    facts: Facts

    @property
    def key(self) -> str:
        """Names the case within a file's results."""
        return f"{self.seed} {self.prompt}"


def resolved(names: Sequence[str]) -> list[str]:
    """The motifs of our table that a file's names mean ("red apple" is an apple); unknown ones are left out."""
    found: dict[str, None] = {}
    for name in names:
        colour, _, rest = name.partition(" ")
        motif = BY_ANY_NAME.get(name)
        if motif is None and rest in BY_ANY_NAME and BY_ANY_NAME[rest].colour == colour:
            motif = BY_ANY_NAME[rest]
        if motif is not None:
            found[motif.name] = None
    return list(found)


def plain(facts: Facts) -> str:
    """The plainest wording of some facts."""
    texts = []
    for name in facts.motifs:
        motif = MOTIFS[name]
        words = " ".join(word for word in (facts.size, facts.colour or "") if word)
        if facts.count > 1:
            number = NUMBERS.get(facts.count, {4: "four"}.get(facts.count, str(facts.count)))
            texts.append(" ".join(part for part in (number, words, plural(name)) if part))
        elif words:
            texts.append(with_article(f"{words} {name}") if motif.countable else f"{words} {name}")
        else:
            texts.append(noun(motif))
    text = (" on top of " if facts.order == "stack" else " and ").join(texts)
    if facts.place:
        text += f" on the {facts.place}" if facts.place in ("left", "right") else f" at the {facts.place}"
    return f"{text} on {with_article(facts.ground)} background" if facts.ground else text


def motif_cases(names: Sequence[str], seeds: int) -> list[Case]:
    """Every motif by its name, with so many seeds."""
    return [_case("motifs", 1000 * (k + 1) + index, Facts((name,))) for k in range(seeds) for index, name in enumerate(names)]


def ground_cases(names: Sequence[str]) -> list[Case]:
    """Every motif once on one of the eleven grounds."""
    rng = random.Random(5)
    colours = [list(COLOURS)[index % len(COLOURS)] for index in range(len(names))]
    rng.shuffle(colours)
    return [
        _case("grounds", 5000 + index, Facts((name,), ground=colour))
        for index, (name, colour) in enumerate(zip(names, colours, strict=True))
    ]


def pair_cases(names: Sequence[str], count: int = 150) -> list[Case]:
    """ "A and B": the first to the left."""
    rng = random.Random(11)
    return [_case("pairs", 7000 + index, Facts(tuple(rng.sample(list(names), 2)))) for index in range(count)]


def count_cases(names: Sequence[str], count: int = 100) -> list[Case]:
    """ "two X", "three X"."""
    able = [name for name in names if plural(name) in plurals(MOTIFS[name])]
    chosen = random.Random(7).sample(able, min(len(able), count))
    return [_case("counts", 8000 + index, Facts((name,), count=2 + index % 2)) for index, name in enumerate(chosen)]


def colour_cases(names: Sequence[str], count: int = 150) -> list[Case]:
    """ "a COLOUR X" for motifs that are taught in colours."""
    rng = random.Random(9)
    able = [name for name in names if MOTIFS[name].colours]
    chosen = rng.sample(able, min(len(able), count))
    return [
        _case("colours", 9000 + index, Facts((name,), colour=rng.choice(MOTIFS[name].colours)))
        for index, name in enumerate(chosen)
    ]


def place_cases(names: Sequence[str], count: int = 80) -> list[Case]:
    rng = random.Random(13)
    chosen = [rng.choice(list(names)) for _ in range(count)]
    return [_case("places", 9500 + index, Facts((name,), place=PLACES[index % 4])) for index, name in enumerate(chosen)]


def size_cases(names: Sequence[str], count: int = 40) -> list[Case]:
    rng = random.Random(17)
    chosen = [rng.choice(list(names)) for _ in range(count)]
    return [_case("sizes", 9700 + index, Facts((name,), size=("small", "big")[index % 2])) for index, name in enumerate(chosen)]


def paraphrase_cases(names: Sequence[str], group: str = "paraphrases") -> list[Case]:
    """The handwritten prompts of this group: "paraphrases" or "later"."""
    known, (file, seed) = set(names), {"paraphrases": (PARAPHRASES, 11000), "later": (LATER, 13000)}[group]
    return [
        Case(group, prompt, seed + index, facts)
        for index, (prompt, facts) in enumerate(read_paraphrases(file))
        if known.issuperset(facts.motifs)
    ]


def plain_cases(names: Sequence[str], group: str = "paraphrases") -> list[Case]:
    """The same facts and seeds as `paraphrase_cases`, in the plainest wording: "plain" or "later plain"."""
    plainly = {"paraphrases": "plain", "later": "later plain"}[group]
    return [replace(case, group=plainly, prompt=plain(case.facts)) for case in paraphrase_cases(names, group)]


def unknown_cases(names: Sequence[str]) -> list[Case]:
    """Words that no caption has."""
    return [Case("unknown", prompt, 12000 + index, Facts()) for index, prompt in enumerate(UNKNOWN)]


GROUPS: dict[str, Callable[[Sequence[str]], list[Case]]] = {
    "grounds": ground_cases,
    "colours": colour_cases,
    "pairs": pair_cases,
    "counts": count_cases,
    "places": place_cases,
    "sizes": size_cases,
    "paraphrases": paraphrase_cases,
    "plain": plain_cases,
    "later": partial(paraphrase_cases, group="later"),
    "later plain": partial(plain_cases, group="later"),
    "unknown": unknown_cases,
}


def read_paraphrases(file: Path = PARAPHRASES) -> list[tuple[str, Facts]]:
    """Prompts and facts from lines "PROMPT | MOTIF [+ MOTIF] | KEY=VALUE ...".

    Raises:
        ValueError: a line names a motif or a fact that there is not.
    """
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        prompt, motifs, said = (part.strip() for part in [*line.split("|"), ""][:3])
        names = tuple(name.strip() for name in motifs.split("+"))
        facts: dict[str, str | int] = {pair.partition("=")[0]: pair.partition("=")[2] for pair in said.split()}
        if unknown := [name for name in names if name not in MOTIFS]:
            raise ValueError(f"{line!r} names {unknown[0]!r}, which is no motif.")
        if "count" in facts:
            facts["count"] = int(facts["count"])
        found.append((prompt, Facts(names, **facts)))  # type: ignore[arg-type]
    return found


def _case(group: str, seed: int, facts: Facts) -> Case:
    return Case(group, plain(facts), seed, facts)
