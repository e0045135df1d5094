"""Pictures from pictures in the engine: the same as alone, in forwards shared with everything else, and errors in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.engine.messages import Message, Submit, parse
from modules.pipelines import reference
from modules.pipelines.generate import generate
from modules.pipelines.init import tensor_of
from modules.pipelines.ops import Decode, EncodeImage, Predict, Report
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.pixels import colour
from modules.request import Img2Img, InpaintArea, parse_request
from tests.engine.conftest import Bench, named_pictures
from tests.tiny import TINY_UNET, make_checkpoint, tiny_checkpoint


def source(size: tuple[int, int] = (64, 64), mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(size[0])
    small = Image.fromarray(rng.integers(0, 255, (6, 6, len(mode)), dtype=np.uint8), mode)
    return small.resize(size, Image.Resampling.BICUBIC)


def mask(size: tuple[int, int] = (64, 64)) -> Image.Image:
    drawn = Image.new("RGB", size)
    drawn.paste((255, 255, 255), (size[0] // 4, size[1] // 4, 3 * size[0] // 4, 3 * size[1] // 4))
    return drawn


W = TypeVar("W", Predict, Decode)
WHOLE = {"source": source(), "mask": mask()}


def close(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and int(np.abs(one - other).max()) <= 1


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M SDE", "Heun", "DDIM", "UniPC", "Euler CFG++", "LCM"])
def test_pictures_from_pictures_are_the_same_as_alone_and_share_forwards(bench: Bench, sampler: str) -> None:
    """txt2img, img2img and every way of inpainting, at one latent size: the longest pipeline takes all the others along."""
    base = {"sampler": sampler, "steps": 5, "denoising_strength": 0.7}
    requests: dict[str, dict[str, Any]] = {
        "words": {"sampler": sampler, "seed": 1, "steps": 5},
        "picture": {**base, "seed": 2, "source": source()},
        "larger": {**base, "seed": 3, "source": source((150, 90)), "resize_mode": "Crop and resize"},
        "latent": {**base, "seed": 4, "source": source((48, 48)), "resize_mode": "Just resize (latent upscale)"},
        "part": {**base, "seed": 5, **WHOLE},
        "crop": {**base, "seed": 6, "source": source((150, 90)), "mask": mask((150, 90)), "inpaint_area": "Only masked"},
        "noise": {**base, "seed": 7, **WHOLE, "masked_content": "latent noise", "mask_mode": "Inpaint not masked"},
        "soft": {**base, "seed": 8, **WHOLE, "soft_inpainting": True, "mask_blur_x": 8},
        "grey": {
            **base,
            "seed": 9,
            "source": source(),
            "mask": Image.linear_gradient("L").resize((64, 64)),
            "differential": True,
        },
        "more": {**base, "seed": 10, "source": source(), "outpaint_left": 16, "noise_multiplier": 0.9, "extra_noise": 0.1},
        "coloured": {**base, "seed": 11, "source": source(mode="RGBA"), "color_correction": True, "fix_steps": True},
    }
    for name, fields in requests.items():
        bench.submit(name, user=name, **fields)
    bench.run()
    assert not bench.of("failed"), [message.data["error"] for message in bench.of("failed").values()]
    coloured = bench.pixels("coloured") - bench.alone(**requests.pop("coloured"))
    assert np.abs(coloured).mean() < 0.1, "matching histograms makes more of a level's difference"
    for name, fields in requests.items():
        assert close(bench.pixels(name), bench.alone(**fields)), name

    evaluations = bench.engine.runner.forwards
    for name, fields in requests.items():
        bench.submit("again " + name, **fields)
        bench.run()
    assert bench.engine.runner.forwards - evaluations > 3 * evaluations, "one by one takes many more"


@pytest.mark.parametrize("area", get_args(InpaintArea))
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "DDIM"])
def test_what_is_not_masked_comes_back_byte_for_byte(bench: Bench, area: str, sampler: str) -> None:
    size = (64, 64) if area == "Whole picture" else (150, 90)
    bench.submit("a", source=source(size), mask=mask(size), inpaint_area=area, sampler=sampler, mask_blur_x=2, mask_blur_y=2)
    bench.run()
    result, original = bench.pixels("a"), np.asarray(source(size)).astype(int)
    assert result.shape == original.shape
    width, height = size
    reach = int(2.5 * 2 + 0.5)
    kept = np.ones((height, width), bool)
    kept[height // 4 - reach : 3 * height // 4 + reach, width // 4 - reach : 3 * width // 4 + reach] = False
    assert (result[kept] == original[kept]).all()
    assert np.abs(result[~kept] - original[~kept]).mean() > 5, "and something was painted"


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_an_interrupted_inpainting_keeps_what_is_not_masked(bench: Bench, sampler: str) -> None:
    bench.submit("part", **WHOLE, sampler=sampler, steps=8, denoising_strength=0.9, mask_blur_x=0, mask_blur_y=0, seed=5)
    bench.engine._handle(Message("finish", {"task": "part"}))
    bench.run()
    pixels, kept = bench.pixels("part"), np.asarray(mask().convert("L")) == 0
    assert np.array_equal(pixels[kept], np.asarray(source())[kept])
    assert not np.array_equal(pixels[~kept], np.asarray(source())[~kept])
    assert "interrupted after step 1" in bench.of("done")["part"].data["facts"]["notes"]


def test_encoding_is_shared_too(bench: Bench) -> None:
    """Pictures of one size in one call: the same latents as one by one, and the bill says how many they were."""
    model = bench.manager.load("tiny")
    works = [EncodeImage(model, tensor_of(np.asarray(source((64, 64)).rotate(90 * turn)))) for turn in range(3)]
    with torch.inference_mode():
        together = bench.engine.runner.run(works)
        for work, latent in zip(works, together, strict=True):
            mean, _ = model.latent.vae.encode(work.image[None])
            assert torch.allclose(latent, mean[0] * model.latent.format.scale, atol=1e-5)
    for number in range(3):
        bench.submit(str(number), source=source(), seed=number)
    bench.run()
    calls = [call for call in bench.engine.costs.entries if call.work == "encode-image"]
    assert {(call.checkpoint, call.width, call.height) for call in calls} == {("tiny", 64, 64)}


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "PLMS", "UniPC", "DPM fast", "DPM adaptive", "Euler a", "LCM"])
def test_a_strength_of_zero_returns_the_init_image(bench: Bench, sampler: str) -> None:
    """As the autoencoder gives it back; no network is evaluated and no noise is added."""
    bench.submit("kept", source=source(), denoising_strength=0.0, sampler=sampler, steps=1, seed=4)
    bench.submit("in part", **WHOLE, denoising_strength=0.0, sampler=sampler, steps=5, seed=4)
    bench.run()
    model = bench.manager.load("tiny")
    decoded = model.latent.vae.decode(model.latent.vae.encode(tensor_of(np.asarray(source()))[None])[0])[0]
    expected = ((decoded.clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert close(bench.pixels("kept"), expected)
    assert bench.pixels("in part").shape == expected.shape
    assert bench.engine.runner.forwards == 0


def test_differential_diffusion_holds_each_grey_until_its_strength(bench: Bench) -> None:
    """The masked latent's distance from the source grows with the grey, from nothing at black."""
    shades = Image.new("L", (64, 64))
    for number, shade in enumerate((0, 60, 130, 255)):
        shades.paste(shade, (0, 16 * number, 64, 16 * number + 16))
    fields = {"source": source(), "mask": shades, "differential": True, "mask_blur_x": 0, "mask_blur_y": 0}
    bench.submit("a", **fields, steps=12, denoising_strength=1.0)
    bench.run()
    moved = np.abs(bench.pixels("a") - np.asarray(source()).astype(int)).mean(axis=(1, 2)).reshape(4, 16).mean(axis=1)
    assert moved[0] == 0
    assert moved[1] < moved[2] < moved[3]


