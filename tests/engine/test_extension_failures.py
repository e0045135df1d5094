"""What the engine says of a picture that failed in code of an extension, and which extensions it says are in use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from modules.engine import extensions
from modules.engine.extensions import Uses, asked_by, hangs, used, uses_path
from modules.engine.results import failed
from modules.errors import RequestError
from modules.extensions.isolation import ISOLATION, Failure, Picture, made
from modules.extensions.loading import load, unload
from modules.extensions.manifest import read_manifest
from tests.extensions.writing import SAMPLER, write_extension

BREAKS = SAMPLER.format("Zig zag") + "\ndef bad():\n    return [][1]\n"


@pytest.fixture
def zig(tmp_path: Path) -> Iterator[object]:
    """The module of an extension that is loaded."""
    import sys

    folder = write_extension(tmp_path, "zig", engine=BREAKS)
    load(read_manifest(folder), folder, "engine")
    yield sys.modules["atelier_extensions.zig.engine"]
    unload("zig", "engine")


def test_a_picture_that_fails_in_an_extension_names_it_and_is_counted(zig: SimpleNamespace) -> None:
    heard: list[Failure] = []
    end = ISOLATION.listen(heard.append)
    try:
        zig.bad()
    except IndexError as error:
        said = failed("job.0", error).data
    assert said["error"].startswith("the extension zig failed in a picture: IndexError: list index out of range; ")
    assert "bad" in said["trace"]
    assert [failure.extension for failure in heard] == ["zig"]
    assert failed("job.0", RequestError("no")).data["error"] == "no"
    assert failed("job.0", ValueError("ours")).data["error"] == "ValueError: ours"
    assert len(heard) == 1
    end()


def test_what_a_request_asks_of_is_in_use_from_its_begin_to_its_end(zig: object, tmp_path: Path) -> None:
    path = uses_path(tmp_path, 0)
    ISOLATION.show_uses(Uses(path).show)
    picture = Picture()
    asked_by(SimpleNamespace(sampler="Euler", schedule="Karras", extensions={"gone": {}}), picture)
    assert "zig" not in path.read_text().split()
    asked_by(SimpleNamespace(sampler="zig zag Karras", schedule="Automatic", extensions={}), picture)
    assert "zig" in path.read_text().split()
    assert "zig" in used(tmp_path, 0)
    assert used(tmp_path, 0) == [], "asked once"
    ISOLATION.show_uses(Uses(path).show)
    made(picture)
    assert "zig" not in used(tmp_path, 0)
    ISOLATION.show_uses(lambda names: None)


def test_one_that_does_not_come_back_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hangs() == ""
    monkeypatch.setattr(extensions.ISOLATION, "longest", lambda: ("zig", 121.0))
    assert hangs() == "zig"
    assert hangs(200) == ""
