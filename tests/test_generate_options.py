"""The options of `generate`: every one is a flag, reaches the request, and pictures start from files."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from modules import cli
from modules.commands import generate
from modules.commands.starting import shaped
from modules.errors import RequestError
from modules.fields import bounds_of, kind_of
from modules.images.recipe import read_recipe
from modules.options import FROM_PICTURES, OPTIONS, Option
from modules.request import Img2Img, Txt2Img, parse_request
from tests.tiny import tiny_checkpoint

ALL = (*(option for group in OPTIONS.values() for option in group), *FROM_PICTURES)


def other(option: Option) -> Any:
    """A value that is allowed and not the default."""
    field = Img2Img.model_fields[option.name]
    if option.switch:
        return not field.default
    if option.choices:
        return next(choice for choice in option.choices if choice != field.default)
    if field.annotation is str:
        return "other"
    whole = kind_of(Img2Img, option.name) is int
    step = bounds_of(Img2Img, option.name).multiple_of
    return (int(step) * 8 if step else 3) if whole else 0.5


@pytest.mark.parametrize("option", ALL, ids=lambda option: option.name)
def test_every_option_is_a_flag(option: Option) -> None:
    value = other(option)
    given = [option.flag if value else f"--no-{option.flag[2:]}"] if option.switch else [option.flag, str(value)]
    fields = generate.given_fields(cli.parse(["generate", "a cat", *given]).values)
    assert set(fields) == {"prompt", option.name}
    source = {"source": "0" * 64} if option in FROM_PICTURES else {}
    assert getattr(parse_request({**fields, **source}), option.name) == value


def test_choices_are_those_of_the_request() -> None:
    for option in ALL:
        if option.choices:
            assert option.choices == get_args(Img2Img.model_fields[option.name].annotation), option.name


@pytest.mark.parametrize("name", Txt2Img.model_fields)
def test_every_field_says_what_it_takes(name: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse_request({name: object()})
    assert f"{name}: must be " in str(refused.value) or name in ("prompt", "checkpoint")
    assert "of its kind" not in str(refused.value) or name == "styles"


def test_a_picture_keeps_its_shape_at_the_checkpoint_s_area() -> None:
    assert shaped(512, 512, 512 * 512) == (512, 512)
    assert shaped(3000, 1000, 128 * 128) == (224, 72)
    assert shaped(8000, 10, 512 * 512) == (2048, 64), "within what a request allows"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    (folder / "models").mkdir()
    tiny_checkpoint(folder / "models" / "tiny.safetensors")
    picture = Image.linear_gradient("L").convert("RGB").resize((96, 64))
    picture.save(folder / "start.png")
    mask = Image.new("L", (96, 64))
    mask.paste(255, (48, 0, 96, 64))
    mask.save(folder / "mask.png")
    (folder / "words.txt").write_text("not a picture")
    return folder


def run(folder: Path, *arguments: str) -> int:
    before = signal.getsignal(signal.SIGTERM)
    places = [f"--{name}-dir={folder / name}" for name in ("data", "outputs", "models")]
    try:
        return cli.run(cli.parse(["generate", *arguments, *places, "--device", "cpu"]))
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a cat", "--mask-blur-x", "3"], "--mask-blur-x needs a picture to start from; add --init PICTURE"),
        (["a cat", "--strength", "0.5"], "--strength needs a picture to start from"),
        (["a cat", "--mask", "mask.png"], "--mask needs a picture to start from"),
        (["a cat", "--init", "gone.png"], "it cannot be read (No such file or directory)"),
        (["a cat", "--init", "words.txt"], "words.txt"),
        (["a cat", "--pag-scale", "lots"], "pag_scale: must be a number from 0 to 20, 'lots' was given"),
        (["a cat", "--eta", "2"], "eta: must be a number from 0 to 1"),
        (["a cat", "--rng", "TPU"], "rng: must be one of CPU, GPU, NV"),
    ],
)
def test_options_that_make_no_sense(
    folder: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert run(folder, *arguments) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_part_of_a_picture_is_painted_anew_with_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And again from the result alone, with another option over it."""
    pictures = ["--init", str(folder / "start.png"), "--mask", str(folder / "mask.png"), "--strength", "0.9"]
    words = ["a cat", "--checkpoint", "tiny", "--seed", "5", "--steps", "3", "--json"]
    assert run(folder, *words, *pictures, "--mask-blur-x", "0", "--mask-blur-y", "0", "--pag-scale", "2") == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    fields = read_recipe(Path(file)).fields
    assert (fields["width"], fields["height"], fields["pag_scale"], fields["denoising_strength"]) == (80, 64, 2.0, 0.9)
    with Image.open(file) as painted:
        made = painted.convert("RGB")
    with Image.open(folder / "start.png") as start:
        kept = start.resize(made.size)
    left, right = (0, 0, 36, 64), (44, 0, 80, 64)
    assert max(abs(a - b) for a, b in zip(made.crop(left).tobytes(), kept.crop(left).tobytes(), strict=True)) <= 6
    assert max(abs(a - b) for a, b in zip(made.crop(right).tobytes(), kept.crop(right).tobytes(), strict=True)) > 30

    assert run(folder, "--from", file, "--sag-scale", "1", "--json") == 0
    (again,) = json.loads(capsys.readouterr().out)["files"]
    later = read_recipe(Path(again)).fields
    assert {name for name in fields if later[name] != fields[name]} == {"sag_scale"}
