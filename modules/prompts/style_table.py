"""Editing `styles.csv`: the rows that are changed are written as A1111 writes them, all others stay byte for byte.

Comment rows, further columns, rows of the same name and the order survive; what is odd about a file is said in `notes`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from modules.errors import OutputError, RequestError, SettingsError
from modules.prompts.styles import FIELDS, MAX_BYTES, Style, decoded
from modules.request import clean_text

MAX_NAME = 1_000
MAX_TEXT = 50_000


@dataclass(frozen=True)
class _Record:
    """A row of the file: its text with the end of its line, and its cells."""

    raw: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class StyleTable:
    """A styles file at one moment; editing makes another one.

    `columns` are those of its first line, `version` changes with any byte of the file.  `encoding` is "" for UTF-8.
    """

    columns: tuple[str, ...] = FIELDS
    records: tuple[_Record, ...] = ()
    head: str = ",".join(FIELDS) + "\r\n"
    version: str = ""
    encoding: str = ""
    newline: str = field(default="\r\n")

    # ---- looking

    def styles(self) -> list[tuple[Style, int]]:
        """The styles in the order of the file, each with how many rows have its name; the last of them counts."""
        found: dict[str, tuple[Style, int]] = {}
        for record in self.records:
            if name := self._name(record):
                found[name] = (self._style(record), found[name][1] + 1 if name in found else 1)
        return list(found.values())

    def notes(self) -> list[str]:
        """What is worth knowing before the file is edited."""
        said = []
        if self.encoding:
            said.append(f"The file is written in {self.encoding}; with the first change it becomes UTF-8, as A1111 writes it.")
        if twice := [style.name for style, rows in self.styles() if rows > 1]:
            said.append(f"Several rows have the name {', '.join(twice[:5])}; the last of each counts.")
        comments = sum(1 for record in self.records if record.cells and record.cells[0].startswith("#"))
        if comments:
            said.append(f"{comments} comment row{'s are' if comments > 1 else ' is'} kept.")
        if further := [column for column in self.columns if column not in (*FIELDS, "text")]:
            said.append(f"Further columns are kept: {', '.join(further)[:200]}.")
        return said

    # ---- changing

    def put(self, style: Style, was: str = "") -> StyleTable:
        """With `style`: in the place of the one called `was`, else behind the last row.

        Raises:
            RequestError: it has no name that a style can have, another one has it, or `was` is not there.
        """
        checked = _checked(style)
        places = self._places(was) if was else []
        if was and not places:
            raise RequestError(f"style: {was[:60]!r} is not in the file any more; look again")
        if checked.name != was and self._places(checked.name):
            raise RequestError(f"name: there is a style {checked.name[:60]!r} already; choose another name")
        table = self if self._can_hold(checked) else self._with_all_columns()
        records = list(table.records)
        if places:
            records[places[-1]] = table._written(checked, records[places[-1]].cells)
        else:
            if records and not records[-1].raw.endswith(("\n", "\r")):
                records[-1] = replace(records[-1], raw=records[-1].raw + table.newline)
            records.append(table._written(checked, ()))
        return replace(table, records=tuple(records))

    def without(self, name: str) -> StyleTable:
        """Without all rows of this name.

        Raises:
            RequestError: there is none.
        """
        places = set(self._places(name))
        if not places:
            raise RequestError(f"style: {name[:60]!r} is not in the file any more; look again")
        return replace(self, records=tuple(record for at, record in enumerate(self.records) if at not in places))

    def text(self) -> str:
        head = self.head if self.head.endswith(("\n", "\r")) else self.head + self.newline
        return head + "".join(record.raw for record in self.records)

    # ---- inside

    def _cell(self, record: _Record, column: str) -> str:
        at = self.columns.index(column) if column in self.columns else len(record.cells)
        return record.cells[at] if at < len(record.cells) else ""

    def _name(self, record: _Record) -> str:
        name = self._cell(record, "name")
        return "" if name.startswith("#") else name

    def _style(self, record: _Record) -> Style:
        prompt = self._cell(record, "prompt" if "prompt" in self.columns else "text")
        return Style(self._name(record), clean_text(prompt), clean_text(self._cell(record, "negative_prompt")))

    def _places(self, name: str) -> list[int]:
        return [at for at, record in enumerate(self.records) if self._name(record) == name]

    def _can_hold(self, style: Style) -> bool:
        return "prompt" in self.columns and ("negative_prompt" in self.columns or not style.negative_prompt)

    def _with_all_columns(self) -> StyleTable:
        """An older table (name,text) with A1111's columns of today."""
        further = [column for column in self.columns if column not in (*FIELDS, "text")]
        columns = (*FIELDS, *further)
        table = replace(self, columns=columns, head=_row(columns, self.newline))
        records = []
        for record in self.records:
            if self._name(record):
                style, rest = self._style(record), [self._cell(record, column) for column in further]
                record = table._written(style, ("", "", "", *rest))
            records.append(record)
        return replace(table, records=tuple(records))

    def _written(self, style: Style, before: Sequence[str]) -> _Record:
        values: Mapping[str, str] = {column: getattr(style, column) for column in FIELDS}
        kept = [before[at] if at < len(before) else "" for at in range(max(len(self.columns), len(before)))]
        cells = tuple(values.get(column, kept[at]) for at, column in enumerate(self.columns)) + tuple(kept[len(self.columns) :])
        return _Record(_row(cells, self.newline), cells)


