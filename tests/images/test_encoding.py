"""Our pictures in every format: what is written is read by us, by A1111's rules, and by another library."""

from __future__ import annotations

import html
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sd_parsers import ParserManager

from modules.errors import OutputError
from modules.images.decode import decode
from modules.images.encoding import SUFFIXES, Form, Kind, encode
from modules.images.infotext import parse, render
from modules.images.metadata import xmp_packet
from modules.images.outputs import Outputs
from modules.images.reading import read_picture, user_comment
from modules.images.recipe import read_recipe, read_record
from modules.request import Img2Img, parse_request
from tests.images.conftest import make_info
from tests.images.test_decode import blocks

KINDS: list[Kind] = ["png", "jpeg", "webp", "avif"]
JOB = "0123456789abcdef0123456789abcdef"
NOON = 1_786_000_000.0
PROMPT = 'a fox & a <cat>, "猫"\non {a|b} mat 🦊'


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_holds_the_whole_record(kind: Kind, tmp_path: Path) -> None:
    info = make_info(prompt=PROMPT, negative_prompt="dog", rng="NV")
    outputs = Outputs(tmp_path, Form(kind))
    picture = blocks(64, 64)
    saved = outputs.save(picture.tobytes(), 64, 64, info, JOB, 3, NOON)
    assert saved.path.suffix == SUFFIXES[kind]
    data = saved.path.read_bytes()
    found = read_picture(data)
    assert (found.program, found.infotext, found.format) == ("Atelier", render(info), {"png": "PNG"}.get(kind, kind.upper()))
    assert saved.infotext == render(info)
    record = read_record(saved.path)
    assert (record.job, record.index, record.info) == (JOB, 3, info)
    assert parse_request(read_recipe(saved.path).fields) == info.request
    painted = np.asarray(decode(data)).astype(int)
    assert np.abs(painted - np.asarray(picture)).mean() < (0.5 if kind == "png" else 8)


@pytest.mark.parametrize("kind", ["jpeg", "webp", "avif"])
def test_the_text_stands_where_a1111_looks(kind: Kind) -> None:
    """EXIF's UserComment: UNICODE in UTF-16 big-endian, found by Pillow's own reader of EXIF."""
    text = render(make_info(prompt=PROMPT))
    with Image.open(io.BytesIO(encode(bytes(64 * 64 * 3), 64, 64, text, "", Form(kind)).data)) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be") == text


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_another_library_reads_ours(kind: Kind, tmp_path: Path) -> None:
    """sd-parsers 0.6, which sites and tools use: PNG chunks and the EXIF comment (it asks Pillow, and so never for AVIF)."""
    info = make_info(prompt="a red fox", negative_prompt="dog, cat", steps=25, cfg_scale=4.5, clip_skip=2)
    info = replace(info, extras={"Emphasis": "No norm"})
    path = Outputs(tmp_path, Form(kind)).save(blocks(64, 64).tobytes(), 64, 64, info, JOB, 0).path
    found = ParserManager().parse(path)
    assert found is not None
    (sampler,) = found.samplers
    assert (sampler.name, sampler.parameters["steps"], sampler.parameters["seed"]) == ("DPM++ 2M", "25", "7")
    assert (sampler.parameters["cfg_scale"], sampler.parameters["scheduler"]) == ("4.5", "Karras")
    assert [prompt.value for prompt in sampler.prompts] == ["a red fox"]
    assert [prompt.value for prompt in sampler.negative_prompts] == ["dog, cat"]
    assert sampler.model is not None
    assert (sampler.model.name, sampler.model.hash) == ("model", "0123456789")
    assert found.metadata["Size"] == "64x64"


@pytest.mark.parametrize("kind", KINDS)
def test_a_private_picture_says_nothing(kind: Kind, tmp_path: Path) -> None:
    info = make_info(prompt="SECRETWORD", private=True)
    outputs = Outputs(tmp_path, Form(kind))
    saved = outputs.save(blocks(64, 64).tobytes(), 64, 64, info, JOB, 0, NOON)
    data = saved.path.read_bytes()
    for secret in ("SECRETWORD", "atelier", "Atelier", "DPM", "0123456789"):
        assert secret.encode() not in data
        assert secret.encode("utf-16-be") not in data
    found = read_picture(data)
    assert (found.program, found.texts) == ("", {})
    assert "SECRETWORD" in saved.infotext  # for the job list
    assert outputs.save(blocks(64, 64).tobytes(), 64, 64, info, JOB, 0, NOON) == saved, "a replay with the same pixels"


@pytest.mark.parametrize("kind", KINDS)
def test_a_replay_finds_its_picture_whatever_the_format_was(kind: Kind, tmp_path: Path) -> None:
    info = make_info()
    saved = Outputs(tmp_path, Form(kind)).save(blocks(64, 64).tobytes(), 64, 64, info, JOB, 0, NOON)
    for today in KINDS:
        assert Outputs(tmp_path, Form(today)).find(JOB, 0, 7, NOON) == saved
    torn = saved.path.read_bytes()[:-200]
    saved.path.write_bytes(torn)
    assert Outputs(tmp_path, Form(kind)).find(JOB, 0, 7, NOON) is None
    assert Outputs(tmp_path, Form(kind)).save(blocks(64, 64).tobytes(), 64, 64, info, JOB, 0, NOON).path != saved.path
    assert saved.path.read_bytes() == torn


