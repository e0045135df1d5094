"""A picture at another size by a filter, and what A1111's Extras makes of the results of one or two upscalers."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

FILTERS = {"Lanczos": Image.Resampling.LANCZOS, "Nearest": Image.Resampling.NEAREST}
"""A1111's upscalers that know pixels alone."""


def by_filter(image: Image.Image, upscaler: str, exact: tuple[int, int], final: tuple[int, int]) -> Image.Image:
    """`image` at the `exact` size (width, height) by the filter of this name, then by Lanczos at the `final` one."""
    made = image.resize(exact, FILTERS[upscaler])
    return made if exact == final else made.resize(final, Image.Resampling.LANCZOS)


def put_together(results: Sequence[Image.Image], share: float, crop: tuple[int, int] | None) -> Image.Image:
    """The first result, with the second one mixed in by `share` where there are two, and `crop` (width, height) of its middle.

    What the picture does not cover of that is black, as where A1111 pastes it.
    """
    image = results[0] if len(results) == 1 else Image.blend(results[0], results[1], share)
    if crop is None:
        return image
    cropped = Image.new(image.mode, crop)
    cropped.paste(image, (crop[0] // 2 - image.width // 2, crop[1] // 2 - image.height // 2))
    return cropped
