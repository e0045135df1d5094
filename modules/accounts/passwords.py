"""Passwords: which are taken, and Argon2id (RFC 9106) over them.

A hash takes about a tenth of a second and 64 MiB, which is the point; callers compute it on a thread.
"""

from __future__ import annotations

import threading
import unicodedata
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from modules.accounts.records import AccountError, TooLong

MIN_BYTES, MAX_BYTES = 8, 1024
"""Of a password in UTF-8."""
AT_ONCE = 2
"""Hashes that are computed at the same time: what a flood of guesses may cost this machine."""


class Passwords:
    """Makes and checks hashes.  The costs are RFC 9106's second recommendation (section 4) unless given (tests do)."""

    def __init__(self, time_cost: int = 3, memory_kib: int = 65536, lanes: int = 4) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=lanes)
        self._few = threading.BoundedSemaphore(AT_ONCE)

    @cached_property
    def _nobodys(self) -> str:
        return self._hasher.hash("nobody's")

    def hash(self, password: str) -> str:
        """Raises AccountError when the password is too short, TooLong when it is too long."""
        data = _bytes(password)
        if len(data) < MIN_BYTES:
            raise AccountError(f"the password is too short; take at least {MIN_BYTES} characters, best a few words")
        with self._few:
            return self._hasher.hash(data)

    def verify(self, stored: str | None, password: str) -> bool:
        """Is this the password?  Without a stored hash it is not, after the same time.

        Raises:
            TooLong: nobody's password is that long.
        """
        data = _bytes(password)
        with self._few:
            nobodys = self._nobodys  # made by the first login, known name or not
            try:
                return self._hasher.verify(stored or nobodys, data) and stored is not None
            except (Argon2Error, InvalidHashError):
                return False


def _bytes(password: str) -> bytes:
    """Normalised (NFC, as RFC 8265 has it), since keyboards differ in how they write the same letter."""
    try:
        data = unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        raise AccountError("the password has a character that is no character") from None
    if len(data) > MAX_BYTES:
        raise TooLong(f"the password has {len(data)} bytes; {MAX_BYTES} is the most")
    return data
