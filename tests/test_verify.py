"""`verify`: what is missing or changed is named, what can be made again is compared, and nothing is ever touched."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from modules.app import App
from modules.commands import verify
from modules.errors import RequestError
from modules.images import png
from modules.jobs.worker import engine_configuration
from modules.settings import Settings
from tests.local import LocalLink
from tests.tiny import tiny_checkpoint

SMALL: dict[str, Any] = {"prompt": "a cat", "seed": 7, "steps": 2, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of an App in which three pictures were made."""
    folder = tmp_path_factory.mktemp("verify")
    (folder / "models").mkdir()
    tiny_checkpoint(folder / "models" / "tiny.safetensors")
    settings = Settings(data_dir=folder / "data", models_dirs=(folder / "models",), outputs_dir=folder / "outputs")
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    *_, last = app.events(app.submit({**SMALL, "count": 3}, "me").id, "me")
    assert last.state == "done"
    app.close()
    return settings


def run(settings: Settings, render: str | None = None) -> int:
    return verify.run(argparse.Namespace(render=render), settings)


def pictures(settings: Settings) -> list[Path]:
    return sorted(settings.outputs_dir.rglob("*.png"))


def snapshot(settings: Settings) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(settings.outputs_dir.rglob("*")) if path.is_file()}


def test_all_is_as_recorded(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(settings)
    assert run(settings) == 0
    assert capsys.readouterr().out == "3 pictures in the job list: 3 as recorded\n"
    assert snapshot(settings) == before


def test_it_runs_beside_a_server(settings: Settings) -> None:
    app = App(settings, LocalLink(engine_configuration(settings)))
    assert run(settings) == 0
    app.close()


def test_what_is_missing_or_changed_is_named_and_left_alone(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, _ = pictures(settings)
    kept = first.read_bytes(), second.read_bytes()
    try:
        first.unlink()
        second.write_bytes(kept[1][:-20] + b"x" * 20)
        assert run(settings) == 1
        said = capsys.readouterr().out.splitlines()
        assert said == [
            f"missing: {first}",
            f"changed: {second}",
            "3 pictures in the job list: 1 as recorded, 1 changed, 1 missing",
        ]
        assert not first.exists()
    finally:
        first.write_bytes(kept[0])
        second.write_bytes(kept[1])


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine in this process: the same pixels, sooner."""

    def local(settings: Settings, **options: Any) -> App:
        return App(settings, LocalLink(engine_configuration(settings)), **options)

    monkeypatch.setattr(verify, "App", local)


@pytest.mark.usefixtures("in_process")
def test_pictures_are_made_again_from_their_own_metadata(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    *_, second, third = pictures(settings)
    kept, before = third.read_bytes(), snapshot(settings)
    found = png.read_texts(third)
    with Image.open(third) as image:
        pixels = bytearray(image.convert("RGB").tobytes())
        width, height = image.size
    pixels[100] ^= 0x80
    try:
        third.write_bytes(png.encode(bytes(pixels), width, height, dict(found.texts)))
        assert run(settings, render="2") == 1
        said = capsys.readouterr().out.splitlines()
        assert said[-2].startswith("differs because its pixels were changed, or")
        assert said[-2].endswith(f"(128/255 at most): {third}")
        assert said[-1] in (f"identical: {second}", f"within tolerance (1/255 at most): {second}")
    finally:
        third.write_bytes(kept)
    assert snapshot(settings) == before, "what is made again goes elsewhere"


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_lossy_pictures_are_compared_by_what_their_format_leaves(
    settings: Settings, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(settings, data_dir=tmp_path / "data", outputs_dir=tmp_path / "outputs", output_format=kind)
    app = App(settings, LocalLink(engine_configuration(settings)))
    app.start()
    for fields in (SMALL, {**SMALL, "private": True}):
        *_, last = app.events(app.submit(fields, "me").id, "me")
        assert last.state == "done"
    app.close()
    made, private = sorted(settings.outputs_dir.rglob("*.*"), key=lambda path: path.stat().st_mtime_ns)
    assert run(settings, render="2") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 pictures in the job list: 2 as recorded"
    assert said[1] == f"not compared, because it does not say how it was made: {private}"
    assert said[2].endswith(f": {made}")
    assert said[2].startswith(("identical", "within tolerance", f"alike, but for what {kind} loses"))


@pytest.mark.usefixtures("in_process")
def test_another_checkpoint_of_the_same_name_is_found_out(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_checkpoint(tmp_path / "tiny.safetensors", seed=5)
    assert run(Settings(data_dir=settings.data_dir, models_dirs=(tmp_path,), outputs_dir=settings.outputs_dir), render="1") == 1
    assert "differs because its checkpoint had the hash" in capsys.readouterr().out


@pytest.mark.usefixtures("in_process")
def test_a_checkpoint_that_is_gone_is_reported(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = Settings(data_dir=settings.data_dir, models_dirs=(tmp_path,), outputs_dir=settings.outputs_dir)
    assert run(empty, render="1") == 1
    assert "differs because it cannot be made here" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["0", "-1", "many", "1.5", "²"])
def test_a_number_that_is_none_is_refused(settings: Settings, given: str) -> None:
    with pytest.raises(RequestError, match="is not understood; write how many"):
        run(settings, render=given)


def test_no_job_list_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"there is no job list at \S+jobs\.sqlite; name the folder"):
        run(Settings(data_dir=tmp_path, outputs_dir=tmp_path))
