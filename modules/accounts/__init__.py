"""Who may come in: accounts, sessions, API tokens and one-time codes, in one SQLite file.

Knows names, roles, passwords and secrets; not HTTP, not jobs, not pictures.  `Accounts` is what others use.
"""

from modules.accounts.accounts import Accounts
from modules.accounts.records import (
    Account,
    AccountError,
    AccountsUnavailable,
    Code,
    Role,
    Session,
    Token,
    TooLong,
    WrongPassword,
)
from modules.accounts.store import AccountStore

__all__ = [
    "Account",
    "AccountError",
    "AccountStore",
    "Accounts",
    "AccountsUnavailable",
    "Code",
    "Role",
    "Session",
    "Token",
    "TooLong",
    "WrongPassword",
]