def test_soft_inpainting_opens_the_mask_as_the_noise_falls(bench: Bench) -> None:
    for name, preservation in (("little", 0.0), ("much", 8.0)):
        grey = Image.new("L", (64, 64), 128)
        bench.submit(name, source=source(), mask=grey, soft_inpainting=True, soft_preservation=preservation, steps=8)
    bench.run()
    little, much = (np.abs(bench.pixels(name) - np.asarray(source())).mean() for name in ("little", "much"))
    assert much < little


def test_an_empty_mask_is_told(bench: Bench) -> None:
    bench.submit("a", source=source(), mask=Image.new("L", (64, 64)))
    bench.submit("b", source=source())
    bench.run()
    assert "mask was empty" in bench.of("done")["a"].data["facts"]["notes"]
    assert close(bench.pixels("a"), bench.pixels("b"))
    assert set(bench.of("done")["b"].data["extras"]) == {"Init image hash"}


def test_a_box_beside_the_mask_fails_in_words_and_nobody_else_pays(bench: Bench) -> None:
    bench.submit("bad", **WHOLE, inpaint_area="Only masked", box=(0, 0, 4, 4), mask_blur_x=0, mask_blur_y=0)
    bench.submit("good", source=source())
    bench.run()
    assert "nothing inside it is masked" in bench.of("failed")["bad"].data["error"]
    assert not bench.of("failed")["bad"].data["trace"]
    assert "good" in bench.of("done")


