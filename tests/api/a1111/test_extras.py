"""Upscaling by filters and by upscalers' files, reading pictures' texts, and what is not built."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.testclient import TestClient

from modules.app import App
from tests.api.a1111.conftest import SMALL, as_text, detail, opened, png

TEXT = "a cat\nNegative prompt: rain\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768, Model: x"


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return as_text(buffer.getvalue())


def single(api: TestClient, image: str, **fields: Any) -> Any:
    answer = api.post("/sdapi/v1/extra-single-image", json={"image": image, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(("upscaler", "kind"), [("Lanczos", Image.Resampling.LANCZOS), ("Nearest", Image.Resampling.NEAREST)])
def test_pictures_grow_by_a_factor(api: TestClient, upscaler: str, kind: Image.Resampling) -> None:
    source = noise(40, 24)
    body = single(api, file_of(source), upscaling_resize=2, upscaler_1=upscaler)
    assert np.array_equal(np.asarray(opened(body["image"])), np.asarray(source.resize((80, 48), kind)))
    assert body["html_info"] == f"<p>Postprocess upscale by: 2, Postprocess upscaler: {upscaler}</p>"


def test_sizes_come_out_as_multiples_of_eight(api: TestClient) -> None:
    """A1111: the filter first, then Lanczos down to what divides by 8."""
    source = noise(35, 21)
    made = opened(single(api, file_of(source), upscaling_resize=1.5, upscaler_1="Nearest")["image"])
    assert made.size == (48, 24)
    expected = source.resize((52, 31), Image.Resampling.NEAREST).resize((48, 24), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(made), np.asarray(expected))


def test_pictures_grow_to_a_size(api: TestClient) -> None:
    source = file_of(noise(32, 16))
    fields: dict[str, Any] = {"resize_mode": 1, "upscaling_resize_w": 64, "upscaling_resize_h": 64, "upscaler_1": "Lanczos"}
    cropped = single(api, source, **fields)
    assert opened(cropped["image"]).size == (64, 64)
    assert "Postprocess crop to: 64x64" in cropped["html_info"]
    whole = opened(single(api, source, **fields, upscaling_crop=False)["image"])
    assert whole.size == (128, 64)
    assert np.array_equal(np.asarray(opened(cropped["image"])), np.asarray(whole)[:, 32:96])


def test_two_upscalers_are_blended(api: TestClient) -> None:
    source = noise(16, 16)
    fields: dict[str, Any] = {"upscaler_1": "Lanczos", "upscaler_2": "Nearest", "extras_upscaler_2_visibility": 0.25}
    made = opened(single(api, file_of(source), **fields)["image"])
    first, second = (source.resize((32, 32), kind) for kind in (Image.Resampling.LANCZOS, Image.Resampling.NEAREST))
    assert np.array_equal(np.asarray(made), np.asarray(Image.blend(first, second, 0.25)))


def test_none_leaves_the_picture_and_all_keep_its_text(api: TestClient) -> None:
    source, info = noise(24, 24), PngInfo()
    info.add_text("parameters", TEXT)
    same = opened(single(api, file_of(source, pnginfo=info))["image"])
    assert np.array_equal(np.asarray(same), np.asarray(source))
    assert same.info["parameters"] == TEXT
    grown = opened(single(api, file_of(source, pnginfo=info), upscaler_1="Lanczos")["image"])
    assert grown.info["parameters"] == TEXT
    assert grown.info["postprocessing"] == grown.info["extras"] == "Postprocess upscale by: 2, Postprocess upscaler: Lanczos"


def test_transparency_stays(api: TestClient) -> None:
    assert opened(single(api, as_text(png((8, 8), (1, 2, 3, 90), "RGBA")), upscaler_1="Nearest")["image"]).mode == "RGBA"


def test_a_batch_is_each_of_them(api: TestClient) -> None:
    images = [file_of(noise(16, 16, seed)) for seed in range(2)]
    pictures = [{"data": image, "name": f"{index}.png"} for index, image in enumerate(images)]
    answer = api.post("/sdapi/v1/extra-batch-images", json={"imageList": pictures, "upscaler_1": "Lanczos"}).json()
    assert answer["images"] == [single(api, image, upscaler_1="Lanczos")["image"] for image in images]
    assert "Lanczos" in answer["html_info"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"upscaler_1": "SwinIR"},
            "upscaler_1: upscaler 'SwinIR' is not here; known are None, Lanczos, Nearest, RealESRGAN_x4",
        ),
        ({"upscaler_1": "Lanczos", "upscaler_2": "<b>"}, "upscaler_2"),
        ({"gfpgan_visibility": 0.5}, "face restoration is not built yet"),
        ({"codeformer_visibility": 1}, "face restoration is not built yet"),
        ({"upscaler_1": "Lanczos", "upscaling_resize": 9}, "upscaling_resize"),
        ({"upscaler_1": "Lanczos", "upscaling_resize": 0}, "upscaling_resize"),
        (
            {"upscaler_1": "Lanczos", "resize_mode": 1, "upscaling_resize_w": 8192, "upscaling_resize_h": 8192},
            "at most 8192",
        ),
        ({"resize_mode": 2}, "resize_mode"),
        ({"image": ""}, "image: there is no picture"),
        ({"image": "https://example.org/x.png"}, "not fetched from addresses"),
        ({"image": as_text(b"hello")}, "is not a picture that is read here"),
    ],
)
def test_what_cannot_be_done_is_refused(api: TestClient, fields: dict[str, Any], words: str) -> None:
    assert words in detail(api.post("/sdapi/v1/extra-single-image", json={"image": as_text(png()), **fields}))


def test_a_batch_names_the_picture_that_is_none(api: TestClient) -> None:
    pictures = [{"data": as_text(png())}, {"data": "?"}]
    assert "imageList.1: this is not base64" in detail(api.post("/sdapi/v1/extra-batch-images", json={"imageList": pictures}))
    assert "imageList: is needed" in detail(api.post("/sdapi/v1/extra-batch-images", json={}))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_png_info_reads_what_other_programs_wrote(api: TestClient, kind: str) -> None:
    options: dict[str, Any] = {}
    if kind == "PNG":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("parameters", TEXT)
        options["pnginfo"].add_text("Title", "mine")
    else:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + TEXT.encode("utf-16-be")
        options["exif"] = exif
    answer = api.post("/sdapi/v1/png-info", json={"image": file_of(noise(16, 16), kind, **options)})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["info"] == TEXT
    assert (body["parameters"]["Prompt"], body["parameters"]["Negative prompt"]) == ("a cat", "rain")
    assert (body["parameters"]["Size-1"], body["parameters"]["Seed"], body["parameters"]["Clip skip"]) == ("512", "1", "1")
    assert kind != "PNG" or body["items"]["Title"] == "mine"


def test_png_info_of_what_was_painted_here(api: TestClient) -> None:
    image = api.post("/sdapi/v1/txt2img", json=SMALL).json()["images"][0]
    body = api.post("/sdapi/v1/png-info", json={"image": "data:image/png;base64," + image}).json()
    assert body["info"] == opened(image).info["parameters"]
    assert body["parameters"]["Seed"] == "5"


def test_png_info_of_a_picture_that_says_nothing(api: TestClient) -> None:
    body = api.post("/sdapi/v1/png-info", json={"image": as_text(png())}).json()
    assert (body["info"], body["parameters"]["Prompt"]) == ("", "")
    assert "image: is needed" in detail(api.post("/sdapi/v1/png-info", json={}))


def test_interrogate_says_that_it_is_not_built(api: TestClient) -> None:
    assert "no model here that describes" in detail(api.post("/sdapi/v1/interrogate", json={"image": as_text(png())}))


def test_results_are_sent_in_the_format_of_the_options(api: TestClient) -> None:
    api.post("/sdapi/v1/options", json={"samples_format": "webp", "webp_lossless": True})
    source = noise(16, 16)
    made = opened(single(api, file_of(source))["image"])
    api.post("/sdapi/v1/options", json={"samples_format": "png", "webp_lossless": False})
    assert made.format == "WEBP"
    assert np.array_equal(np.asarray(made), np.asarray(source))


def test_a_private_picture_says_nothing_in_any_format(api: TestClient) -> None:
    for kind in ("png", "jpg"):
        answer = api.post(
            "/sdapi/v1/txt2img", json={**SMALL, "override_settings": {"enable_pnginfo": False, "samples_format": kind}}
        )
        [image] = answer.json()["images"]
        assert b"a cat" not in base64.b64decode(image)
        assert b"a cat".decode().encode("utf-16-be") not in base64.b64decode(image)
        assert api.post("/sdapi/v1/png-info", json={"image": image}).json()["info"] == ""


def test_an_upscaler_s_file_enlarges_as_a_job(api: TestClient, painting: App) -> None:
    """Twice as large by the network, with what the picture said, and in the caller's list as any picture."""
    info = PngInfo()
    info.add_text("parameters", TEXT)
    before = len(painting.jobs("local", 200))
    body = single(api, file_of(noise(40, 32), pnginfo=info), upscaling_resize=2, upscaler_1="sharp 2x")
    made = opened(body["image"])
    said = "Postprocess upscale by: 2, Postprocess upscaler: Sharp 2x"
    assert made.size == (80, 64)
    assert (made.info["parameters"], made.info["postprocessing"], made.info["extras"]) == (TEXT, said, said)
    assert body["html_info"] == f"<p>{said}</p>"
    job = painting.jobs("local", 1)[0]
    assert len(painting.jobs("local", 200)) == before + 1
    assert np.array_equal(np.asarray(Image.open(job.pictures[0].path)), np.asarray(made))
    assert job.pictures[0].infotext == f"{TEXT}, {said}"


