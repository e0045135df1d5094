"""Whose jobs they are on an instance without accounts: one user for each data folder, whatever browser, host name or port.

Earlier versions made every browser a user of its own, by a cookie for each host and port.  What those users left is handed to
the one user when a list is opened without accounts; the jobs of accounts are never touched.
"""

from __future__ import annotations

import sqlite3

OWNER = "owner"
"""The user of the page on an instance without accounts."""
_BROWSERS = "browser-*"
"""Users of earlier versions, as a GLOB pattern: a digest of their cookie behind these words.  Accounts have other ids."""


def merge_owners(db: sqlite3.Connection) -> list[str]:
    """Hand the jobs of all browsers to `OWNER`, within the caller's transaction.  Returns the users that were there.

    Idempotency keys are unique for each user: of two jobs with the same key the newer one keeps it.  A pause of one of them
    whose unfinished jobs still wait stays one, so that nothing starts by itself.
    """
    found = "SELECT user FROM jobs WHERE user GLOB ? UNION SELECT user FROM pauses WHERE user GLOB ?"
    users = [str(row[0]) for row in db.execute(found, (_BROWSERS, _BROWSERS))]
    if not users:
        return []
    theirs = "(user GLOB ? OR user = ?)"
    db.execute(
        f"UPDATE jobs SET key = NULL WHERE key IS NOT NULL AND {theirs} AND EXISTS (SELECT 1 FROM jobs AS newer "
        "WHERE newer.key = jobs.key AND newer.position > jobs.position AND (newer.user GLOB ? OR newer.user = ?))",
        (_BROWSERS, OWNER, _BROWSERS, OWNER),
    )
    db.execute(
        "INSERT OR IGNORE INTO pauses SELECT ? FROM pauses WHERE user GLOB ? AND user IN "
        "(SELECT user FROM jobs WHERE state IN ('queued', 'running')) LIMIT 1",
        (OWNER, _BROWSERS),
    )
    db.execute("DELETE FROM pauses WHERE user GLOB ?", (_BROWSERS,))
    db.execute("UPDATE jobs SET user = ? WHERE user GLOB ?", (OWNER, _BROWSERS))
    return users
