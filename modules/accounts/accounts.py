"""Authentication: log in, show a session or a token, use a code, change a password.

Puts the accounts file, password hashing and the throttle together.  Methods that take a password or a code are slow by
intent (a tenth of a second) and belong on a thread; the others answer in microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
from collections import OrderedDict

from modules.accounts.passwords import Passwords
from modules.accounts.records import Account, AccountError, Role, WrongPassword, name_key
from modules.accounts.store import AccountStore
from modules.accounts.throttle import Throttle
from modules.errors import LimitError

SETUP_SECONDS = 600.0
"""How long the code works that makes the first administrator."""
MAX_REMEMBERED = 256

_WRONG = "Name and password do not belong together."


class Accounts:
    """The accounts of one server."""

    def __init__(self, store: AccountStore, passwords: Passwords | None = None, throttle: Throttle | None = None) -> None:
        self.store = store
        self._passwords = passwords or Passwords()
        self._throttle = throttle or Throttle()
        self._remembered = _Remembered()

    # ---- coming in

    def log_in(self, name: str, password: str, address: str, agent: str) -> str:
        """Returns the secret of a new session.

        Raises:
            WrongPassword: the two do not belong together, or the account is disabled; which, is not told.
            LimitError: there were too many wrong attempts; says in how many seconds to try again.
            TooLong: nobody's password is that long.
        """
        account, _ = self._checked(name, password, address)
        return self.store.add_session(account.id, agent, address)

    def by_basic(self, name: str, secret: str, address: str) -> Account:
        """HTTP Basic: the name with a token or with the password.  Programs send it with every request, so a password that
        was right is remembered (as a keyed digest, in memory) until it is changed.

        Raises:
            WrongPassword, LimitError, TooLong: as `log_in`.
        """
        owner = self.store.token(secret)
        if owner is not None and name_key(owner.name) == name_key(name):
            return owner
        there = self.store.named(name)
        if there is not None and not there[0].disabled and self._remembered.knows(there[0].id, there[1], secret):
            return there[0]
        account, stored = self._checked(name, secret, address)
        self._remembered.add(account.id, stored, secret)
        return account

    def _checked(self, name: str, password: str, address: str) -> tuple[Account, str]:
        """The account and its hash, after the password was found to be right."""
        key = (name_key(name[:200]), network(address))
        self._begin(key)
        there = self.store.named(name)
        stored = there[1] if there is not None else None
        right = self._passwords.verify(stored, password)
        if not right or there is None or there[0].disabled:
            raise WrongPassword(_WRONG)
        self._throttle.succeeded(key)
        return there[0], there[1]

    def _begin(self, key: object) -> None:
        wait = self._throttle.begin(key)
        if wait > 0:
            raise LimitError(f"Too many wrong attempts. Try again in {_words(wait)}.", wait)

    # ---- codes

    def setup_code(self) -> str:
        """A code for the first administrator.  Earlier ones for anybody stay as they are."""
        return self.store.add_code("invite", "administrator", SETUP_SECONDS)

    def may_be_set_up(self) -> bool:
        """Whether a code for the first administrator waits to be used."""
        return any(code.kind == "invite" and code.role == "administrator" for code in self.store.codes())

    def invite(self, role: Role, hours: float) -> str:
        return self.store.add_code("invite", role, hours * 3600)

    def reset(self, account: Account, hours: float) -> str:
        """A code with which this account is given a new password."""
        return self.store.add_code("reset", account.role, hours * 3600, account.id)

    def redeem(self, code: str, name: str, password: str, address: str, agent: str) -> str:
        """Use a code, and be logged in: returns the secret of a new session.

        Raises:
            AccountError: the code does not work, or name or password are not taken; it can then be tried again.
            LimitError: there were too many codes that do not work from this address.
            TooLong: see `Passwords`.
        """
        key = ("a code", network(address))
        self._begin(key)
        self.store.check_code(code)
        self._throttle.succeeded(key)  # whatever else is wrong now was not a guess
        account = self.store.redeem(code, name, self._passwords.hash(password))
        self._throttle.succeeded((name_key(account.name), network(address)))
        return self.store.add_session(account.id, agent, address)

    # ---- one's own account

    def change_password(self, account: Account, old: str, new: str, keep: str, address: str) -> None:
        """All sessions but `keep` end.

        Raises:
            WrongPassword, LimitError: as `log_in`, for the old one.
            AccountError, TooLong: the new one is not taken.
        """
        self._checked(account.name, old, address)
        self.store.set_password(account.id, self._passwords.hash(new), keep)

    def named(self, name: str) -> Account:
        """Raises AccountError when there is no such account."""
        there = self.store.named(name)
        if there is None:
            known = ", ".join(account.name for account in self.store.accounts()) or "nobody yet"
            raise AccountError(f"nobody here is called {name[:80]!r}; there are: {known}")
        return there[0]


class _Remembered:
    """Passwords that were right, by a digest under a key of this process; a changed hash makes them unknown."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._guard = threading.Lock()

    def knows(self, account: str, stored: str, password: str) -> bool:
        with self._guard:
            return self._mark(account, stored, password) in self._known

    def add(self, account: str, stored: str, password: str) -> None:
        with self._guard:
            self._known[self._mark(account, stored, password)] = None
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)

    def _mark(self, account: str, stored: str, password: str) -> bytes:
        said = "\0".join((account, stored, password)).encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, said, hashlib.sha256)


def network(address: str) -> str:
    """What an address is throttled by: itself, or the /64 that one IPv6 customer has to choose from.

    >>> network("192.168.1.5"), network("2001:db8:1:2:3::4"), network("::ffff:10.0.0.1"), network("")
    ('192.168.1.5', '2001:db8:1:2::/64', '10.0.0.1', '')
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def _words(seconds: float) -> str:
    whole = max(1, round(seconds + 0.5))
    return f"{whole} seconds" if whole < 120 else f"{whole // 60 + 1} minutes"
