"""Pictures as weapons: bombs of pixels and of text, rare formats, odd but honest files (S22-S24)."""

from __future__ import annotations

import base64
import zlib

import pytest
from PIL import Image

from tests.security import pictures
from tests.security.instance import RunningInstance, Visitor
from tests.security.raw import Reply

GROWTH = 50 << 20
"""Bytes by which the web process may have grown after a bomb."""


def routes_for(visitor: Visitor, data: bytes) -> dict[str, Reply]:
    """What every route that takes a picture says to this one."""
    kind = [("Content-Type", "image/png")]
    text = base64.b64encode(data).decode()
    painting = {"width": 64, "height": 64, "steps": 1, "send_images": False}
    return {
        "sources": visitor.ask("/internal/sources", "POST", kind, body=data),
        "read": visitor.ask("/internal/read", "POST", kind, body=data),
        "api sources": visitor.ask("/api/v1/sources", "POST", kind, body=data),
        "png-info": visitor.post("/sdapi/v1/png-info", {"image": text}),
        "img2img": visitor.post("/sdapi/v1/img2img", {**painting, "init_images": [text]}),
        "mask": visitor.post(
            "/sdapi/v1/img2img",
            {**painting, "init_images": [base64.b64encode(pictures.png(64, 64)).decode()], "mask": text},
        ),
        "extras": visitor.post("/sdapi/v1/extra-single-image", {"image": text, "upscaling_resize": 1}),
    }


BOMBS = {
    "9400 squared": lambda: pictures.flat_png(9400, 9400),
    "13300 squared": lambda: pictures.flat_png(13300, 13300),
    "long and thin": lambda: pictures.flat_png(100_000, 10),
    "claims 2^31": lambda: pictures.bare_png(2**31 - 1, 2**31 - 1),
    "claims nothing": lambda: pictures.bare_png(0, 0),
    "8193 wide": lambda: pictures.flat_png(8193, 64),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_s22_more_pixels_than_anybody_needs(instance: RunningInstance, browser: Visitor, bomb: str) -> None:
    data = BOMBS[bomb]()
    before = instance.memory()
    for route, reply in routes_for(browser, data).items():
        assert reply.status in (413, 422), (route, reply.status, reply.text[:200])
    assert instance.memory() - before < GROWTH


def test_s22_a_film_is_one_picture_or_refused(instance: RunningInstance, browser: Visitor) -> None:
    data, before = pictures.many_frames(10_000), instance.memory()
    for route in ("/internal/sources", "/internal/read", "/api/v1/sources"):
        assert browser.ask(route, "POST", [("Content-Type", "image/png")], body=data).status in (200, 201, 413, 422)
    assert instance.memory() - before < GROWTH


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_s22_honest_pictures_of_all_kinds_are_taken(browser: Visitor, mode: str) -> None:
    image = Image.new("I;16", (64, 48), 30_000) if mode == "I;16" else Image.new("RGB", (64, 48), (9, 99, 200)).convert(mode)
    reply = browser.ask("/internal/sources", "POST", [("Content-Type", "image/png")], body=pictures.encoded(image, "PNG"))
    assert reply.status == 201, reply.text
    assert (reply.json()["width"], reply.json()["height"]) == (64, 48)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "CMYK"), ("JPEG", "L"), ("WEBP", "RGBA"), ("AVIF", "RGB")])
def test_s22_honest_files_of_the_other_formats_too(browser: Visitor, kind: str, mode: str) -> None:
    data = pictures.encoded(Image.new(mode, (64, 48)), kind)
    reply = browser.ask("/internal/sources", "POST", [("Content-Type", f"image/{kind.lower()}")], body=data)
    assert reply.status == 201, reply.text


@pytest.mark.parametrize(
    "make",
    [
        lambda: pictures.text_bomb(b"zTXt", 63),
        lambda: pictures.text_bomb(b"iTXt", 63),
        lambda: pictures.text_bomb(b"iCCP", 63),
        lambda: pictures.text_bomb(b"zTXt", 2, mebibytes=64),
        lambda: pictures.long_text(10),
    ],
    ids=["zTXt", "iTXt", "iCCP", "two of 64 MiB", "10 MiB in the open"],
)
def test_s23_texts_that_swell(instance: RunningInstance, browser: Visitor, make) -> None:  # type: ignore[no-untyped-def]
    data, before = make(), instance.memory()
    for route, reply in routes_for(browser, data).items():
        assert reply.status < 500, (route, reply.text[:200])
        assert len(reply.body) < 4 << 20, route
    assert instance.memory() - before < GROWTH


def test_s23_a_directory_that_leads_to_itself(browser: Visitor) -> None:
    for route, reply in routes_for(browser, pictures.exif_loop()).items():
        assert reply.status < 500, (route, reply.text[:200])


def test_s23_compressed_rows_that_never_end(instance: RunningInstance, browser: Visitor) -> None:
    """1 GiB of zeros in 1 MiB of data, for a picture of 64 pixels."""
    packer, before = zlib.compressobj(9), instance.memory()
    rows = b"".join([packer.compress(bytes(1 << 20)) for _ in range(1024)] + [packer.flush()])
    data = pictures.bare_png(8, 8, rows=rows)
    for route in ("/internal/sources", "/internal/read"):
        assert browser.ask(route, "POST", [("Content-Type", "image/png")], body=data).status in (200, 201, 413, 422)
    assert instance.memory() - before < GROWTH


RARE = {
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "PSD": b"8BPS\0\x01" + b"\0" * 6 + b"\0\x03\0\0\x10\0\0\0\x10\0\0\x08\0\x03" + b"\0" * 64,
    "PDF": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\n" + b" " * 100,
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(x) print\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
    "PPM": b"P6 4 4 255\n" + b"\0" * 48,
    "ZIP": b"PK\x03\x04" + b"\0" * 60,
    "nothing": b"",
    "text": b"hello, I am a picture",
}


@pytest.mark.parametrize("kind", [*RARE, "DDS", "ICO", "TIFF", "BMP", "GIF", "JPEG2000", "TGA", "PCX"])
def test_s24_rare_formats_are_refused_whatever_they_call_themselves(browser: Visitor, kind: str) -> None:
    data = RARE[kind] if kind in RARE else pictures.encoded(Image.new("RGB", (16, 16), (1, 2, 3)), kind)
    for route, reply in routes_for(browser, data).items():
        if route == "mask" and not data:  # an empty text is no mask, as in A1111
            continue
        assert reply.status in (404, 413, 415, 422), (route, reply.status, reply.text[:200])