def read_table(path: Path) -> StyleTable:
    """The file at `path`; an empty table when there is none.

    Raises:
        SettingsError: it cannot be read, or is no table of styles.
    """
    try:
        if path.exists() and path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{path} is larger than {MAX_BYTES // 2**20} MB; is it a styles file?")
        data = path.read_bytes()
    except FileNotFoundError:
        return StyleTable()
    except OSError as error:
        raise SettingsError(f"the styles file {path} cannot be read: {error.strerror or error}") from None
    text, encoding = decoded(data)
    version = hashlib.sha256(data).hexdigest()[:16]
    try:
        records = list(_records(text.replace("\x00", "").lstrip("\r\n")))
    except csv.Error as error:
        raise SettingsError(f"{path}: {error}; it must be a table of name, prompt, negative_prompt") from None
    newline = "\n" if "\n" in text and "\r\n" not in text else "\r\n"
    if not records:
        return StyleTable(version=version, encoding=encoding, newline=newline)
    if "name" not in records[0].cells:
        raise SettingsError(f"{path} has no column 'name'; the first line must be name,prompt,negative_prompt")
    return StyleTable(records[0].cells, tuple(records[1:]), records[0].raw, version, encoding, newline)


def write_table(path: Path, table: StyleTable) -> None:
    """Replace the file, in one step, as UTF-8 with a mark; the one before stays as `.bak`.

    Raises:
        OutputError: it cannot be written; the old file is untouched.
    """
    replace_file(path, "\ufeff" + table.text(), "the styles file", backup=True)


def replace_file(path: Path, text: str, what: str, backup: bool = False) -> None:
    """Write a text file in one step.

    Raises:
        OutputError: it cannot be written; the old file is untouched.
    """
    part = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        if backup and path.exists():
            shutil.copy(path, path.with_name(f"{path.name}.bak"))
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(part)
        raise OutputError(f"{what} could not be written: {error.strerror or error}; nothing was changed") from None


def _records(text: str) -> Iterator[_Record]:
    lines = list(io.StringIO(text, newline=""))
    rows, at = csv.reader(iter(lines), skipinitialspace=True), 0
    for cells in rows:
        yield _Record("".join(lines[at : rows.line_num]), tuple(cells))
        at = rows.line_num


def _row(cells: Sequence[str], newline: str) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=newline).writerow(cells)
    return text.getvalue()


def _checked(style: Style) -> Style:
    name = clean_text(style.name).strip()
    if not name or name.startswith("#") or "\n" in name or len(name) > MAX_NAME:
        raise RequestError(f"name: it must be one line of 1 to {MAX_NAME} characters that does not begin with #")
    texts = {column: clean_text(getattr(style, column)) for column in ("prompt", "negative_prompt")}
    if long := next((column for column, text in texts.items() if len(text) > MAX_TEXT), ""):
        raise RequestError(f"{long}: it must have at most {MAX_TEXT:,} characters")
    return Style(name, **texts)