def test_a_message_that_lacks_its_pictures_fails_alone(bench: Bench) -> None:
    whole = Submit.of("a", "u", bench.request(source="0" * 64), {"init": source()}).message()
    bench.engine._handle(Message("submit", whole.data, whole.blob[:-5]))
    bench.engine._handle(Message("submit", {**whole.data, "task": "b", "pictures": {}}))
    bench.submit("good", source=source())
    bench.run()
    assert set(bench.of("failed")) == {"a", "b"}
    assert set(bench.of("done")) == {"good"}


def test_pictures_travel_raw_and_by_role() -> None:
    pictures = {"init": source((7, 5)), "mask": source((3, 9), "RGBA"), "control:0": Image.linear_gradient("L").resize((4, 4))}
    back = parse(Submit.of("a", "u", {}, pictures).message())
    assert isinstance(back, Submit)
    assert [(role, picture.mode, picture.size, picture.tobytes()) for role, picture in back.images().items()] == [
        (role, picture.mode, picture.size, picture.tobytes()) for role, picture in pictures.items()
    ]


@pytest.fixture
def family(tmp_path: Path) -> Bench:
    """Checkpoints with 4, 9 and 8 input channels."""
    tiny_checkpoint(tmp_path / "tiny.safetensors")
    for name, channels in (("inpaint", 9), ("edit", 8)):
        shape = TINY_UNET.__class__(**{**vars(TINY_UNET), "in_channels": channels})
        make_checkpoint(tmp_path / f"{name}.safetensors", unet=shape)
    return Bench(ModelManager([tmp_path], torch.device("cpu"), torch.float32, sdpa, tmp_path / "hashes.json", keep=3))


def test_an_inpainting_model_paints_from_words_from_pictures_and_within_masks_together(family: Bench) -> None:
    requests: dict[str, dict[str, Any]] = {
        "words": {"seed": 1},
        "picture": {"seed": 2, "source": source()},
        "part": {"seed": 3, **WHOLE},
        "half shown": {"seed": 3, **WHOLE, "conditioning_mask_strength": 0.5},
        "latent": {"seed": 4, "source": source((48, 48)), "resize_mode": "Just resize (latent upscale)"},
    }
    for name, fields in requests.items():
        family.submit(name, checkpoint="inpaint", **fields)
    family.run()
    for name, fields in requests.items():
        assert close(family.pixels(name), family.alone(checkpoint="inpaint", **fields)), name
    assert not close(family.pixels("part"), family.pixels("half shown"))
    assert family.of("done")["part"].data["extras"]["Conditional mask weight"] == "1"
    assert family.engine.runner.forwards < 8, "three steps, shared by all five"


def test_from_words_an_inpainting_model_repaints_all_of_a_grey_picture(family: Bench) -> None:
    family.submit("a", checkpoint="inpaint")
    family.run(until=lambda: any(isinstance(task.op, Predict) for task in family.engine.tasks.values()))
    work = family.engine.tasks["a"].op
    assert isinstance(work, Predict)
    handle = work.model
    with torch.inference_mode():
        grey = handle.latent.vae.encode(torch.zeros(1, 3, 64, 64))[0][0] * handle.latent.format.scale
    for row in work.rows:
        channels = row.conditioning.channels
        assert channels is not None
        assert (channels[0] == 1).all()
        assert torch.allclose(channels[1:], grey)


