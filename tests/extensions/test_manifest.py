"""Manifests: what is taken, and what is said of one that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from modules import __version__
from modules.errors import ExtensionError
from modules.extensions.manifest import MAX_BYTES, parse_manifest, read_manifest

WHOLE = """
name = "glow"
title = "Glow"
version = "1.2.0"
description = "Light."
atelier = ">=0.1"
python = ["pillow>=10"]
web = "web"
engine = "engine"
on_failure = "fail"
"""


def test_a_whole_manifest_is_read() -> None:
    read = parse_manifest(WHOLE.encode())
    assert (read.name, read.title, read.version, read.description) == ("glow", "Glow", "1.2.0", "Light.")
    assert (read.python, read.halves, read.on_failure, read.misfit()) == (("pillow>=10",), ("web", "engine"), "fail", "")


def test_what_may_be_left_out_has_defaults() -> None:
    read = parse_manifest(b'name = "my_glow"\nversion = "1"\nengine = "engine"')
    assert (read.title, read.halves, read.module("engine"), read.on_failure) == ("My glow", ("engine",), "engine", "without")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('name = "Glow"', "name = 'Glow'; it must be lower-case"),
        ('name = "../up"', "lower-case"),
        ("name = 5", "name = 5; it must be a text"),
        ('version = "new"', "a version such as 1.0.0"),
        ('atelier = "newest"', "versions of Atelier"),
        ('python = "pillow"', "a list"),
        ('python = ["pillow >> 3"]', 'requirements such as "pillow>=10"'),
        ('python = ["x @ https://example.org/x.whl"]', "addresses are not taken"),
        ('web = "../web"', "the name of a module"),
        ('web = "os.path"', "the name of a module"),
        ('on_failure = "ignore"', '"without" or "fail"'),
        ('engin = "engine"', "unknown key 'engin'; did you mean 'engine'?"),
        ('title = "two\\nlines"', "one line"),
        ('description = "\\u202eback"', "can be seen"),
        ('description = "' + "a" * 501 + '"', "501 characters; 500 is the most"),
        ("this is no TOML", "not valid TOML"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(line: str, says: str) -> None:
    key = line.partition(" =")[0]
    kept = [each for each in WHOLE.strip().splitlines() if not each.startswith(f"{key} =")]
    with pytest.raises(ExtensionError) as caught:
        parse_manifest("\n".join([*kept, line]).encode())
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('version = "1"\nweb = "web"', "does not say its name"),
        ('name = "a"\nversion = "1"', "names no half"),
        ("a = " + "[" * 20000, "not valid TOML"),
        ("#" * (MAX_BYTES + 1), "larger than 64 KiB"),
    ],
)
def test_a_manifest_that_lacks_something_or_is_too_large(text: str, says: str) -> None:
    with pytest.raises(ExtensionError, match=says):
        parse_manifest(text.encode())


def test_a_version_of_ours_that_does_not_fit_is_said() -> None:
    text = 'name = "a"\nversion = "1"\nweb = "web"\natelier = ">=99"'
    assert parse_manifest(text.encode()).misfit().startswith(f"it is for Atelier >=99, and this is {__version__}")


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(ExtensionError, match=r"it has no extension\.toml"):
        read_manifest(tmp_path)
