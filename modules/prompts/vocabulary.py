"""The vocabulary of a checkpoint that was trained on a limited one: which words of a prompt it knows, from the file's metadata.

A text-to-image model of few words answers a prompt outside them with some picture, and says nothing.  Such a file can carry
what its captions were made of, and the prompt check says what is outside:

| key | JSON | e.g. |
|---|---|---|
| `atelier.motifs` | a list: the names of what it draws | `["tiger", "polar bear"]` |
| `atelier.names` | an object: other names of these, plurals included | `{"tiger": ["tigers"]}` |
| `atelier.words` | a list: every other word of its captions | `["a", "two", "red", "left"]` |
| `atelier.unknown` | a text: what it draws where a prompt names nothing of that | `"question mark"` |

A name counts as a whole ("polar" alone is unknown), another word for itself.  Nothing is said of a file that lacks the words:
without them every article would be unknown.  Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

MOTIFS, NAMES, WORDS, UNKNOWN = "atelier.motifs", "atelier.names", "atelier.words", "atelier.unknown"

MAX_ENTRIES = 50_000
"""Names, and other words, that are read of a file."""
MAX_TEXT = 20_000
"""Characters of a prompt that are looked at: nobody reads remarks about more."""
MAX_NOTES = 5
NEAR = 3
"""Near matches that are named."""
ALIKE = 0.8
"""The share of letters in common, as `difflib` counts them, from which a name is near: "pinguin" is to "penguin"."""

_PART = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*|__[^\s]+?__|[^\w\s'\u2019-]")
_POSSESSIVE = re.compile(r"['\u2019]s$")

COMMON = frozenset((
    "am", "are", "as", "be", "been", "but", "could", "did", "do", "does", "had", "have", "he", "her", "him", "his", "if",
    "into", "it", "may", "not", "or", "our", "out", "really", "she", "should", "so", "than", "their", "them", "then",
    "these", "they", "those", "too", "us", "very", "was", "we", "were", "what", "when", "which", "while", "who", "whose",
    "will", "would", "you", "your",
))  # fmt: skip
"""Words of any English sentence that name nothing: nobody expects to see them."""

Words = tuple[str, ...]
Run = list[tuple[Words, str]]
"""Names with the motif that each names, and unknown words with ""."""


@dataclass(frozen=True)
class Unknown:
    """Words of a prompt that stand together and are no name; `near` are names of motifs."""

    phrase: str
    near: tuple[str, ...]

    def __str__(self) -> str:
        near = f"; near: {', '.join(self.near)}" if self.near else ""
        return f"{self.phrase!r} is not among what this model draws{near}"


class Vocabulary:
    """What a checkpoint's captions were made of.

    Args:
        names: every name in lower case, to the motif that it names.
        words: the other words.
        unknown: what it draws where a prompt names nothing; "" where that is not known.
    """

    def __init__(self, names: Mapping[str, str], words: Iterable[str], unknown: str = "") -> None:
        self._unknown = unknown
        self._motifs = {split(name): motif for name, motif in names.items()}
        self._motifs.pop((), None)
        self._words = frozenset(part for word in words for part in split(word))
        self._longest = max(map(len, self._motifs), default=0)
        self._spelled = {" ".join(parts): motif for parts, motif in self._motifs.items()}

    def notes(self, texts: Iterable[str]) -> list[str]:
        """A sentence for each unknown phrase in the texts of a prompt, and one where they name no motif at all."""
        found: dict[str, Unknown] = {}
        named, left = False, MAX_TEXT
        for text in texts:
            for run in self._runs(text[:left]):
                named = named or any(motif for _, motif in run)
                if any(not motif and not parts[0].isdigit() for parts, motif in run):
                    phrase = _spelled(run)
                    if phrase not in found:
                        found[phrase] = Unknown(phrase, self._near(run) if len(found) < MAX_NOTES else ())
            left -= min(left, len(text))
        notes = [str(unknown) for unknown in list(found.values())[:MAX_NOTES]]
        if len(found) > MAX_NOTES:
            notes.append(f"{len(found) - MAX_NOTES} more of its words are not among what this model draws")
        if found and not named and self._unknown:
            notes.append(f"the prompt names nothing that this model draws: it will draw its {self._unknown!r}")
        elif found and not named:
            notes.append("the prompt names nothing that this model draws: it will draw something of its own choice")
        return notes

    def _runs(self, text: str) -> Iterator[Run]:
        """What stands together and is no other word."""
        parts = list(_parts(text))
        run: Run = []
        place = 0
        while place < len(parts):
            taken = self._name_at(parts, place)
            if taken and not (len(taken) == 1 and taken[0] in self._words):
                run.append((taken, self._motifs[taken]))
            elif parts[place] and parts[place] not in self._words and parts[place] not in COMMON:
                run.append(((parts[place],), ""))
            else:  # a word that divides; "orange", a colour and a fruit, is a name all the same
                yield run
                run = []
                if taken:
                    yield [(taken, self._motifs[taken])]
            place += len(taken) or 1
        yield run

    def _name_at(self, parts: Sequence[str], place: int) -> Words:
        """The longest name that begins there; () for none."""
        for length in range(min(self._longest, len(parts) - place), 0, -1):
            words = tuple(parts[place : place + length])
            if words in self._motifs:
                return words
        return ()

    def _near(self, run: Run) -> tuple[str, ...]:
        """Motifs that the phrase names, else those spelled alike; then those of whose names an unknown word is a part."""
        unknown = [parts[0][:30] for parts, motif in run if not motif][:NEAR]
        near = [motif for _, motif in run if motif]
        for words in () if near else dict.fromkeys((_spelled(run)[:60], *unknown)):
            alike = [name for name in self._spelled if abs(len(name) - len(words)) <= 1 + len(words) // 5]
            near += [self._spelled[name] for name in get_close_matches(words, alike, NEAR, ALIKE)]
        near += [motif for parts, motif in self._motifs.items() if any(word in parts for word in unknown)]
        return tuple(dict.fromkeys(near))[:NEAR]


def _spelled(run: Run) -> str:
    return " ".join(" ".join(parts) for parts, _ in run)


def split(text: str) -> Words:
    """The words of a text in lower case, without a possessive s; hyphens divide ("t-rex" is two)."""
    return tuple(part for part in _parts(text) if part)


def _parts(text: str) -> Iterator[str]:
    """Words, and "" for a mark that ends a phrase; a wildcard that is not here is reported elsewhere and ends one too."""
    for part in _PART.findall(text.casefold()):
        yield _POSSESSIVE.sub("", part).replace("\u2019", "'") if part[0].isalnum() else ""


def read_vocabulary(metadata: Mapping[str, str]) -> Vocabulary | None:
    """The vocabulary that a file's metadata holds; None where it holds none, or what is no list of texts."""
    motifs, words, others = (_loaded(metadata.get(key)) for key in (MOTIFS, WORDS, NAMES))
    if not motifs or not words or not isinstance(motifs, list) or not isinstance(words, list):
        return None
    names: dict[str, str] = {}
    for motif in _texts(motifs):
        names[motif] = motif
        more = others.get(motif) if isinstance(others, dict) else None
        for name in _texts(more if isinstance(more, list) else []):
            names.setdefault(name, motif)
        if len(names) > MAX_ENTRIES:
            break
    return Vocabulary(names, _texts(words), metadata.get(UNKNOWN, "")[:60])


def vocabulary_metadata(names: Mapping[str, Sequence[str]], words: Iterable[str]) -> dict[str, str]:
    """What `read_vocabulary` reads: `names` has the other names of each motif, plurals included, () for none."""
    return {
        MOTIFS: json.dumps(list(names)),
        NAMES: json.dumps({motif: list(others) for motif, others in names.items() if others}, ensure_ascii=False),
        WORDS: json.dumps(sorted(set(words)), ensure_ascii=False),
    }


def _loaded(text: str | None) -> Any:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None


def _texts(values: Sequence[Any]) -> list[str]:
    return [value[:200] for value in values[:MAX_ENTRIES] if isinstance(value, str)]