def test_an_editing_model_wants_a_picture_and_says_so(family: Bench) -> None:
    """Guidance by the picture too takes a third row, with the words of the negative prompt and no picture."""
    fields: dict[str, Any] = {"checkpoint": "edit", "source": source()}
    plain, latent = first_rows(family, **fields, image_cfg_scale=1.0)
    guided, _ = first_rows(family, **fields, image_cfg_scale=2.0)
    assert (len(plain.rows), len(guided.rows)) == (2, 3)
    shown = [row.conditioning.channels for row in guided.rows]
    assert sorted(bool(channels.any()) for channels in shown if channels is not None) == [False, True, True]
    unscaled = latent / guided.model.latent.format.scale
    assert all(torch.allclose(channels, unscaled) for channels in shown if channels is not None and channels.any())

    family.submit("words", checkpoint="edit")
    family.submit("picture", **fields, image_cfg_scale=2.0)
    family.submit("plain", **fields, image_cfg_scale=1.0)
    family.run()
    assert "give it a picture" in family.of("failed")["words"].data["error"]
    assert close(family.pixels("picture"), family.alone(**fields, image_cfg_scale=2.0))
    assert not close(family.pixels("picture"), family.pixels("plain"))


def asked(bench: Bench, kind: type[W], **fields: Any) -> W:
    """The first op of a kind that a pipeline yields."""
    fields, pictures = named_pictures(fields)
    request = parse_request(bench.request(**fields))
    assert isinstance(request, Img2Img)
    pipeline = generate(stages_of(request), pictures)
    with torch.inference_mode():
        work = next(pipeline)
        while not isinstance(work, kind):
            work = pipeline.send(reference._answer(work, bench.manager))
    pipeline.close()
    return work


def first_rows(bench: Bench, **fields: Any) -> tuple[Predict, torch.Tensor]:
    """What the network is first asked for, and the source's latent (the mean of the autoencoder's Gaussian)."""
    work = asked(bench, Predict, **fields)
    with torch.inference_mode():
        pixels = torch.tensor(np.asarray(fields["source"])).permute(2, 0, 1)[None] / 127.5 - 1
        latent = work.model.latent.vae.encode(pixels)[0][0] * work.model.latent.format.scale
    return work, latent


@pytest.mark.parametrize("sampler", ["DDIM", "PLMS", "UniPC"])
def test_the_kept_part_is_put_back_into_the_last_latent(bench: Bench, sampler: str) -> None:
    """Runs on timesteps end with noise in it."""
    fields = {**WHOLE, "sampler": sampler, "mask_blur_x": 0, "mask_blur_y": 0}
    decoded = asked(bench, Decode, **fields)
    _, latent = first_rows(bench, **fields)
    outside = torch.ones(4, 8, 8, dtype=torch.bool)
    outside[:, 2:6, 2:6] = False
    assert torch.allclose(decoded.latent[outside], latent[outside], atol=1e-5)
    assert not torch.allclose(decoded.latent[~outside], latent[~outside], atol=0.1)


NOISE = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("multiplier", "extra"), [(1.0, 0.0), (0.8, 0.3)])
def test_a_run_begins_with_the_source_and_the_seeds_noise(bench: Bench, multiplier: float, extra: float) -> None:
    """k-diffusion: x = latent + noise * sigma, with what A1111's two noise options make of it."""
    fields = {"source": source(), "sampler": "Euler", "schedule": "Karras", "steps": 20, "denoising_strength": 0.75}
    work, latent = first_rows(bench, **fields, noise_multiplier=multiplier, extra_noise=extra)
    sigma = work.rows[0].sigma
    ramp = torch.linspace(0, 1, 20)[4]
    low, high = 0.0291675 ** (1 / 7), 14.6146412 ** (1 / 7)
    assert sigma == pytest.approx(float((high + ramp * (low - high)) ** 7), rel=1e-4)
    assert torch.allclose(work.rows[0].x, latent + NOISE * multiplier * (sigma + extra), atol=1e-4)


