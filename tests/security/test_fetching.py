"""Nothing is fetched for anybody: addresses in the place of pictures, and what libraries would do by themselves (S5, S39)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.security.instance import Listener, RunningInstance, Visitor


def spellings(port: int) -> list[str]:
    return [
        *(f"http://127.0.0.1:{port}/x.png", f"https://127.0.0.1:{port}/x.png", f"http://[::1]:{port}/x.png"),
        *(f"http://localhost:{port}/x.png", f"http://2130706433:{port}/x.png", f"http://0x7f000001:{port}/x.png"),
        *(f"http://user@127.0.0.1:{port}/x.png", f"http://example.com@127.0.0.1:{port}/", f"http://0.0.0.0:{port}/x.png"),
        *(f"HTTP://127.0.0.1:{port}/x.png", f"//127.0.0.1:{port}/x.png", f"ftp://127.0.0.1:{port}/x.png", f"127.0.0.1:{port}"),
        *("file:///etc/passwd", "file://localhost/etc/passwd", "data:text/plain,hello", f"gopher://127.0.0.1:{port}/_x"),
        f"data:image/png;base64,http://127.0.0.1:{port}/",
    ]


@pytest.mark.parametrize(
    "field", ["init_images", "mask", "png-info", "extras", "batch", "interrogate", "controlnet", "source", "sources", "read"]
)
def test_s5_an_address_is_no_picture(browser: Visitor, field: str) -> None:
    listener = Listener()
    try:
        for address in spellings(listener.port):
            reply = sent(browser, field, address)
            assert reply.status in (400, 404, 415, 422), (field, address, reply.status, reply.text[:200])
            assert "root:x:0" not in reply.text
        assert listener.hits == browser.instance.outside.hits == 0
    finally:
        listener.close()


def sent(browser: Visitor, field: str, address: str):  # type: ignore[no-untyped-def]
    painting = {"prompt": "x", "width": 64, "height": 64, "steps": 1}
    dot = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    if field in ("sources", "read"):
        return browser.ask(f"/internal/{field}", "POST", [("Content-Type", "image/png")], body=address.encode())
    requests = {
        "init_images": ("/sdapi/v1/img2img", {**painting, "init_images": [address]}),
        "mask": ("/sdapi/v1/img2img", {**painting, "init_images": [dot], "mask": address}),
        "png-info": ("/sdapi/v1/png-info", {"image": address}),
        "extras": ("/sdapi/v1/extra-single-image", {"image": address, "upscaling_resize": 2}),
        "batch": ("/sdapi/v1/extra-batch-images", {"imageList": [{"data": address, "name": "x.png"}]}),
        "interrogate": ("/sdapi/v1/interrogate", {"image": address, "model": "clip"}),
        "controlnet": ("/controlnet/detect", {"controlnet_input_images": [address], "controlnet_module": "canny"}),
        "source": ("/internal/jobs", {**painting, "source": address}),
    }
    return browser.post(*requests[field])


def test_s5_gradio_relays_nothing(browser: Visitor) -> None:
    listener = Listener()
    try:
        for address in spellings(listener.port):
            for route in ("/gradio_api/file=", "/file=", "/gradio_api/proxy=", "/proxy=", "/gradio_api/file/"):
                reply = browser.ask((route + address).encode())
                assert reply.status in (400, 403, 404, 405), (route, address, reply.status)
        for config_value in (
            {"url": f"http://127.0.0.1:{listener.port}/x.png", "path": "x.png", "meta": {"_type": "gradio.FileData"}},
        ):
            for call in browser.ask("/config").json()["dependencies"]:
                data = [config_value] * len(call["inputs"])
                browser.post("/gradio_api/queue/join", {"data": data, "fn_index": call["id"], "session_hash": "s5"})
        assert listener.hits == browser.instance.outside.hits == 0
    finally:
        listener.close()


def test_s5_gradio_cannot_download(tmp_path: Path) -> None:
    """What fetches for its callbacks is replaced, by the name under which Gradio calls it."""
    from gradio import processing_utils

    from modules.ui.gradio import gr

    assert gr.__version__
    with pytest.raises(ValueError, match="not fetched"):
        asyncio.run(processing_utils.async_ssrf_protected_download("https://example.com/x.png", str(tmp_path)))


def test_s39_the_program_itself_asks_nobody(instance: RunningInstance, browser: Visitor) -> None:
    """All of its proxies lead to our listener, so whatever fetches by itself - fonts, telemetry, models - would show."""
    assert browser.ask("/", headers=[("Accept", "text/html")]).status == 200
    assert instance.outside.hits == 0
    page = browser.ask("/", headers=[("Accept", "text/html")]).text
    for tag in ('src="http', "src='http", 'src="//', 'rel="preconnect"', 'rel="dns-prefetch"'):
        assert tag not in page, tag
