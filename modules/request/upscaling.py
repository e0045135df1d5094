"""The request for a picture at another size: A1111's Extras, without any painting."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from modules.fields import About
from modules.request.hires import UpscalerName
from modules.request.kinds import MAX_SOURCE_PIXELS, MAX_SOURCE_SIDE, Integer, Real, SourceId, SourceText
from modules.request.requests import Txt2Img
from modules.roles import Role, allow_role_fields, by_role, needs_init

MAX_FACTOR = 8.0
PASSES = 3
"""How often an upscaler is applied at most until its result is large enough; Lanczos does the rest (A1111)."""
MOST_PIXELS = 2 * MAX_SOURCE_PIXELS
"""Of what a pass makes: a larger picture is first brought to the size of which it makes just what is asked for."""
Scaled = Annotated[Integer, Field(ge=0, le=MAX_SOURCE_SIDE)]


class Upscaling(Txt2Img):
    """The picture of the role "init", enlarged by `upscaler_1`, and mixed with what `upscaler_2` makes of it by
    `upscaler_2_visibility`.

    It becomes `upscale_by` times as large or, with `width` and `height`, as large as covers them; `crop` cuts off what stands
    over.  Sides are multiples of 8 unless cropped, as in A1111.  Upscalers are named as `checkpoints.upscalers` lists them.
    `source_text` is what the source's file says of how it was made, which the new file keeps.

    It is a request like any other for queue and records; nothing of what only painting needs may be given, and none is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=allow_role_fields)

    pictures: Annotated[dict[Role, SourceId], AfterValidator(needs_init)]
    upscaler_1: Annotated[UpscalerName, About("Upscaler 1", "by which the picture is enlarged", a1111="upscaler_1")]
    upscaler_2: Annotated[UpscalerName, About("Upscaler 2", "whose result is mixed in", a1111="upscaler_2")] = "None"
    upscaler_2_visibility: Annotated[
        Real,
        Field(ge=0.0, le=1.0),
        About("Upscaler 2 visibility", "how much of it, 0 to 1", a1111="extras_upscaler_2_visibility"),
    ] = 0.0
    upscale_by: Annotated[Real, Field(gt=0.0, le=MAX_FACTOR), About("Scale by", "up to 8", a1111="upscaling_resize")] = 2.0
    width: Annotated[Scaled, About("Scale to width", "pixels; 0 scales by the factor", a1111="upscaling_resize_w")] = 0
    height: Annotated[Scaled, About("Scale to height", "pixels; 0 scales by the factor", a1111="upscaling_resize_h")] = 0
    crop: Annotated[
        bool, About("Crop to fit", "cut off what stands over width and height", a1111="upscaling_crop", needs=("width",))
    ] = True
    source_text: SourceText = ""
    count: Annotated[Integer, Field(ge=1, le=1)] = 1

    @model_validator(mode="before")
    @classmethod
    def _nothing_of_painting(cls, fields: Any) -> Any:
        fields = by_role(fields)
        if isinstance(fields, dict) and (strange := next((name for name in fields if name not in OWN_FIELDS), None)):
            raise ValueError(f"{str(strange)[:60]}: there is no such field of a picture that is only enlarged")
        return fields

    @model_validator(mode="after")
    def _one_or_both_sides(self) -> Upscaling:
        if bool(self.width) != bool(self.height):
            raise ValueError("width, height: give both, or neither to scale by a factor")
        if self.pictures.keys() != {"init"}:
            raise ValueError("pictures.mask: a picture is enlarged as a whole; leave the mask out")
        return self

    @model_validator(mode="after")
    def _affordable(self) -> Upscaling:
        """How large it becomes follows from its source: `check_size`."""
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Its own fields alone."""
        fields: dict[str, Any] = dump(self)
        return {name: value for name, value in fields.items() if name in OWN_FIELDS}

    @property
    def source(self) -> str:
        """The id of the picture."""
        return self.pictures["init"]

    @property
    def upscalers(self) -> tuple[str, ...]:
        """Those whose results are used."""
        if self.upscaler_1 == "None":
            return ()
        second = self.upscaler_2 != "None" and self.upscaler_2_visibility > 0
        return (self.upscaler_1, self.upscaler_2) if second else (self.upscaler_1,)

    @property
    def cropped_to(self) -> tuple[int, int] | None:
        """The size (width, height) that the result is cut to, None for no cut."""
        return (self.width, self.height) if self.upscalers and self.width and self.crop else None

    def said(self) -> dict[str, str]:
        """The items of A1111's text about it (`scripts/postprocessing_upscale.py`, v1.10.1)."""
        if not self.upscalers:
            return {}
        size = f"{self.width}x{self.height}"
        said = {"Postprocess upscale to": size} if self.width else {"Postprocess upscale by": f"{self.upscale_by:g}"}
        said["Postprocess upscaler"] = self.upscaler_1
        if len(self.upscalers) > 1:
            said["Postprocess upscaler 2"] = self.upscaler_2
        return said | ({"Postprocess crop to": size} if self.cropped_to else {})

    def factor(self, source: tuple[int, int]) -> float:
        """How many times as large a picture of `source` (width, height) becomes."""
        if self.upscaler_1 == "None":
            return 1.0
        return max(self.width / source[0], self.height / source[1]) if self.width else self.upscale_by

    def check_size(self, source: tuple[int, int]) -> None:
        """Refuse a result that would be too large.

        Raises:
            ValueError: it would; how large may be asked for.
        """
        exact, _ = sizes(source, self.factor(source))
        if max(exact) > MAX_SOURCE_SIDE or exact[0] * exact[1] > MAX_SOURCE_PIXELS:
            raise ValueError(
                f"the picture would have {exact[0]}x{exact[1]} pixels; at most {MAX_SOURCE_SIDE} a side and "
                f"{MAX_SOURCE_PIXELS:,} in all are made; ask for less"
            )


OWN_FIELDS = (
    *("pictures", "upscaler_1", "upscaler_2", "upscaler_2_visibility", "upscale_by", "width", "height", "crop"),
    *("source_text", "private", "seed", "count"),
)
"""What such a request may say."""


def sizes(source: tuple[int, int], factor: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size that a filter makes of `source` (width, height), and the next lower multiple of 8, which comes out: A1111's
    (`upscaler.Upscaler.upscale`, v1.10.1).

    >>> sizes((30, 22), 1.5)
    ((45, 33), (40, 32))
    """
    exact = max(1, int(source[0] * factor)), max(1, int(source[1] * factor))
    return exact, (max(8, exact[0] // 8 * 8), max(8, exact[1] // 8 * 8))


def passes(source: tuple[int, int], wanted: tuple[int, int], scale: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The sizes (width, height) after and before each pass of a network that enlarges by `scale`, until its result covers
    `wanted`.  One that does not enlarge is applied once.

    >>> passes((100, 50), (300, 150), 2)
    [((200, 100), (100, 50)), ((400, 200), (200, 100))]
    """
    planned: list[tuple[tuple[int, int], tuple[int, int]]] = []
    size = source
    for _ in range(PASSES if scale > 1 else 1):
        if (planned or scale > 1) and size[0] >= wanted[0] and size[1] >= wanted[1]:
            break
        before = size
        if math.prod(size) * scale**2 > MOST_PIXELS:
            before = min(size[0], max(1, math.ceil(wanted[0] / scale))), min(size[1], max(1, math.ceil(wanted[1] / scale)))
        size = before[0] * scale, before[1] * scale
        planned.append((size, before))
    return planned
