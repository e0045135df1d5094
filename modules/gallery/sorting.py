"""Orders of the gallery's pages, and the cursors by which one page follows another.

By date and rating pages come as they stand in the full-text index.  By name and size the ids of all that a search finds are
sorted: of 100,000 pictures that takes longer than a page in the order of the index, and still no column of its own.
"""

from __future__ import annotations

import re

from modules.gallery.schema import Entry

SORTS = ("newest", "oldest", "name", "largest", "smallest", "rating")

BY = {
    "name": ("p.name COLLATE NOCASE", ">", "ASC"),
    "largest": ("p.width * p.height", "<", "DESC"),
    "smallest": ("p.width * p.height", ">", "ASC"),
}
"""Orders that are not those of the index: by what, and how it and the id go on; a size is a number of pixels."""
_QUERY = (
    "SELECT p.id FROM words CROSS JOIN pictures AS p ON p.id = words.rowid "
    "WHERE words MATCH ? AND words.rowid >= ? AND words.rowid < ? {behind} ORDER BY {by} {order}, p.id {order} LIMIT ?"
)


def query(sort: str, after: str) -> tuple[str, tuple[str | int, ...]]:
    """The query of the ids of a page in an order of `BY`, behind the cursor `after`, and what it takes beside the search."""
    by, sign, order = BY[sort]
    value, _, at = after.rpartition("-")
    bounds = ((bytes.fromhex(value).decode() if sort == "name" else int(value)), int(at)) if after else ()
    behind = f"AND ({by}, p.id) {sign} (?, ?)" if after else ""
    return _QUERY.format(by=by, order=order, behind=behind), bounds


def cursor(sort: str, last: Entry) -> str:
    """What the next page in an order of `BY` is asked with: the value of the last picture, and its id."""
    value = last.name.encode().hex() if sort == "name" else str(last.said.width * last.said.height)
    return f"{value}-{last.id}"


def is_cursor(text: str, sort: str) -> bool:
    """Whether `text` may be what a page in this order gave as next.

    >>> is_cursor("7", "newest"), is_cursor("5-7", "rating"), is_cursor("610a-7", "name"), is_cursor("ff-7", "name")
    (True, True, True, False)
    """
    value, _, number = text.rpartition("-")
    if not (number.isascii() and number.isdecimal() and len(number) < 17):
        return False
    if sort == "name":
        try:
            return bytes.fromhex(value).decode() != ""
        except ValueError:
            return False
    pattern = {"rating": "[0-5]", "largest": "[0-9]{1,12}", "smallest": "[0-9]{1,12}"}.get(sort, "")
    return re.fullmatch(pattern, value) is not None
