"""What there is to know about people: accounts, sessions, tokens and codes as frozen data, and the rules for names.

No secret is in any of these: secrets are shown once, to the user who gets them, and only their digests are stored.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

from modules.errors import AtelierError, RequestError

Role = Literal["viewer", "user", "administrator"]
ROLES: tuple[Role, ...] = ("viewer", "user", "administrator")
"""From the one who may least: a viewer looks, a user paints, an administrator also decides who comes in."""

CodeKind = Literal["invite", "reset"]

MAX_NAME = 64
"""Characters of an account's name or a token's label."""


class AccountError(RequestError):
    """Something cannot be done with an account, a name, a password or a code as asked."""


class AccountsUnavailable(AtelierError):
    """The accounts file cannot be read or written, or is another one than was opened: every login fails (HTTP 503)."""


class TooLong(AccountError):
    """A password is longer than any that is taken (HTTP 413)."""


class WrongPassword(AccountError):
    """Wrong name or password; the error does not say which (HTTP 401)."""


@dataclass(frozen=True)
class Account:
    """`id` never changes and is never used again; `name` is what people see.  Times are seconds since 1970."""

    id: str
    name: str
    role: Role
    disabled: bool
    created: float

    @property
    def user(self) -> str:
        """As the rest of the program knows them, in the job list for instance."""
        return f"account-{self.id}"


@dataclass(frozen=True)
class Session:
    """A browser that is logged in.  `agent` is what it says of itself, `address` where it logged in from."""

    id: str
    account: str
    agent: str
    address: str
    created: float
    seen: float


@dataclass(frozen=True)
class Token:
    """A program's way in.  `used` is 0 before the first time."""

    id: str
    label: str
    created: float
    used: float


@dataclass(frozen=True)
class Code:
    """A one-time code: an invitation to make an account of `role`, or a new password for the account `account`."""

    id: str
    kind: CodeKind
    role: Role
    account: str
    created: float
    expires: float


def as_role(text: str) -> Role:
    """Raises AccountError when it is none."""
    if text not in ROLES:
        raise AccountError(f"a role is one of {', '.join(ROLES)}, not {text[:40]!r}")
    return text


def clean_name(text: str, what: str = "name") -> str:
    """The name as it is kept: one line, normalised (NFC), without what cannot be seen.

    ":" is refused, because HTTP Basic ends the name there.

    Raises:
        AccountError: nothing is left, or it is too long.
    """
    shown = "".join(c for c in unicodedata.normalize("NFC", text) if unicodedata.category(c)[0] != "C")
    shown = " ".join(shown.split())
    if not shown:
        raise AccountError(f"the {what} is empty; write one of up to {MAX_NAME} characters")
    if len(shown) > MAX_NAME:
        raise AccountError(f"the {what} has {len(shown)} characters; {MAX_NAME} is the most")
    if what == "name" and ":" in shown:
        raise AccountError('a name cannot have ":" in it')
    return shown


def name_key(name: str) -> str:
    """Equal for names that people would take for the same: "Ada", "ada" and "ＡＤＡ"."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
