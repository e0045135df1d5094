"""Device ops: what a pipeline may ask of the engine, a closed union of frozen dataclasses.

A pipeline is a generator.  It yields one of these, the engine carries it out, perhaps together with other pipelines' ops, and
sends the answer back.  The typed helpers below give each `yield from` the right type.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar, cast

from torch import Tensor

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.taesd import Half
from modules.checkpoints.upscaler_networks import UpscalerHandle
from modules.checkpoints.vaes import AUTOMATIC
from modules.diffusion.networks import Strengths
from modules.diffusion.rows import Answer, JoinKey, Row, can_join
from modules.errors import NotFinite

T = TypeVar("T")


@dataclass(frozen=True)
class Load:
    """Make a checkpoint available, with the autoencoder that `vae` names (`checkpoints.vaes`) and with these halves of TAESD
    (`checkpoints.taesd`).  Answer: `ModelHandle`."""

    checkpoint: str
    vae: str = AUTOMATIC
    taesd: tuple[Half, ...] = ()


@dataclass(frozen=True)
class Encode:
    """Encode windows of tokens, not yet weighted.  Answer: what the model's encoders make of each, in their order.

    `chunks` and `vectors` are those of `networks.Tokenised`, `adapters` those on the encoders, with their strengths.
    """

    model: ModelHandle
    chunks: tuple[Hashable, ...]
    clip_skip: int = 1
    vectors: Mapping[Any, Tensor] = field(default_factory=dict)
    adapters: Strengths = ()


@dataclass(frozen=True)
class Predict:
    """Denoise rows.  Answer: `list[Answer]`, one per row."""

    model: ModelHandle
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class EncodeImage:
    """A picture (3, H, W), float32 in [-1, 1] on the CPU, to a latent.  Answer: (C, h, w) fp32 on the device, scaled.

    The mean of the autoencoder's Gaussian: A1111 draws from it with unseeded noise, which nothing repeats.
    """

    model: ModelHandle
    image: Tensor


@dataclass(frozen=True)
class Decode:
    """Latent (C, h, w) to pixels.  Answer: uint8 tensor (H, W, 3) on the CPU."""

    model: ModelHandle
    latent: Tensor


@dataclass(frozen=True)
class LoadUpscaler:
    """Make an upscaler available by its name.  Answer: `UpscalerHandle`."""

    name: str


@dataclass(frozen=True)
class Upscale:
    """A tile (3, h, w) of a picture, float32 in [0, 1] on the CPU, enlarged.  Answer: the same (3, scale h, scale w)."""

    model: UpscalerHandle
    image: Tensor


@dataclass(frozen=True)
class Progressed:
    """Progress of work that has no denoising loop: `step` of `steps` is done.  Answer: None."""

    step: int
    steps: int


@dataclass(frozen=True)
class Host:
    """Run `call` on a host thread while other pipelines go on.  Answer: what it returns.

    One that only `waits` for something takes none of the few threads that work.
    """

    call: Callable[[], Any]
    waits: bool = False


@dataclass(frozen=True)
class Meanwhile:
    """Begin `call` on a host thread, and go on at once.  Answer: its `Future`."""

    call: Callable[[], Any]


@dataclass(frozen=True)
class Report:
    """Progress: `step` of `steps` is done, over all stages; `denoised` (C, h, w) is what the picture looks like now, in
    the stage `stage` (from 0) of `stages`.

    Answer: bool, whether to end the denoising loop here (interrupt, skip).
    """

    step: int
    steps: int
    denoised: Tensor
    model: ModelHandle
    stage: int = 0
    stages: int = 1


@dataclass(frozen=True, eq=False)
class Check:
    """`values` are to be numbers: where one is NaN or infinity, the pipeline ends with `NotFinite(message)`.

    Answered at once, before that is known: on a GPU it is found out some calls later, and always before the pipeline gets an
    answer on the host (pixels), so that nobody waits for the device in every step.
    """

    values: Tensor
    message: str

    def now(self) -> None:
        """Wait for the values and look at them.

        Raises:
            NotFinite: one is none.
        """
        if not bool(self.values.isfinite().all()):
            raise NotFinite(self.message)


DeviceOp = (
    Load | LoadUpscaler | Encode | EncodeImage | Predict | Decode | Upscale | Host | Meanwhile | Report | Progressed | Check
)
ON_DEVICE = (Encode, EncodeImage, Predict, Decode, Upscale)
"""What only the engine's own thread may do."""

