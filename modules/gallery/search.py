"""The search language of the gallery, from what is typed to a query of the full-text index.

    red fox            both words, each at the beginning of a word of prompt, model, LoRA, sampler, file name or tags
    "red fox"          the words next to each other
    -dog  -"red fox"   without it
    negative:hands     in the negative prompt; likewise prompt:, model:, lora:, sampler:, name:
    seed:123           size:1024x768  size:>1024 (the longer side)
    rating:5           rating:>=3  rating:2..4
    date:2026-01-01    date:2026-01  date:2026  date:2026-01-01..2026-02-01 (both days included)
    tag:red  album:"best of"
    is:favourite  is:broken  is:trash

Everything asked must hold.  Dates are days of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from modules.errors import RequestError
from modules.gallery import words

MAX_SEARCH = 400
"""Characters of a search."""
MAX_TERMS = 32
MAX_SIDES = 400
"""Different sizes that one comparison may stand for."""

COLUMNS = {"prompt": "prompt", "negative": "negative", "model": "model", "lora": "loras", "sampler": "sampler", "name": "name"}
"""Words that name a column of the full-text index."""
EVERYWHERE = "{prompt model loras sampler name tags}"
"""Where plain words are looked for.  Not in negative prompts: they name what is not in the picture."""
KEYS = (*COLUMNS, "seed", "size", "rating", "date", "tag", "album", "is")

_TERM = re.compile(r'(-?)(?:([A-Za-z]+):)?(?:"([^"]*)"|([^\s"]*))(?=\s|$)')
_COMPARISON = re.compile(r"(>=|<=|>|<|=)?(\d{1,5})")
_RANGE = re.compile(r"(\d{1,5})\.\.(\d{1,5})")
_DAY = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")

LAST = 2**53
"""Beyond all ids."""


@dataclass(frozen=True)
class Search:
    """What is asked for: FTS5 expressions that must hold and must not, ids from `least` to below `most`, and whether it is the
    trash that is looked through."""

    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    least: int = 0
    most: int = LAST
    trash: bool = False

    def match(self, owners: frozenset[str] | None, *more: str) -> str:
        """The FTS5 expression, for the pictures of `owners`, of everybody where that is None; `more` are facts that hold too.

        >>> print(Search(('prompt : "a"',), ('prompt : "b"',)).match(None))
        (prompt : "a" AND facts : "live") NOT prompt : "b"
        """
        facts = [_fact(words.TRASH if self.trash else words.LIVE), *map(_fact, more)]
        if owners is not None:
            facts.append(any_fact([words.owner_word(owner) for owner in sorted(owners)]))
        held = " AND ".join((*self.wanted, *facts))
        return " NOT ".join((f"({held})", *self.unwanted))


def _fact(word: str) -> str:
    return f'facts : "{word}"'


def any_fact(options: Sequence[str]) -> str:
    """One of these facts; none of them holds where there are none."""
    return f"({' OR '.join(map(_fact, options or ['never']))})"


def parse_search(text: str, sides: Callable[[], Sequence[int]]) -> Search:
    """What `text` asks for.  `sides` gives the longer sides that pictures have, in pixels.

    Raises:
        RequestError: it makes no sense; which part, and what would.
    """
    if len(text) > MAX_SEARCH:
        raise RequestError(f"the search has {len(text)} characters; at most {MAX_SEARCH} are looked for")
    if text.count('"') % 2:
        raise RequestError('the search has a quotation mark without its partner; write "words in quotes"')
    search = _Parser(sides)
    at, terms = 0, 0
    text = text.strip()
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        found = _TERM.match(text, at)
        if found is None:
            raise RequestError(
                f"the search {text[at : at + 40]!r} has quotation marks in the middle of a word; put a space before them"
            )
        at, terms = found.end(), terms + 1
        if terms > MAX_TERMS:
            raise RequestError(f"the search has more than {MAX_TERMS} parts; ask for less at a time")
        minus, key, quoted, bare = found.groups()
        search.take(bool(minus), (key or "").lower(), bare if quoted is None else quoted, quoted is not None)
    return search.result()


class _Parser:
    """Collects the terms of one search."""

    def __init__(self, sides: Callable[[], Sequence[int]]) -> None:
        self._sides = sides
        self._wanted: list[str] = []
        self._unwanted: list[str] = []
        self._least, self._most, self._trash = 0, LAST, False

    def result(self) -> Search:
        return Search(tuple(self._wanted), tuple(self._unwanted), self._least, self._most, self._trash)

    def take(self, minus: bool, key: str, value: str, quoted: bool) -> None:
        if key and key not in KEYS:
            raise RequestError(
                f"there is no search word {key[:40] + ':'!r}; known are {', '.join(f'{one}:' for one in KEYS)}, "
                "and what stands in quotation marks is looked for as it is"
            )
        if key and not value:
            raise RequestError(f"{key}: what to look for is missing; write it right behind the colon")
        if not key and not value:
            raise RequestError("a lone - or an empty pair of quotation marks asks for nothing; write a word behind or in it")
        if key == "date":
            self._take_date(minus, value)
        elif key == "is" and value.lower() == "trash":
            self._trash = self._trash or not minus
        else:
            (self._unwanted if minus else self._wanted).append(self._expression(key, value, quoted))

    def _expression(self, key: str, value: str, quoted: bool) -> str:
        if key == "seed":
            return _seed(value)
        if key == "rating":
            return any_fact([words.rating_word(one) for one in range(6) if _holds("rating", value, one)])
        if key == "size":
            return self._size(value.lower())
        if key in ("tag", "album"):
            return _fact(words.label_word(key, value))
        if key == "is":
            return _is(value.lower())
        return _words(COLUMNS.get(key, EVERYWHERE), value, quoted)

    def _size(self, value: str) -> str:
        if exact := re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", value):
            width, height, _ = words.size_words(int(exact[1]), int(exact[2]))
            return f"({_fact(width)} AND {_fact(height)})"
        _holds("size", value, 0)  # refuses what it is not
        fitting = [side for side in self._sides() if _holds("size", value, side)]
        if len(fitting) > MAX_SIDES:
            raise RequestError(
                f"size: more than {MAX_SIDES} different sizes fit {value[:20]!r}; ask for fewer, such as 1024..1536"
            )
        return any_fact([words.side_word(side) for side in fitting])

    def _take_date(self, minus: bool, value: str) -> None:
        if minus:
            raise RequestError(
                "date: cannot stand behind a minus; name the days that you want, such as date:2026-01-01..2026-02-01"
            )
        first, _, last = value.partition("..")
        begin, end = _days(first), _days(last) if last else _days(first)
        if end[1] <= begin[0]:
            raise RequestError(f"date: {value[:40]!r} ends before it begins; write the earlier day first")
        self._least, self._most = max(self._least, _id(begin[0])), min(self._most, _id(end[1]))


def _words(column: str, value: str, quoted: bool) -> str:
    """Words next to each other; the last may go on, where it was not put in quotation marks, from two letters on."""
    if not words.has_token(value):
        raise RequestError(f"{value[:40]!r} has no letter or digit to look for")
    cut = words.cut(value)
    text = cut.replace('"', " ").replace("\0", " ")
    begins = not quoted and cut == value and len(value) > 1
    return f'{column} : "{text}"{" *" if begins else ""}'


def _seed(value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,20}", value):
        raise RequestError(f"seed: must be a whole number, and {value[:40]!r} is none")
    return _fact(words.seed_word(str(int(value))))


def _is(value: str) -> str:
    facts = {"favourite": words.FAVOURITE, "favorite": words.FAVOURITE, "broken": words.BROKEN}
    if value not in facts:
        raise RequestError(f"is:{value[:40]} is not known; there are is:favourite, is:broken and is:trash")
    return _fact(facts[value])


def _holds(key: str, asked: str, value: int) -> bool:
    if (between := _RANGE.fullmatch(asked)) is not None:
        return int(between[1]) <= value <= int(between[2])
    found = _COMPARISON.fullmatch(asked)
    if found is None:
        example = {"rating": "5, >=3 or 2..4", "size": "1024x768, >1024 or 512..1024"}[key]
        raise RequestError(f"{key}: {asked[:40]!r} is no such thing; write {example}")
    sign, bound = found[1] or "=", int(found[2])
    return {
        "=": value == bound, ">": value > bound, "<": value < bound, ">=": value >= bound, "<=": value <= bound
    }[sign]  # fmt: skip


def _days(text: str) -> tuple[date, date]:
    """The first day that `text` names, and the first behind it."""
    found = _DAY.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        year, month, day = (int(part) if part else 0 for part in found.groups())
        if not 1980 <= year <= 9000:
            raise ValueError
        if day:
            return (first := date(year, month, day)), first + timedelta(1)
        if month:
            return date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)
        return date(year, 1, 1), date(year + 1, 1, 1)
    except ValueError:
        raise RequestError(
            f"date: {text[:40]!r} is no day, month or year; write 2026-01-31, 2026-01, 2026 or 2026-01-01..2026-02-01"
        ) from None


def _id(day: date) -> int:
    """The first id of a day (see `index`): microseconds since 1970."""
    return max(0, round(datetime(day.year, day.month, day.day).timestamp() * 1e6))
