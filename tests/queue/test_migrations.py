"""Migrations: each once, in order, whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from modules.queue.migrations import MIGRATIONS, migrate


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def m900_more(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE jobs ADD COLUMN weight REAL NOT NULL DEFAULT 1")


def m901_broken(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE jobs ADD COLUMN half TEXT")
    db.execute("ALTER TABLE nothing ADD COLUMN other TEXT")


def columns(db: sqlite3.Connection) -> set[str]:
    return {row[1] for row in db.execute("PRAGMA table_info(jobs)")}


def test_each_is_applied_once_and_in_order(db: sqlite3.Connection) -> None:
    names = [migration.__name__ for migration in MIGRATIONS]
    assert names == sorted(names)
    assert migrate(db) == names
    assert migrate(db) == []
    db.execute("INSERT INTO jobs (id, user, request, state, created) VALUES ('a', 'u', '{}', 'queued', 0)")
    assert migrate(db, (*MIGRATIONS, m900_more)) == ["m900_more"]
    assert db.execute("SELECT id, weight FROM jobs").fetchall() == [("a", 1.0)]


def test_one_that_fails_leaves_nothing_half(db: sqlite3.Connection) -> None:
    migrate(db)
    before = columns(db)
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="nothing"):
            migrate(db, (*MIGRATIONS, m900_more, m901_broken))
        assert columns(db) == before | {"weight"}
    assert migrate(db, (*MIGRATIONS, m900_more)) == []


def test_an_unknown_one_means_a_newer_program(db: sqlite3.Connection) -> None:
    migrate(db, (*MIGRATIONS, m900_more))
    with pytest.raises(ValueError, match=r"newer version \(it has m900_more\)"):
        migrate(db)