def test_a_run_on_timesteps_begins_one_level_lower_than_its_noise(bench: Bench) -> None:
    """A1111's DDIM at 20 steps and 0.75: noised to timestep 751, first asked at 701, extra noise in its own scale."""
    fields = {"source": source(), "sampler": "DDIM", "steps": 20, "denoising_strength": 0.75, "extra_noise": 0.2}
    work, latent = first_rows(bench, **fields)
    alphas = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    y = alphas[751].sqrt() * latent + (1 - alphas[751]).sqrt() * NOISE + NOISE * 0.2 * alphas[751].sqrt()
    assert work.rows[0].sigma == pytest.approx(float(((1 - alphas[701]) / alphas[701]).sqrt()), rel=1e-5)
    assert torch.allclose(work.rows[0].x, (y / alphas[701].sqrt()).float(), atol=1e-4)


@pytest.mark.parametrize("content", ["latent noise", "latent nothing"])
def test_masked_content_of_the_latent_itself(bench: Bench, content: str) -> None:
    fields = {**WHOLE, "mask_blur_x": 0, "mask_blur_y": 0, "sampler": "Euler", "masked_content": content}
    work, _ = first_rows(bench, **fields)
    sigma = work.rows[0].sigma
    inside = (slice(None), slice(2, 6), slice(2, 6))
    expected = NOISE * (sigma + 1) if content == "latent noise" else NOISE * sigma
    assert torch.allclose(work.rows[0].x[inside], expected[inside], atol=1e-4)


def test_colour_correction_is_done_to_what_was_painted(bench: Bench) -> None:
    for name, corrects in (("plain", False), ("corrected", True)):
        bench.submit(name, source=source(), color_correction=corrects)
    bench.run()
    plain = bench.pixels("plain").astype(np.uint8)
    assert close(bench.pixels("corrected"), colour.color_correct(plain, np.asarray(source())).astype(int))
    assert not close(bench.pixels("corrected"), bench.pixels("plain"))


@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_previews_show_the_source_where_it_is_kept(bench: Bench, sampler: str) -> None:
    """Also with samplers on timesteps, whose solver sees the noise of x there."""
    fields, pictures = named_pictures({**WHOLE, "sampler": sampler, "steps": 6, "mask_blur_x": 0, "mask_blur_y": 0})
    request = parse_request(bench.request(**fields))
    assert isinstance(request, Img2Img)
    reports: list[Report] = []
    run_reference(generate(stages_of(request), pictures), bench.manager, reports.append)
    _, latent = first_rows(bench, **WHOLE, sampler=sampler)
    outside = torch.ones(4, 8, 8, dtype=torch.bool)
    outside[:, 2:6, 2:6] = False
    assert len(reports) >= 3
    for report in reports:
        assert torch.allclose(report.denoised[outside], latent[outside], atol=1e-4)
        assert not torch.allclose(report.denoised[~outside], latent[~outside], atol=1e-1)


@pytest.mark.parametrize(
    ("steps", "exact", "evaluations"),
    [
        (30, False, 31),
        (28, False, 29),
        (20, False, 20),
        (15, False, 16),
        (6, False, 7),
        (60, False, 63),
        (30, True, 30),
        (6, True, 6),
    ],
)
def test_unipc_evaluates_the_network_as_often_as_a1111(bench: Bench, steps: int, exact: bool, evaluations: int) -> None:
    """A1111 makes ceil(1000 / (1000 // steps)) steps; exact steps are as many as asked for."""
    asked = 0

    def counting(pipeline: Any) -> Any:
        nonlocal asked
        answer = None
        while True:
            try:
                work = pipeline.send(answer)
            except StopIteration as end:
                return end.value
            asked += isinstance(work, Predict)
            answer = yield work

    request = parse_request(bench.request(sampler="UniPC", steps=steps, exact_steps=exact))
    painted = run_reference(counting(generate(stages_of(request))), bench.manager)
    assert asked == evaluations
    assert painted.pixels.shape == (64, 64, 3)
