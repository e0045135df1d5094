"""The accounts store: accounts, sessions, API tokens and one-time codes, in one SQLite file.

SQLite, readable by its owner alone.  The server and the command line may have it open at the same time, so nothing is kept
in memory: what one of them takes away, the other knows with the next request.  Passwords arrive here as hashes; secrets are
made here, shown once and stored as digests.

Nothing but SQLite opens the file.  POSIX record locks belong to the process and not to the descriptor: closing any
descriptor of a file drops all locks that the process has on it (fcntl(2)), SQLite's too, and a connection elsewhere then takes
itself for the last one and removes the write-ahead log that is still written to (sqlite.org/howtocorrupt.html, 2.2).
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from modules.accounts.records import (
    Account,
    AccountError,
    AccountsUnavailable,
    Code,
    CodeKind,
    Role,
    Session,
    Token,
    clean_name,
    name_key,
)
from modules.accounts.schema import prepare
from modules.accounts.secrets import digest, new_code, new_secret, plain_code

log = logging.getLogger("atelier")

SESSION_SECONDS = 30 * 24 * 3600.0
"""A session ends when it was not used for this long."""
TOUCH_SECONDS = 3600.0
"""How precisely it is noted when a session or a token was used last: not each request is worth a write."""
MAX_SESSIONS, MAX_TOKENS, MAX_CODES = 100, 50, 100
"""Per account; codes altogether."""
TOKEN_PREFIX = "atelier_"
"""So that a token that lies around somewhere is known for what it is."""

FILE_NAME = "accounts.sqlite"
"""In the data folder."""
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems without hard links answer: FAT, exFAT, some network shares."""


