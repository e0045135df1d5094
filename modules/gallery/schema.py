"""The tables of the index, and of one picture in it.

`pictures.id` is when the picture was made, in microseconds since 1970 and made unique: the order of the ids is the order of the
pages, `words.rowid` is the same number, and a page goes on below the last id of the one before.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from modules.gallery import words
from modules.gallery.described import Described, Stamp

VERSION = 1
"""Of the tables and of what is written into them: a file of another version is made anew."""

TABLES = """
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY,
    folder TEXT NOT NULL,
    name TEXT NOT NULL,
    origin TEXT NOT NULL,
    owner TEXT NOT NULL,
    size INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    side INTEGER NOT NULL,
    kind TEXT NOT NULL,
    seed TEXT NOT NULL,
    model TEXT NOT NULL,
    sampler TEXT NOT NULL,
    program TEXT NOT NULL,
    caption TEXT NOT NULL,
    rating INTEGER NOT NULL,
    favourite INTEGER NOT NULL,
    broken TEXT NOT NULL,
    trashed REAL,
    UNIQUE (folder, name)
);
CREATE INDEX pictures_by_model ON pictures (owner, model);
CREATE INDEX pictures_by_sampler ON pictures (owner, sampler);
CREATE INDEX pictures_by_side ON pictures (side);
CREATE INDEX pictures_broken ON pictures (id) WHERE broken != '';
CREATE INDEX pictures_trashed ON pictures (trashed) WHERE trashed IS NOT NULL;
CREATE TABLE labels (
    picture INTEGER NOT NULL,
    kind TEXT NOT NULL,
    label TEXT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (picture, kind, label)
) WITHOUT ROWID;
CREATE INDEX labels_by_kind ON labels (kind, owner, label);
CREATE VIRTUAL TABLE words USING fts5 (
    prompt, negative, model, loras, sampler, name, tags, facts,
    tokenize = "unicode61 remove_diacritics 2", prefix = '2 3'
);
"""


@dataclass(frozen=True)
class Written:
    """What people write down about a picture; `rating` from 0, none, to 5."""

    favourite: bool = False
    rating: int = 0
    tags: tuple[str, ...] = ()
    albums: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """A picture of the index.

    `path` is below the outputs folder with "/", now; `origin` is where it was before it went to the trash, and the same while
    it is not there; `trashed` is when it went, in seconds since 1970.  `owner` is a user, "" for nobody's (another program's),
    or `UNKNOWN`.  `id` is 0 before it is in the index.
    """

    path: str
    owner: str
    said: Described
    written: Written = field(default_factory=Written)
    origin: str = ""
    trashed: float | None = None
    id: int = 0

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def title(self) -> str:
        """The file's name as it was given."""
        return (self.origin or self.path).rpartition("/")[2]


UNKNOWN = "?"
"""The owner of a picture of ours whose user is not known any more: with accounts no user sees it."""


def make(db: sqlite3.Connection) -> None:
    db.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")


def facts_of(entry: Entry) -> str:
    """The facts of a picture as words (see `words`)."""
    said, written = entry.said, entry.written
    facts = [
        words.owner_word(entry.owner),
        words.LIVE if entry.trashed is None else words.TRASH,
        words.rating_word(written.rating),
    ]
    if written.favourite:
        facts.append(words.FAVOURITE)
    if said.broken:
        facts.append(words.BROKEN)
    if said.seed:
        facts.append(words.seed_word(said.seed))
    if said.width:
        facts += words.size_words(said.width, said.height)
    for kind, labels in (("tag", written.tags), ("album", written.albums)):
        facts += [words.label_word(kind, label) for label in labels]
    return " ".join(facts)


def insert(db: sqlite3.Connection, entry: Entry) -> None:
    """A picture with its id, which is free, and its words."""
    said, written = entry.said, entry.written
    db.execute(
        f"INSERT INTO pictures VALUES ({', '.join('?' * 21)})",
        (
            *(entry.id, entry.folder, entry.name, entry.origin or entry.path, entry.owner),
            *(said.stamp.size, said.stamp.changed, said.sha256, said.width, said.height, max(said.width, said.height)),
            *(said.kind, said.seed, said.model, said.sampler, said.program, said.caption),
            *(written.rating, int(written.favourite), said.broken, entry.trashed),
        ),
    )
    cut = (
        words.cut(text) for text in (said.prompt, said.negative, said.model, " ".join(said.loras), said.sampler, entry.title)
    )
    db.execute(
        "INSERT INTO words (rowid, prompt, negative, model, loras, sampler, name, tags, facts) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (entry.id, *cut, words.cut("\n".join(written.tags)), facts_of(entry)),
    )
    insert_labels(db, entry)


def insert_labels(db: sqlite3.Connection, entry: Entry) -> None:
    labels = [("tag", label) for label in entry.written.tags] + [("album", label) for label in entry.written.albums]
    rows = [(entry.id, kind, label, entry.owner) for kind, label in labels]
    db.executemany("INSERT OR IGNORE INTO labels VALUES (?, ?, ?, ?)", rows)


def remove(db: sqlite3.Connection, id_: int) -> None:
    db.execute("DELETE FROM labels WHERE picture = ?", (id_,))
    db.execute("DELETE FROM words WHERE rowid = ?", (id_,))
    db.execute("DELETE FROM pictures WHERE id = ?", (id_,))


ENTRY = "p.*, (SELECT json_group_array(json_array(kind, label)) FROM labels WHERE picture = p.id) AS labels"
"""The columns that `read` needs, of pictures AS p."""


def read(row: sqlite3.Row) -> Entry:
    """A picture of the index; of its words the caption alone, as `said.prompt`."""
    labels: list[Any] = json.loads(row["labels"])
    texts = {name: row[name] for name in ("sha256", "kind", "seed", "model", "sampler", "program", "broken")}
    stamp = Stamp(row["size"], row["changed"])
    said = Described(stamp, width=row["width"], height=row["height"], prompt=row["caption"], **texts)
    written = Written(
        bool(row["favourite"]),
        row["rating"],
        *(tuple(sorted((label for kind, label in labels if kind == wanted), key=str.casefold)) for wanted in ("tag", "album")),
    )
    folder = f"{row['folder']}/" if row["folder"] else ""
    return Entry(folder + row["name"], row["owner"], said, written, row["origin"], row["trashed"], row["id"])