def test_two_upscalers_may_be_a_file_and_a_filter(api: TestClient) -> None:
    source = file_of(noise(32, 32))
    by_file = opened(single(api, source, upscaler_1="R-ESRGAN 4x+", upscaling_resize=4)["image"])
    fields = {"upscaler_1": "R-ESRGAN 4x+", "upscaler_2": "Lanczos", "upscaling_resize": 4}
    mixed = opened(single(api, source, **fields, extras_upscaler_2_visibility=0.5)["image"])
    lanczos = noise(32, 32).resize((128, 128), Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(mixed), np.asarray(Image.blend(by_file, lanczos, 0.5)))
    alone = opened(single(api, source, **fields, extras_upscaler_2_visibility=0)["image"])
    assert np.array_equal(np.asarray(alone), np.asarray(by_file))


def test_many_pictures_by_a_file_come_back_in_their_order(api: TestClient) -> None:
    pictures = [{"data": file_of(noise(24, 16, seed)), "name": f"{seed}.png"} for seed in range(3)]
    body = {"imageList": pictures, "upscaler_1": "Sharp 2x", "resize_mode": 1}
    body |= {"upscaling_resize_w": 40, "upscaling_resize_h": 32}
    answer = api.post("/sdapi/v1/extra-batch-images", json=body)
    assert answer.status_code == 200, answer.text
    made = [opened(text) for text in answer.json()["images"]]
    assert [image.size for image in made] == [(40, 32)] * 3
    alone = opened(single(api, pictures[1]["data"], **{k: v for k, v in body.items() if k != "imageList"})["image"])
    assert np.array_equal(np.asarray(made[1]), np.asarray(alone))