class AccountStore:
    """The file `path`; in memory when it is None.  Any thread may call.  One per process and file.

    Every method raises AccountsUnavailable when the file cannot be read or written, or when it was removed or replaced after it
    was opened: SQLite would go on with the old one, which nobody else sees.

    Raises:
        AccountError: it cannot be opened, or a newer version made it.  It is not made anew by itself: an empty list of
            accounts would let the first visitor become the administrator.
    """

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._guard = threading.RLock()
        try:
            if path is not None:
                _make(path)
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5.0)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            prepare(self._db)
            self._db.row_factory = sqlite3.Row
            self._file = _identity(path)
        except (OSError, sqlite3.Error, ValueError) as error:
            raise AccountError(
                f"the accounts file {path} cannot be used: {error}; restore it from a copy, or move it away to begin with no "
                "accounts at all"
            ) from None

    def close(self) -> None:
        with self._guard:
            self._db.close()

    # ---- accounts

    def accounts(self) -> list[Account]:
        """In the order in which they were made."""
        return [_account(row) for row in self._rows("SELECT * FROM accounts ORDER BY created, id")]

    def account(self, account: str) -> Account | None:
        return next((_account(row) for row in self._rows("SELECT * FROM accounts WHERE id = ?", account)), None)

    def named(self, name: str) -> tuple[Account, str] | None:
        """The account that people call by this name, however it is spelt, and its password's hash."""
        rows = self._rows("SELECT * FROM accounts WHERE key = ?", name_key(name))
        return next(((_account(row), row["password"]) for row in rows), None)

    def has_administrator(self) -> bool:
        """Whether there is an administrator who is not disabled."""
        return bool(self._rows("SELECT 1 FROM accounts WHERE role = 'administrator' AND NOT disabled"))

    def set_role(self, account: str, role: Role) -> None:
        """Raises AccountError when no administrator would be left."""
        with self._keeping_an_administrator() as db:
            db.execute("UPDATE accounts SET role = ? WHERE id = ?", (role, account))

    def set_disabled(self, account: str, disabled: bool) -> None:
        """Disable or enable an account; a disabled one cannot log in, and its sessions end.

        Raises:
            AccountError: it is the last administrator's.
        """
        with self._keeping_an_administrator() as db:
            db.execute("UPDATE accounts SET disabled = ? WHERE id = ?", (disabled, account))
            if disabled:
                db.execute("DELETE FROM sessions WHERE account = ?", (account,))

    def remove(self, account: str) -> None:
        """The account, its sessions and its tokens; not its pictures.  Raises AccountError for the last administrator's."""
        with self._keeping_an_administrator() as db:
            db.execute("DELETE FROM accounts WHERE id = ?", (account,))

    def set_password(self, account: str, password: str, keep: str = "") -> None:
        """Another password (its hash); all sessions but `keep` end."""
        with self._transaction() as db:
            db.execute("UPDATE accounts SET password = ? WHERE id = ?", (password, account))
            db.execute("DELETE FROM sessions WHERE account = ? AND id != ?", (account, keep))

    # ---- sessions

    def add_session(self, account: str, agent: str, address: str) -> str:
        """Returns the secret for the browser's cookie."""
        secret, now = new_secret(), self._clock()
        with self._transaction() as db:
            db.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)",
                (digest(secret), _id(), account, agent, address, now, now),
            )
            db.execute(
                "DELETE FROM sessions WHERE account = ?1 AND (seen < ?2 OR digest NOT IN "
                "(SELECT digest FROM sessions WHERE account = ?1 ORDER BY seen DESC, rowid DESC LIMIT ?3))",
                (account, now - 2 * SESSION_SECONDS, MAX_SESSIONS),
            )
        return secret

    def session(self, secret: str) -> tuple[Account, Session, bool] | None:
        """Whose session this is, when it still counts; True with it when its time was extended just now."""
        rows = self._rows(
            "SELECT a.*, s.id AS session, s.agent, s.address, s.created AS began, s.seen FROM sessions s "
            "JOIN accounts a ON a.id = s.account WHERE s.digest = ? AND NOT a.disabled",
            digest(secret),
        )
        now = self._clock()
        if not rows or now - rows[0]["seen"] > SESSION_SECONDS:
            return None
        row = rows[0]
        session = Session(row["session"], row["id"], row["agent"], row["address"], row["began"], row["seen"])
        extended = now - session.seen > TOUCH_SECONDS
        if extended:
            self._note("UPDATE sessions SET seen = ? WHERE id = ?", now, session.id)
        return _account(row), session, extended

    def sessions(self, account: str) -> list[Session]:
        """Those that still count, the latest used first."""
        rows = self._rows(
            "SELECT id, account, agent, address, created, seen FROM sessions WHERE account = ? AND seen >= ? "
            "ORDER BY seen DESC, rowid DESC",
            account,
            self._clock() - SESSION_SECONDS,
        )
        return [Session(*row) for row in rows]

    def end_session(self, account: str, session: str) -> bool:
        """One of this account's own.  False when it is none."""
        return self._delete("sessions WHERE account = ? AND id = ?", account, session)

    def end_sessions(self, account: str, keep: str = "") -> bool:
        """All of this account's but `keep`."""
        return self._delete("sessions WHERE account = ? AND id != ?", account, keep)

    # ---- tokens

    def add_token(self, account: str, label: str) -> str:
        """Add an API token and return its secret, of which only a digest is stored.

        Raises:
            AccountError: there are too many already, or the label is none.
        """
        secret, label = new_secret(TOKEN_PREFIX), clean_name(label, "label")
        with self._transaction() as db:
            (there,) = db.execute("SELECT count(*) FROM tokens WHERE account = ?", (account,)).fetchone()
            if there >= MAX_TOKENS:
                raise AccountError(f"this account has {there} tokens, which is the most; revoke one first")
            db.execute(
                "INSERT INTO tokens (digest, id, account, label, created) VALUES (?, ?, ?, ?, ?)",
                (digest(secret), _id(), account, label, self._clock()),
            )
        return secret

    def token(self, secret: str) -> Account | None:
        """Whose token this is."""
        rows = self._rows(
            "SELECT a.*, t.id AS token, t.used FROM tokens t JOIN accounts a ON a.id = t.account "
            "WHERE t.digest = ? AND NOT a.disabled",
            digest(secret),
        )
        if not rows:
            return None
        if abs(self._clock() - rows[0]["used"]) > TOUCH_SECONDS:
            self._note("UPDATE tokens SET used = ? WHERE id = ?", self._clock(), rows[0]["token"])
        return _account(rows[0])

    def tokens(self, account: str) -> list[Token]:
        rows = self._rows("SELECT id, label, created, used FROM tokens WHERE account = ? ORDER BY created, rowid", account)
        return [Token(*row) for row in rows]

    def revoke_token(self, account: str, token: str) -> bool:
        """One of this account's own.  False when it is none."""
        return self._delete("tokens WHERE account = ? AND id = ?", account, token)

    # ---- one-time codes

    def add_code(self, kind: CodeKind, role: Role, seconds: float, account: str | None = None) -> str:
        """Returns the code, which works once and for `seconds`.  A new one for the same account's password ends the old.

        Raises:
            AccountError: there are too many open ones.
        """
        code, now = new_code(), self._clock()
        with self._transaction() as db:
            db.execute("DELETE FROM codes WHERE expires < ? OR account = ?", (now, account))
            if db.execute("SELECT count(*) FROM codes").fetchone()[0] >= MAX_CODES:
                raise AccountError(f"there are {MAX_CODES} open invitations, which is the most; withdraw some first")
            db.execute(
                "INSERT INTO codes VALUES (?, ?, ?, ?, ?, ?, ?)",
                (digest(plain_code(code)), _id(), kind, role, account, now, now + seconds),
            )
        return code

    def code(self, code: str) -> Code | None:
        """What this code is for, when it may still be used."""
        found = self._codes("WHERE c.digest = ? AND c.expires >= ?", digest(plain_code(code)), self._clock())
        return found[0] if found else None

    def check_code(self, code: str) -> Code:
        """What this code is for.

        Raises:
            AccountError: it may not be used (any more).
        """
        found = self.code(code)
        if found is None:
            raise AccountError("this code does not work: it was used, has expired, or never was; ask for a new one")
        return found

    def codes(self) -> list[Code]:
        """Those that may still be used."""
        return self._codes("WHERE c.expires >= ? ORDER BY c.created, c.rowid", self._clock())

    def withdraw_code(self, code: str) -> bool:
        """By its id."""
        return self._delete("codes WHERE id = ?", code)

    def redeem(self, code: str, name: str, password: str) -> Account:
        """Use a code up: makes the invited account, or sets the password (a hash) of the account that the code is for.

        Raises:
            AccountError: the code does not work (any more), or the name is taken; a code is then not used up.
        """
        with self._transaction() as db:
            found = self.check_code(code)
            account = found.account
            if found.kind == "reset":
                self.set_password(account, password)
            else:
                account, name = _id(), clean_name(name)
                try:
                    db.execute(
                        "INSERT INTO accounts (id, name, key, role, password, created) VALUES (?, ?, ?, ?, ?, ?)",
                        (account, name, name_key(name), found.role, password, self._clock()),
                    )
                except sqlite3.IntegrityError:
                    raise AccountError(f"the name {name!r} is taken here; take another name") from None
            db.execute("DELETE FROM codes WHERE id = ?", (found.id,))
            made = self.account(account)
        assert made is not None, "made in this transaction"
        return made

    # ---- inside

    def _codes(self, where: str, *values: Any) -> list[Code]:
        rows = self._rows(f"SELECT c.id, c.kind, c.role, c.account, c.created, c.expires FROM codes c {where}", *values)
        return [Code(row["id"], row["kind"], row["role"], row["account"] or "", row["created"], row["expires"]) for row in rows]

    def _rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._guard, self._reachable():
            return self._db.execute(sql, values).fetchall()

    def _note(self, sql: str, *values: Any) -> None:
        """A write that is not worth refusing anybody for: the disk may be full."""
        try:
            with self._transaction() as db:
                db.execute(sql, values)
        except AccountsUnavailable as error:
            log.warning("%s", error)

    def _delete(self, what: str, *values: Any) -> bool:
        with self._transaction() as db:
            return db.execute(f"DELETE FROM {what}", values).rowcount > 0

    @contextmanager
    def _keeping_an_administrator(self) -> Iterator[sqlite3.Connection]:
        with self._transaction() as db:
            before = self.has_administrator()
            yield db
            if before and not self.has_administrator():
                raise AccountError("this is the last administrator; make another account one first")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; inside another one, a part of it."""
        with self._guard:
            nested = self._db.in_transaction
            if nested:
                yield self._db
                return
            with self._reachable():
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        """The file is the one that was opened; what SQLite says of it is said as one of our errors.  Under the guard."""
        if self._path is not None and _identity(self._path) != self._file:
            raise AccountsUnavailable(
                f"the accounts file {self._path.name} was removed or replaced while this server ran, so nobody is let in; "
                "put it back, or start the server again"
            )
        try:
            yield
        except sqlite3.Error as error:
            raise AccountsUnavailable(
                f"the accounts file cannot be used: {error}; look at its disk and its permissions, and try again"
            ) from None


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Device and inode of the file that has this name now; None when there is none.  Does not open it."""
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found is not None else None


def _make(path: Path) -> None:
    """Make an empty file that its owner alone may read, where there is none; SQLite's further files take over its mode.

    The file is closed before it has its name, so no descriptor of it is ever closed while a connection holds locks on it.

    Raises:
        OSError: the folder or the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(path):
        return
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with suppress(FileExistsError):  # another process was quicker, and its file is as good
            try:
                os.link(fresh, path)
            except OSError as error:
                if isinstance(error, FileExistsError) or error.errno not in _NO_LINKS:
                    raise
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    finally:
        with suppress(FileNotFoundError):
            os.unlink(fresh)


def _account(row: sqlite3.Row) -> Account:
    return Account(row["id"], row["name"], row["role"], bool(row["disabled"]), row["created"])


def _id() -> str:
    return uuid.uuid4().hex[:20]
