"""What may be asked of the tools: a validated, JSON-stable class for each.  No torch: page and command line share it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from modules.errors import RequestError
from modules.model_tools.blocks import check_weights
from modules.model_tools.origins import parse_source

NumberFormat = Literal["keep", "fp32", "fp16", "bf16"]
MAX_LORAS = 32
"""LoRAs in one merge or bake."""
MAX_RANK = 4096
MAX_NAME = 1000
MAX_OUTPUT = 150
"""Characters of a new file's name, without its ending."""

Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Strength = Annotated[float, Field(ge=-4.0, le=4.0, allow_inf_nan=False)]
"""What a LoRA's change is multiplied by."""

_RESERVED = re.compile(r"(?i)(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")


def checked_output(name: str) -> str:
    """The name of a new model file, without its ending.

    Raises:
        ValueError: it is no name of a file in one folder that every system can keep.
    """
    name = name.strip().removesuffix(".safetensors").strip()
    if not name or len(name) > MAX_OUTPUT or len(name.encode()) > 240:
        raise ValueError(f"must be the name of a new file, of 1 to {MAX_OUTPUT} characters")
    if re.search(r'[\\/:*?"<>|]', name) or not name.isprintable():
        raise ValueError(r"must be a file's name without folders and without any of \ / : * ? " + '" < > |')
    if name.startswith(".") or name.endswith(".") or _RESERVED.fullmatch(name):
        raise ValueError("must not begin or end with a dot, nor be a name that Windows keeps for devices")
    return name


class ToolRequest(BaseModel):
    """What all tools share.  Names mean files as in the lists of `places.Places`, never paths."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: ClassVar[str]
    tool: str
    replace: bool = False
    """Whether a file that has the new name is replaced."""

    def sources(self) -> Iterator[tuple[str, str, str]]:
        """(field, kind, name) of each file that is read; kinds are "checkpoint", "lora", "vae" and "pickle"."""
        raise NotImplementedError


class _Writes(ToolRequest):
    """A tool that makes a file of a given name."""

    output: Annotated[str, Field(max_length=MAX_NAME)]

    @field_validator("output")
    @classmethod
    def _output(cls, value: str) -> str:
        return checked_output(value)


class MergeCheckpoints(_Writes):
    """Weighted sum A (1 - M) + B M, or add difference A + (B - C) M, with M by block of the U-Net where that is asked."""

    title: ClassVar[str] = "Merge checkpoints"
    tool: Literal["merge"] = "merge"
    a: Name
    b: Name
    c: Annotated[str, Field(max_length=MAX_NAME)] = ""
    method: Literal["weighted", "difference"] = "weighted"
    multiplier: Annotated[float, Field(ge=-2.0, le=3.0, allow_inf_nan=False)] = 0.5
    blocks: Annotated[str, Field(max_length=2000)] = ""
    """M by block: as many numbers as the model has blocks (BASE, IN.., M00, OUT..) with commas between them, or NAME=M for
    some, the others being `multiplier`."""
    parts: Literal["all", "unet", "text"] = "all"
    """What is merged; everything else is A's."""
    vae: Annotated[str, Field(max_length=MAX_NAME)] = "a"
    """"a" or "b" for that checkpoint's autoencoder, "merge" for both merged, or the name of a VAE file."""
    dtype: NumberFormat = "keep"

    @field_validator("blocks")
    @classmethod
    def _blocks(cls, value: str) -> str:
        check_weights(value)
        return value

    @model_validator(mode="after")
    def _third(self) -> MergeCheckpoints:
        if self.method == "difference" and not self.c:
            raise ValueError("add difference needs a third checkpoint: c is subtracted from b")
        if self.method == "weighted" and self.c:
            raise ValueError("a weighted sum takes two checkpoints; leave c empty, or choose the method difference")
        return self

    def sources(self) -> Iterator[tuple[str, str, str]]:
        yield "a", "checkpoint", self.a
        yield "b", "checkpoint", self.b
        if self.c:
            yield "c", "checkpoint", self.c
        if self.vae not in ("a", "b", "merge"):
            yield "vae", "vae", self.vae


