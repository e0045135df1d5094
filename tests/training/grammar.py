"""Whether the caption grammar can make a sentence: the way back from text to patterns, for the handwritten prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from modules.training import phrases
from modules.training.motifs import COLOUR_WORDS, GROUNDS, MOTIFS, OBJECT_COLOURS, plurals

COLOURS = {word for name in (*GROUNDS, *OBJECT_COLOURS) for word in (*COLOUR_WORDS.get(name, (name,)), name)}
SHADES = ("", *phrases.SHADES)
DETERMINERS = ("", "a ", "an ", *(f"{word} " for word in phrases.DETERMINERS))
NAMES = {name for motif in MOTIFS.values() for name in motif.names}
PLURALS = {name for motif in MOTIFS.values() for name in plurals(motif)}


def producible(text: str) -> bool:
    """Whether some scene's caption can be `text`."""
    return any(_with_ground(part) for part in _without_praise(text))


def _without_praise(text: str) -> Iterator[str]:
    yield text
    for _ in range(3):
        head, _, tail = text.rpartition(", ")
        if tail not in phrases.PRAISE or not head:
            return
        text = head
        yield text


def _with_ground(text: str) -> bool:
    if _with_prefix(text):
        return True
    for pattern in set(phrases.GROUNDS):
        for found in _matches(pattern, text):
            word = found.get("2") or re.sub("^an? ", "", found.get("1", ""))
            if any(word.removeprefix(shade) in COLOURS for shade in SHADES) and _with_prefix(found["0"]):
                return True
    places = {place for scenery in phrases.SCENERY.values() for place in scenery[3]}
    return any(found["1"] in places and _with_prefix(found["0"]) for p in set(phrases.SCENIC) for found in _matches(p, text))


def _with_prefix(text: str) -> bool:
    return _things(text) or any(
        text.startswith(f"{prefix} ") and _things(text.removeprefix(f"{prefix} ")) for prefix in set(phrases.PREFIXES)
    )


def _things(text: str) -> bool:
    if _noun(text) or any(text.endswith(f" {word}") and _noun(text.removesuffix(f" {word}")) for word in phrases.AFTER):
        return True
    patterns = [pattern for place in phrases.PLACES.values() for pattern in place[2]]
    patterns += [*phrases.PAIRS, *phrases.TURNED, *phrases.STACKS, *phrases.UNDER, *phrases.FRONT, *phrases.BEHIND]
    patterns += phrases.WEARING
    if any(all(map(_noun, found.values())) for pattern in set(patterns) for found in _matches(pattern, text)):
        return True
    return any(all(map(_noun, parts)) for count in (3, 4) for parts in _lists(text, count))


def _lists(text: str, count: int) -> Iterator[list[str]]:
    for parts in (re.split(", and | and |, ", text), text.split(", "), text.split(" and ")):
        if len(parts) == count:
            yield parts
    words = text.split(" ")
    if len(words) <= 12:
        yield from _splits(words, count)


def _splits(words: list[str], count: int) -> Iterator[list[str]]:
    if count == 1:
        yield [" ".join(words)]
        return
    for cut in range(1, len(words)):
        if _noun(first := " ".join(words[:cut])):
            yield from ([first, *rest] for rest in _splits(words[cut:], count - 1))


def _noun(text: str) -> bool:
    for start in DETERMINERS:
        if text.startswith(start) and any(_named(rest, NAMES) for rest in _without_kind(text.removeprefix(start))):
            return True
    numbers = ["", *(f"{word} " for words in phrases.NUMBERS.values() for word in words)]
    return any(text.startswith(number) and _named(text.removeprefix(number), PLURALS) for number in numbers)


def _without_kind(text: str) -> Iterator[str]:
    yield text
    yield from (text.removesuffix(f" {kind}") for kind in set(phrases.KINDS) if text.endswith(f" {kind}"))


def _named(text: str, names: Iterable[str]) -> bool:
    """[size] [adjective] [colour] name."""
    rests = {text}
    for words in ((*phrases.SMALL, *phrases.BIG), phrases.ADJECTIVES, COLOURS):
        rests |= {rest.removeprefix(f"{word} ") for rest in rests for word in words if rest.startswith(f"{word} ")}
    return any(rest in names for rest in rests)


def _matches(pattern: str, text: str) -> Iterator[dict[str, str]]:
    """Every way to read `text` as `pattern`; the same number twice is never asked for."""
    parts = re.split(r"\{(\d)\}", pattern)
    yield from _read(parts, text)


def _read(parts: list[str], text: str) -> Iterator[dict[str, str]]:
    if not text.startswith(parts[0]):
        return
    text = text[len(parts[0]) :]
    if len(parts) == 1:
        if not text:
            yield {}
        return
    name, rest = parts[1], parts[2:]
    for end in range(1, len(text) + 1):
        for found in _read(rest, text[end:]):
            yield {name: text[:end], **found}
