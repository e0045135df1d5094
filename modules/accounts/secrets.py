"""Random secrets, shown once, and the digests that are stored of them."""

from __future__ import annotations

import hashlib
import secrets

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter that is read as another."""
_MISREAD = str.maketrans("OIL", "011")


def new_secret(prefix: str = "") -> str:
    """256 random bits, fit for cookies and headers."""
    return prefix + secrets.token_urlsafe(32)


def new_code() -> str:
    """80 random bits that a person can type: ABCD-EFGH-JKMN-PQRS."""
    letters = [secrets.choice(_LETTERS) for _ in range(16)]
    return "-".join("".join(letters[start : start + 4]) for start in range(0, 16, 4))


def plain_code(text: str) -> str:
    """A code as it may have been typed, without what does not matter.

    >>> plain_code(" abcd efgh-jkmn-pqro ")
    'ABCDEFGHJKMNPQR0'
    """
    return "".join(c for c in text[:200].upper().translate(_MISREAD) if c in _LETTERS)


def digest(secret: str) -> str:
    """What is stored.  One round is enough: a secret of 80 and more random bits cannot be guessed from it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