@pytest.mark.parametrize("prompt", ["a cat, " * 4_600, "猫" * 32_000, "<" * 16_000])
def test_what_a_jpeg_cannot_hold_becomes_a_png(prompt: str, tmp_path: Path) -> None:
    info = make_info(prompt=prompt, negative_prompt="b" * 32_000)
    saved = Outputs(tmp_path, Form("jpeg")).save(blocks(64, 64).tobytes(), 64, 64, info, JOB, 0, NOON)
    assert saved.path.suffix == ".png"
    assert read_record(saved.path).info.request == info.request
    for kind in KINDS[2:]:
        saved = Outputs(tmp_path, Form(kind)).save(blocks(64, 64).tobytes(), 64, 64, info, JOB, 1, NOON)
        assert saved.path.suffix == SUFFIXES[kind]
        assert read_record(saved.path).info.request == info.request
        assert parse(read_picture(saved.path.read_bytes()).infotext)["Prompt"] == prompt


def test_a_long_plain_text_still_fits_a_jpeg() -> None:
    """More than 32,767 characters do not fit as UTF-16; EXIF has a code for ASCII that every reader knows."""
    text = render(make_info(prompt="a" * 32_000, negative_prompt="b" * 10_000))
    encoded = encode(bytes(64 * 64 * 3), 64, 64, text, "", Form("jpeg"))
    assert encoded.suffix == ".jpg"
    assert read_picture(encoded.data).infotext == text


def test_more_pixels_than_a_format_has_become_a_png() -> None:
    assert encode(bytes(16_384 * 3), 16_384, 1, "x", "y", Form("webp")).suffix == ".png"
    assert encode(bytes(16_384 * 3), 1, 16_384, "x", "y", Form("jpeg")).suffix == ".jpg"


def test_a_named_file_is_of_the_format_that_its_name_says(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "outputs", Form("avif"))
    pixels = blocks(64, 64).tobytes()
    for suffix, begins in ((".png", b"\x89PNG"), (".jpg", b"\xff\xd8"), (".JPEG", b"\xff\xd8"), (".webp", b"RIFF")):
        saved = outputs.save_as(tmp_path / f"mine{suffix}", pixels, 64, 64, make_info())
        assert saved.path.name == f"mine{suffix}"
        assert saved.path.read_bytes().startswith(begins)
    long = make_info(prompt="猫" * 32_000)
    assert outputs.save_as(tmp_path / "long.jpg", pixels, 64, 64, long).path.name == "long.png"
    with pytest.raises(OutputError, match=r"long\.png exists and is not overwritten"):
        outputs.save_as(tmp_path / "long.jpg", pixels, 64, 64, long)


def test_quality_is_what_was_asked_for() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for kind in KINDS[1:]:
        small, large = (encode(noise.tobytes(), 64, 64, "", "", Form(kind, quality)).data for quality in (20, 95))
        assert len(small) < len(large) / 2
    assert np.array_equal(np.asarray(decode(encode(noise.tobytes(), 64, 64, "", "", Form("webp", 100)).data)), noise)


def test_the_wrong_number_of_pixels_is_refused() -> None:
    for kind in KINDS:
        with pytest.raises(ValueError, match="12288 bytes, 3 were given"):
            encode(bytes(3), 64, 64, "", "", Form(kind))


def test_the_packet_is_xml_whatever_is_in_the_record() -> None:
    from xml.etree import ElementTree

    record = '{"a":"<b>&]]>\\" 猫 </atelier:record>"}'
    packet = xmp_packet(record).decode()
    tree = ElementTree.fromstring(packet[packet.index("<x:xmpmeta") : packet.index("<?xpacket end")])
    assert [node.text for node in tree.iter() if node.tag.endswith("}record")] == [record]
    assert html.escape("<b>", quote=False) in packet


def test_a_picture_from_a_picture_keeps_its_source_in_every_format(tmp_path: Path) -> None:
    request = Img2Img(**make_info().request.model_dump(), source="5" * 64, mask="a" * 64, mask_blur_x=7)
    info = replace(make_info(), request=request)
    for kind in KINDS:
        saved = Outputs(tmp_path, Form(kind)).save(blocks(64, 64).tobytes(), 64, 64, info, JOB, KINDS.index(kind), NOON)
        assert parse_request(read_recipe(saved.path).fields) == request


def test_comments_without_a_text_are_nothing() -> None:
    for value in (b"", b"UNICODE\0", b"ASCII\0\0\0", b"UNICODE\0\xff"):
        assert user_comment(value).strip("\ufffd") == ""
