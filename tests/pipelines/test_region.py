"""What the network sees of a picture, and that what comes back leaves everything else as it was, byte for byte."""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from modules.errors import RequestError
from modules.pipelines.preprocessing import prepared
from modules.pipelines.region import OVERLAP, Region, region_of
from modules.pixels.regions import Box
from modules.request import Img2Img, InpaintArea, MaskedContent

NATIVE = (64, 64)


def request(**fields: Any) -> Img2Img:
    return Img2Img(**{"source": "0" * 64, "mask": "1" * 64, "seed": 1, "width": 64, "height": 64, **fields})


def picture(width: int = 150, height: int = 100, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width)
    small = Image.fromarray(rng.integers(0, 255, (10, 10, len(mode)), dtype=np.uint8), mode)
    return small.resize((width, height), Image.Resampling.BICUBIC)


def drawn(
    box: tuple[int, int, int, int] = (60, 30, 90, 55), size: tuple[int, int] = (150, 100), shade: int = 255
) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(shade, box)
    return mask


def region_for(asked: Img2Img, source: Image.Image | None = None, mask: Image.Image | None = None) -> Region:
    return region_of(asked, source or picture(), mask, NATIVE, 8)


def painted(region: Region, shade: int = 77) -> np.ndarray:
    return np.full((region.size[1], region.size[0], 3), shade, np.uint8)


@pytest.mark.parametrize("blur", [0, 4, 20])
@pytest.mark.parametrize("area", get_args(InpaintArea))
def test_outside_the_blurred_mask_every_byte_stays(area: str, blur: int) -> None:
    """How far a blur reaches is A1111's kernel: int(2.5 blur + 0.5) pixels."""
    source = picture()
    asked = request(inpaint_area=area, mask_blur_x=blur, mask_blur_y=blur, width=152, height=104)
    if area == "Whole picture":
        source = picture(152, 104)
    region = region_for(asked, source, drawn(size=source.size))
    result = region.returned(painted(region))
    reach = int(2.5 * blur + 0.5)
    may_change = np.asarray(drawn((60 - reach, 30 - reach, 90 + reach, 55 + reach), source.size)) > 0
    original = np.asarray(source)
    assert result.shape == original.shape
    assert (result[~may_change] == original[~may_change]).all()
    centre = (slice(38, 46), slice(72, 78))
    assert (result[centre] != original[centre]).any(axis=2).all()
    if blur == 0 and area != "Crop and stitch":  # which moves colours to meet the surroundings
        assert (result[centre] == 77).all()


def test_soft_inpainting_keeps_it_too() -> None:
    region = region_for(request(soft_inpainting=True, width=152, height=104), picture(152, 104), drawn(size=(152, 104)))
    everything = np.full((104, 152), 255, np.uint8)
    result = region.returned(painted(region), everything)
    untouched = np.ones((104, 152), bool)
    untouched[30 - 11 : 55 + 11, 60 - 11 : 90 + 11] = False
    assert (result[untouched] == np.asarray(picture(152, 104))[untouched]).all()
    assert (result[40, 70] == 77).all()


def test_the_whole_picture_is_the_requests_size() -> None:
    region = region_for(request(width=96, height=64, resize_mode="Crop and resize"), None, drawn())
    assert region.size == (96, 64)
    assert region.mask is not None
    assert region.mask.shape == (64, 96)
    assert region.returned(painted(region)).shape == (64, 96, 3)


def test_only_masked_looks_at_a_crop_with_the_requests_aspect_ratio() -> None:
    """Box 60..90 x 30..55, blur 0, padding 10: 50..100 x 20..65; as wide as high: 50 x 50."""
    asked = request(inpaint_area="Only masked", mask_blur_x=0, mask_blur_y=0, masked_padding=10)
    region = region_for(asked, None, drawn())
    assert region.box == Box(50, 18, 100, 68)
    assert region.size == (64, 64)
    crop = picture().crop((50, 18, 100, 68)).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.abs(region.picture.astype(int) - np.asarray(crop)).max() <= 1