class LoraSource(BaseModel):
    """One of several LoRAs: `strength` for the U-Net, `text_strength` for text encoders (the same unless given)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    strength: Strength = 1.0
    text_strength: Strength | None = None

    def for_part(self, part: str) -> float:
        return self.strength if part == "unet" or self.text_strength is None else self.text_strength


Loras = Annotated[tuple[LoraSource, ...], Field(min_length=1, max_length=MAX_LORAS)]


class BakeLoras(_Writes):
    """A checkpoint with LoRAs added to its weights."""

    title: ClassVar[str] = "Bake LoRAs into a checkpoint"
    tool: Literal["bake"] = "bake"
    checkpoint: Name
    loras: Loras
    dtype: NumberFormat = "keep"

    def sources(self) -> Iterator[tuple[str, str, str]]:
        yield "checkpoint", "checkpoint", self.checkpoint
        for number, lora in enumerate(self.loras):
            yield f"loras.{number}", "lora", lora.name


class ExtractLora(_Writes):
    """The difference of two checkpoints as a LoRA: `tuned` minus `base`, cut to a rank by singular values."""

    title: ClassVar[str] = "Extract a LoRA"
    tool: Literal["extract"] = "extract"
    base: Name
    tuned: Name
    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] = 32
    conv_rank: Annotated[int, Field(ge=0, le=MAX_RANK)] = 0
    """Rank of convolutions larger than 1x1; 0 leaves them out."""
    alpha: Annotated[float, Field(ge=0.0, le=MAX_RANK, allow_inf_nan=False)] = 0.0
    """Written as alpha for a layer of full `rank`; 0 is the rank itself, as most files have it."""
    clamp: Annotated[float, Field(gt=0.5, le=1.0, allow_inf_nan=False)] = 1.0
    """Quantile of the factors' numbers at which they are clamped; 1 does not clamp, kohya's scripts take 0.99."""
    text: bool = True
    """Whether text encoders are extracted too."""
    rest: bool = False
    """Whether what has no low rank (biases, norms, first and last layers, time embedding) is kept as full differences."""
    dtype: NumberFormat = "fp16"

    def sources(self) -> Iterator[tuple[str, str, str]]:
        yield "base", "checkpoint", self.base
        yield "tuned", "checkpoint", self.tuned


class MergeLoras(_Writes):
    """Several LoRAs as one: by concatenation, which is exact, or cut to a rank by singular values."""

    title: ClassVar[str] = "Merge LoRAs"
    tool: Literal["merge-loras"] = "merge-loras"
    loras: Loras
    method: Literal["concat", "svd"] = "concat"
    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] = 32
    conv_rank: Annotated[int, Field(ge=0, le=MAX_RANK)] = 0
    """With svd, the rank of convolutions larger than 1x1; 0 is `rank`."""
    checkpoint: Annotated[str, Field(max_length=MAX_NAME)] = ""
    """The checkpoint that they are for; needed for kinds whose change depends on the layer's weights or its shape."""
    dtype: NumberFormat = "fp16"

    def sources(self) -> Iterator[tuple[str, str, str]]:
        for number, lora in enumerate(self.loras):
            yield f"loras.{number}", "lora", lora.name
        if self.checkpoint:
            yield "checkpoint", "checkpoint", self.checkpoint


class ConvertPickle(ToolRequest):
    """A pickle (.ckpt, .pt, .bin, .pth) or a folder in diffusers' layout as a .safetensors file of its name beside it."""

    title: ClassVar[str] = "Convert a pickle"
    tool: Literal["convert"] = "convert"
    file: Name

    def sources(self) -> Iterator[tuple[str, str, str]]:
        yield "file", "pickle", self.file


class GetModel(ToolRequest):
    """A model from a Hugging Face repository or a direct link, into the models folders.

    Of a repository that has several files, `file` says which ("model_index.json" is its whole diffusers pipeline).
    """

    title: ClassVar[str] = "Get a model"
    tool: Literal["get"] = "get"
    source: Annotated[str, Field(min_length=1, max_length=2000)]
    file: Annotated[str, Field(max_length=MAX_NAME)] = ""
    to: Literal["auto", "checkpoints", "loras", "vae", "embeddings", "hypernetworks", "upscalers"] = "auto"
    """Which folder it goes into; auto is what its tensors say that it is."""
    fp16: bool = False
    """Whether the fp16 variant is taken where there is one."""
    output: Annotated[str, Field(max_length=MAX_NAME)] = ""
    """Its name here; empty for the one that it has there."""
    sha256: Annotated[str, Field(pattern=r"^(?:[0-9a-fA-F]{64})?$")] = ""
    """What a linked file must hash to; files of repositories are always checked."""

    @field_validator("output")
    @classmethod
    def _output(cls, value: str) -> str:
        return checked_output(value) if value.strip() else ""

    @model_validator(mode="after")
    def _source(self) -> GetModel:
        try:
            parse_source(self.source, self.file)
        except ValueError as error:
            raise ValueError(f"source: {error}") from None
        return self

    def sources(self) -> Iterator[tuple[str, str, str]]:
        yield from ()


Request = MergeCheckpoints | BakeLoras | ExtractLora | MergeLoras | ConvertPickle | GetModel
KINDS: Mapping[str, type[Request]] = {
    kind.model_fields["tool"].default: kind
    for kind in (MergeCheckpoints, BakeLoras, ExtractLora, MergeLoras, ConvertPickle, GetModel)
}


def parse(fields: Mapping[str, Any]) -> Request:
    """A request from a JSON object; "tool" says which.

    Raises:
        RequestError: one clause for each field that makes no sense: its name, what is wrong, what was given.
    """
    tool = fields.get("tool")
    kind = KINDS.get(tool) if isinstance(tool, str) else None
    if kind is None:
        raise RequestError(f"tool: must be one of {', '.join(KINDS)}; {repr(tool)[:60]} was given")
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise RequestError("; ".join(_explained(each) for each in error.errors(include_url=False))) from None


def load(text: str) -> Request:
    """A request that was stored as JSON by `model_dump_json`."""
    return parse(json.loads(text))


def _explained(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    said = str(error["msg"]).removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    if error["type"] == "missing":
        return f"{name}: is needed"
    if error["type"] == "extra_forbidden":
        return f"{name[:60]}: there is no such field"
    if not name:
        return said
    given = error["input"]
    shown = str(given) if isinstance(given, float) and not math.isfinite(given) else repr(given)
    return f"{name}: {said}; {shown if len(shown) <= 60 else shown[:57] + '...'} was given"
