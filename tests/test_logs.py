"""Log lines that nobody can forge."""

from __future__ import annotations

import io
import logging

import pytest

from modules.logs import MAX_LINE, PlainLines


@pytest.fixture
def written() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(written: io.StringIO) -> logging.Logger:
    made = logging.Logger("test")
    handler = logging.StreamHandler(written)
    handler.setFormatter(PlainLines("%(message)s"))
    made.addHandler(handler)
    return made


@pytest.mark.parametrize(
    "text",
    [
        "\n2026-01-01 ERROR x\x1b[31m",
        "\r\n\x00\x07",
        "a\u2028b\u2029c",
        "\u202egnp.exe",
        "\x9b31m",
        "\ud800",
        "x" * 10_000,
        "ü 李 🦊\t",
    ],
)
def test_only_the_first_line_begins_at_the_margin(log: logging.Logger, written: io.StringIO, text: str) -> None:
    log.error("said: %s", text)
    lines = written.getvalue().splitlines()
    assert lines[0].startswith("said: ")
    assert all(line.startswith("  | ") for line in lines[1:])
    assert not [c for c in written.getvalue() if (ord(c) < 32 and c not in "\n\t") or c in "\x1b\x9b\u202e\u2028\ud800"]
    assert max(len(line) for line in lines) <= MAX_LINE + 10


def test_visible_text_stays_as_it_is(log: logging.Logger, written: io.StringIO) -> None:
    log.error("%s", "ü 李 🦊\t|")
    assert written.getvalue() == "ü 李 🦊\t|\n"


def test_a_traceback_cannot_be_forged_either(log: logging.Logger, written: io.StringIO) -> None:
    try:
        raise ValueError("\nERROR nobody said this")
    except ValueError:
        log.exception("it failed")
    lines = written.getvalue().splitlines()
    assert lines[0] == "it failed"
    assert "  | ERROR nobody said this" in lines
    assert all(line.startswith("  | ") for line in lines[1:])
