"""What stands in the full-text index: texts cut where its tokenizer cannot, and the facts of a picture as words of their own.

Everything that a search can ask for exactly (whose, in the trash, favourite, rating, seed, size, tag, album) is such a word, so
that each search is one query of the full-text index, which answers in the order of the pictures' ids without sorting.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
"""Kana and Han characters, which stand without spaces between words: each becomes a token."""


def cut(text: str) -> str:
    """`text` as it is indexed.

    >>> cut("a 猫耳 girl")
    'a  猫  耳  girl'
    """
    return _UNSPACED.sub(r" \1 ", text)


def has_token(text: str) -> bool:
    """Whether SQLite's unicode61 tokenizer finds anything in `text`: letters, digits or private-use characters."""
    return any(unicodedata.category(character)[0] in "LN" or unicodedata.category(character) == "Co" for character in text)


def folded(label: str) -> str:
    """A tag or album as it is compared: whatever the case, composed, with single spaces."""
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def owner_word(owner: str) -> str:
    return f"own{_digest(owner)}"


def label_word(kind: str, label: str) -> str:
    """Of a "tag" or an "album"."""
    return f"{kind}{_digest(folded(label))}"


LIVE, TRASH, FAVOURITE, BROKEN = "live", "trash", "fav", "broken"


def rating_word(rating: int) -> str:
    return f"rated{rating}"


def seed_word(seed: str) -> str:
    return f"seed{seed}"


def size_words(width: int, height: int) -> tuple[str, str, str]:
    return f"w{width}", f"h{height}", side_word(max(width, height))


def side_word(side: int) -> str:
    """Of the longer side in pixels."""
    return f"side{side}"