def test_blur_comes_before_the_crop_and_widens_it() -> None:
    asked = request(inpaint_area="Only masked", mask_blur_x=4, mask_blur_y=0, masked_padding=0, width=128, height=64)
    region = region_for(asked, None, drawn())
    assert region.box is not None
    assert (region.box.left, region.box.right) == (60 - 10, 90 + 10)


def test_a_drawn_box_is_the_crop() -> None:
    fields = {"inpaint_area": "Only masked", "mask_blur_x": 0, "mask_blur_y": 0}
    region = region_for(request(**fields, box=(40, 10, 60, 60)), None, drawn())
    assert region.box == Box(40, 10, 100, 70)
    half = region_for(request(**fields, box=(70, 20, 40, 40)), None, drawn())
    result = half.returned(painted(half))
    assert (result[30:55, 60:70] == np.asarray(picture())[30:55, 60:70]).all(), "masked, but outside the box"
    assert (result[35:50, 72:88] == 77).all()
    beyond = region_for(request(**fields, box=(70, 20, 4000, 4000)), None, drawn())
    assert beyond.box is not None
    assert (beyond.box.right, beyond.box.bottom) == (150, 100)


@pytest.mark.parametrize(
    ("box", "words"), [((0, 0, 20, 20), "nothing inside it is masked"), ((500, 10, 20, 20), "outside the picture")]
)
def test_a_box_that_leaves_nothing_to_paint_is_refused(box: tuple[int, int, int, int], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        region_for(request(inpaint_area="Only masked", box=box), None, drawn())


def test_crop_and_stitch_works_at_the_models_own_resolution_with_context() -> None:
    region = region_of(
        request(inpaint_area="Crop and stitch"), picture(600, 400), drawn((200, 100, 260, 140), (600, 400)), (128, 128), 8
    )
    assert region.box is not None
    assert region.box.width >= 0.6 * 600
    assert abs(region.size[0] * region.size[1] - 128 * 128) < 0.2 * 128 * 128
    assert region.size[0] % 8 == region.size[1] % 8 == 0
    aspect = region.box.width / region.box.height
    assert region.size[0] / region.size[1] == pytest.approx(aspect, rel=0.1)


@pytest.mark.parametrize("empty", [drawn(shade=0), drawn((0, 0, 150, 100))])
def test_an_empty_mask_paints_the_whole_picture_and_says_so(empty: Image.Image) -> None:
    mode = "Inpaint not masked" if np.asarray(empty).any() else "Inpaint masked"
    region = region_for(request(mask_mode=mode, inpaint_area="Only masked"), None, empty)
    assert (region.mask, region.blend, region.size) == (None, None, (64, 64))
    assert "mask was empty" in region.notes[0]
    assert (region.returned(painted(region)) == 77).all()


def test_not_masked_turns_the_mask_over() -> None:
    fields = {"mask_blur_x": 0, "mask_blur_y": 0, "width": 152, "height": 104}
    region = region_for(request(**fields, mask_mode="Inpaint not masked"), picture(152, 104), drawn(size=(152, 104)))
    result = region.returned(painted(region))
    assert (result[30:55, 60:90] == np.asarray(picture(152, 104))[30:55, 60:90]).all()
    assert (result[:30] == 77).all()


def test_masks_come_as_alpha_as_grey_and_in_another_size() -> None:
    alpha = Image.new("RGBA", (150, 100), (255, 255, 255, 0))
    alpha.paste((0, 0, 0, 255), (60, 30, 90, 55))
    plain = {"mask_blur_x": 0, "mask_blur_y": 0, "width": 152, "height": 104}
    by_alpha, by_grey = (region_for(request(**plain), None, mask) for mask in (alpha, drawn()))
    assert (by_alpha.mask == by_grey.mask).all()
    small = region_for(request(**plain), None, drawn((30, 15, 45, 28), (75, 50)))
    assert small.mask is not None
    assert by_grey.mask is not None
    assert (small.mask.astype(int) - by_grey.mask > 128).mean() < 0.01


@pytest.mark.parametrize("content", get_args(MaskedContent))
def test_masked_content_changes_what_is_masked_alone(content: str) -> None:
    asked = request(masked_content=content, mask_blur_x=0, mask_blur_y=0, width=152, height=104)
    region = region_for(asked, picture(152, 104), drawn(size=(152, 104)))
    inside = np.asarray(drawn(size=(152, 104))) > 0
    original = np.asarray(picture(152, 104))
    assert (region.picture[~inside] == original[~inside]).all()
    assert (region.picture[inside] == original[inside]).all() == (content == "original")
    assert (region.whole == original).all()


def test_the_picture_grows_on_all_sides_at_once() -> None:
    sides = {"outpaint_left": 8, "outpaint_right": 16, "outpaint_up": 24, "outpaint_down": 32}
    asked = request(mask=None, **sides, inpaint_area="Only masked", mask_blur_x=0, mask_blur_y=0, masked_padding=0)
    region = region_for(asked, picture(100, 60), None)
    result = region.returned(painted(region))
    assert result.shape == (60 + 56, 100 + 24, 3)
    inner = (slice(24 + OVERLAP, 24 + 60 - OVERLAP), slice(8 + OVERLAP, 8 + 100 - OVERLAP))
    old = np.asarray(picture(100, 60))[OVERLAP:-OVERLAP, OVERLAP:-OVERLAP]
    assert (result[inner] == old).all()
    assert all((part == 77).all() for part in (result[:24], result[-32:], result[:, :8], result[:, -16:]))
    assert not (region.whole[:24] == 0).all(), "the new area begins with the picture's colours"


def test_a_box_moves_with_the_picture_that_grows() -> None:
    asked = request(outpaint_left=40, outpaint_up=8, box=(0, 0, 30, 30), inpaint_area="Only masked", width=64, height=64)
    region = region_for(asked, None, drawn((0, 0, 30, 30)))
    assert region.box == Box(40, 8, 70, 38)


def test_transparency_is_laid_on_white_and_the_digest_is_of_the_pixels() -> None:
    clear = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
    region = region_for(request(mask=None), prepared(request(mask=None), {"init": clear})["init"])
    assert (region.picture == 255).all()
    assert region.digest == hashlib.md5(bytes([255]) * (64 * 64 * 3)).hexdigest()


@pytest.mark.parametrize(
    ("mode", "size"),
    [
        ("Just resize", (64, 96)),
        ("Crop and resize", (64, 96)),
        ("Resize and fill", (64, 96)),
        ("Just resize (latent upscale)", (152, 104)),
    ],
)
def test_resize_modes(mode: str, size: tuple[int, int]) -> None:
    region = region_for(request(mask=None, resize_mode=mode, width=64, height=96), picture(151, 102))
    assert region.size == size
    masked = region_for(request(resize_mode=mode, width=64, height=96), picture(151, 102), drawn(size=(151, 102)))
    assert masked.size == (64, 96), "with a mask pixels are what is blended, so latent upscale just resizes"


def test_a_huge_source_is_shrunk_before_a_latent_upscale() -> None:
    region = region_for(request(mask=None, resize_mode="Just resize (latent upscale)"), picture(5000, 1000))
    assert region.size == (2048, 408)


def test_grey_counts_at_the_end_where_it_counts_as_strength() -> None:
    """With differential diffusion a dark grey was painted with little strength: blending it as well would halve it twice."""
    fields = {"mask_blur_x": 0, "mask_blur_y": 0, "width": 152, "height": 104}
    grey = drawn(size=(152, 104), shade=40)
    usual, differential = (region_for(request(**fields, differential=on), picture(152, 104), grey) for on in (False, True))
    assert usual.blend is not None
    assert differential.blend is not None
    assert (usual.blend[40, 70], differential.blend[40, 70]) == (80, 255)


def test_the_seam_is_measured_where_the_mask_ends() -> None:
    asked = request(mask_blur_x=0, mask_blur_y=0, width=152, height=104)
    region = region_for(asked, picture(152, 104), drawn(size=(152, 104)))
    bad, good = region.seam(region.returned(painted(region, 255))), region.seam(region.whole)
    assert bad is not None
    assert good is not None
    assert bad > 3 * good
    assert region_for(request(mask=None)).seam(region.whole) is None