Program = Generator[DeviceOp, Any, T]


def load(checkpoint: str, vae: str = AUTOMATIC, taesd: tuple[Half, ...] = ()) -> Program[ModelHandle]:
    return cast(ModelHandle, (yield Load(checkpoint, vae, taesd)))


def load_upscaler(name: str) -> Program[UpscalerHandle]:
    return cast(UpscalerHandle, (yield LoadUpscaler(name)))


def upscale_tile(model: UpscalerHandle, image: Tensor) -> Program[Tensor]:
    return cast(Tensor, (yield Upscale(model, image)))


def progressed(step: int, steps: int) -> Program[None]:
    yield Progressed(step, steps)


def encode(
    model: ModelHandle,
    *chunks: Hashable,
    clip_skip: int = 1,
    vectors: Mapping[Any, Tensor] = MappingProxyType({}),
    adapters: Strengths = (),
) -> Program[list[Any]]:
    return cast("list[Any]", (yield Encode(model, chunks, clip_skip, vectors, adapters)))


def encode_image(model: ModelHandle, image: Tensor) -> Program[Tensor]:
    latent = cast(Tensor, (yield EncodeImage(model, image)))
    yield Check(latent, autoencoder_failed(model))
    return latent


def autoencoder_failed(model: ModelHandle) -> str:
    return f"the autoencoder of {model.info.name!r} gave NaN or infinity; try --dtype float32"


def check(values: Tensor, message: str) -> Program[None]:
    yield Check(values, message)


ROWS_AT_ONCE = 8
"""Rows of one device op at most: many sides of AND are evaluated in several, so that others' come in between.  Where the model
cannot take them in one forward (`RowDenoiser.join_key`), they are fewer."""


def predict(model: ModelHandle, *rows: Row) -> Program[list[Answer]]:
    """The answer to each row."""
    answers: list[Answer] = []
    for together in _together(model, rows):
        answers += cast("list[Answer]", (yield Predict(model, together)))
    return answers


def side_by_side(programs: Sequence[Program[T]]) -> Program[list[T]]:
    """Programs run in step: rows that they ask of one model in the same turn are one request, so that they share forwards.

    Returns their results in their order.  An op of another kind is carried out by itself.
    """
    results: dict[int, T] = {}
    answers: dict[int, Any] = dict.fromkeys(range(len(programs)))
    try:
        while answers:
            asked: dict[int, DeviceOp] = {}
            for number, answer in answers.items():
                try:
                    asked[number] = programs[number].send(answer)
                except StopIteration as end:
                    results[number] = end.value
            answers = {}
            for number, op in asked.items():
                if number in answers:
                    continue
                if not isinstance(op, Predict):
                    answers[number] = yield op
                    continue
                same = {n: each for n, each in asked.items() if isinstance(each, Predict) and each.model is op.model}
                found = iter((yield from predict(op.model, *(row for each in same.values() for row in each.rows))))
                answers |= {n: [next(found) for _ in each.rows] for n, each in same.items()}
        return [results[number] for number in range(len(programs))]
    finally:
        for program in programs:
            program.close()


def _together(model: ModelHandle, rows: Sequence[Row]) -> Iterator[tuple[Row, ...]]:
    """The rows in their order, in parts that share a forward."""
    part: list[Row] = []
    keys: list[JoinKey] = []
    for row in rows:
        key = model.denoiser.join_key(row)
        if part and (len(part) == ROWS_AT_ONCE or not can_join([*keys, key])):
            yield tuple(part)
            part, keys = [], []
        part.append(row)
        keys.append(key)
    if part:
        yield tuple(part)


def decode(model: ModelHandle, latent: Tensor) -> Program[Tensor]:
    return cast(Tensor, (yield Decode(model, latent)))


def on_host(call: Callable[[], T], waits: bool = False) -> Program[T]:
    return cast(T, (yield Host(call, waits)))


def meanwhile(call: Callable[[], T]) -> Program[Future[T]]:
    return cast("Future[T]", (yield Meanwhile(call)))


def report(model: ModelHandle, step: int, steps: int, denoised: Tensor, stage: int = 0, stages: int = 1) -> Program[bool]:
    return bool((yield Report(step, steps, denoised, model, stage, stages)))