def test_of_a_refused_batch_no_job_stays(api: TestClient, painting: App, monkeypatch: pytest.MonkeyPatch) -> None:
    submit, cancel, begun, cancelled = painting.submit, painting.cancel, [], []

    def submitting(*about: Any) -> Any:
        job = submit(*about)
        begun.append(job.id)
        return job

    def cancelling(job: str, user: str) -> bool:
        cancelled.append(job)
        return cancel(job, user)

    monkeypatch.setattr(painting, "submit", submitting)
    monkeypatch.setattr(painting, "cancel", cancelling)
    pictures = [{"data": file_of(noise(16, 16)), "name": "a.png"}, {"data": "bm90IGEgcGljdHVyZQ==", "name": "b.png"}]
    answer = api.post("/sdapi/v1/extra-batch-images", json={"imageList": pictures, "upscaler_1": "Sharp 2x"})
    assert "imageList.1" in detail(answer)
    assert len(begun) == 1
    assert cancelled == begun


def test_a_second_pass_takes_an_upscaler_s_file(api: TestClient) -> None:
    body = {**SMALL, "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "R-ESRGAN 4x+", "denoising_strength": 0.4}
    answer = api.post("/sdapi/v1/txt2img", json=body)
    assert answer.status_code == 200, answer.text
    made = opened(answer.json()["images"][0])
    assert made.size == (96, 96)
    assert "Hires upscale: 1.5, Hires upscaler: RealESRGAN_x4plus" in made.info["parameters"]
    again = api.post("/sdapi/v1/txt2img", json={"infotext": made.info["parameters"]})
    assert opened(again.json()["images"][0]).size == (96, 96)
    said = detail(api.post("/sdapi/v1/txt2img", json={**body, "hr_upscaler": "SwinIR"}))
    assert said.startswith("hr_upscaler: 'SwinIR' is not here; known are Latent, ")
    assert said.endswith("Nearest, RealESRGAN_x4plus, Sharp 2x")
