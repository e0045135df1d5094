"""Whether a request fits into an engine's memory, before it is submitted: how much it takes, and where that is too much, what
the engine does about it by itself and what would help.

Pure functions over plain data.  Weights follow from the checkpoint's header; what is computed takes what calls like it were
measured to take (`engine.gauge`), or where none was, what the networks' blocks make (`checkpoints.footprint`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from modules.checkpoints.footprint import SMALL, TAESD_DECODE, TAESD_ENCODE, Footprint
from modules.engine.budgets import DECODE_POSITIONS, POSITIONS
from modules.engine.costs import BY_TAESD, MEMORY_OF, Call, CostModel
from modules.pipelines.stages import Stage, stages_of
from modules.request import MIN_SIDE, GenerationRequest

Means = Literal["tiles", "rows", "others", "fp8", "denoiser"]
"""What an engine does by itself, the cheaper first: decode and encode in tiles, evaluate the rows of a step one by one, stream
the weights of text encoders and autoencoder from main memory, keep the denoiser's in 8 bits (where they would not fit
otherwise, `checkpoints.residence`), stream the denoiser's."""

STEP = 64
"""In which sizes are proposed, in pixels."""

TILE_SIDE = 256
"""Pixels of a tile's side of what is decoded in tiles (`engine.memory`)."""

STREAMED = {"others": 0.6, "denoiser": 0.27}
"""The part of their weights that streamed networks take of the device at most: two of the largest block, and what is no block
(`tests/diffusion/test_placement.py` has the bounds)."""

COMPUTING = 0.13
"""The part of a denoiser's weights that the largest block takes at most: the buffer in which it is computed with, where weights
are kept in 8 bits."""


@dataclass(frozen=True)
class Room:
    """What an engine says of its memory (`messages.Hello`): bytes that it may take in all, 0 where that is not known, and bytes
    of a number of denoiser and text encoder, of those of small models, and of autoencoders; whether weights can be streamed,
    the setting by which they are kept, and the kind of the device."""

    memory: int = 0
    number: int = 4
    small_number: int = 4
    vae_number: int = 4
    streams: bool = False
    storage: str = "auto"
    kind: str = "cpu"

    @staticmethod
    def of(said: Mapping[str, Any]) -> Room:
        """What is not known here is left out."""
        known = {each.name for each in fields(Room)}
        return Room(**{name: value for name, value in said.items() if name in known})


@dataclass(frozen=True)
class Memory:
    """`bytes` that a request takes at its peak, `weights` of them for the networks, and the `room` that there is, 0 where that
    is not known.  `measured`: calls like these were measured, else it follows from the networks.

    Where it does not fit, `means` are what the engine does about it, () where that would not help either; `streamed` are the
    bytes that it then brings to the device in each step.  `size` (width, height) is the largest that fits with that, `whole`
    the largest that fits without; None where none does, or this one does.  `fp8`, `taesd` and `single`: it would fit whole with
    weights in 8 bits, with TAESD as decoder, or with one picture at a time.
    """

    bytes: int
    weights: int
    room: int = 0
    measured: bool = False
    means: tuple[Means, ...] = ()
    streamed: int = 0
    size: tuple[int, int] | None = None
    whole: tuple[int, int] | None = None
    fp8: bool = False
    taesd: bool = False
    single: bool = False

    @property
    def fits(self) -> bool:
        return not self.room or self.bytes <= self.room

    @property
    def possible(self) -> bool:
        """Whether it can be painted, if slowly."""
        return self.fits or bool(self.means)


@dataclass(frozen=True)
class _How:
    """How a request is carried out; `scale` is that of its sides."""

    means: tuple[Means, ...] = ()
    fp8: bool = False
    taesd: bool = False
    single: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class _Need:
    """What a request takes in some way, by what is known."""

    request: GenerationRequest
    footprints: Mapping[str, Footprint]
    """By checkpoint: the request's own, its second pass's and its refiner's."""
    room: Room
    costs: CostModel
    stages: tuple[Stage, ...] = field(default=())

    def weights(self, how: _How) -> int:
        return round(sum(self._weights(each, how) for each in self.footprints.values()))

    def _weights(self, each: Footprint, how: _How) -> float:
        number = self._number(each)
        kept = each.denoiser_weights
        denoiser, vae = float(kept.kept(number, self.keeps_blocks)), each.vae * self._vae_number(each)
        if (how.fp8 or "fp8" in how.means) and not self.is_quantised(each):
            denoiser = each.denoiser * (1 + COMPUTING * number)
        if "denoiser" in how.means:
            denoiser *= STREAMED["denoiser"]
        denoiser += kept.running(number, self.keeps_blocks)
        text = float(each.text_weights.kept(number, self.keeps_blocks))
        if "others" in how.means:
            t5 = each.of_t5.kept(number, self.keeps_blocks)
            text = (text - t5) * STREAMED["others"] + each.t5_streamed.kept(number, self.keeps_blocks)
            return denoiser + text + vae * STREAMED["others"]
        return denoiser + text + vae

    def passed(self, each: Footprint, number: int) -> int:
        """Bytes of its denoiser that streaming brings to the device in each step."""
        return each.denoiser_weights.kept(self.room.number, True) if self.is_quantised(each) else each.denoiser * number

    @property
    def keeps_blocks(self) -> bool:
        """Whether layers keep a file's blocks of quantised numbers (`checkpoints.residence`)."""
        return self.room.storage != "full"

    def is_quantised(self, each: Footprint) -> bool:
        """Whether its denoiser is kept so."""
        return self.keeps_blocks and each.of_denoiser is not None

    def _number(self, each: Footprint) -> int:
        return self.room.number if each.numbers >= SMALL else self.room.small_number

    def _vae_number(self, each: Footprint) -> int:
        return self.room.vae_number if each.numbers >= SMALL else max(self.room.small_number, self.room.vae_number)

    def bytes(self, how: _How) -> int:
        return self.weights(how) + max(taken for taken, _ in self._calls(how))

    def measured(self, how: _How) -> bool:
        return all(measured for _, measured in self._calls(how))

    def _calls(self, how: _How) -> Iterator[tuple[int, bool]]:
        """Bytes that are computed with in each kind of call, and whether such calls were measured."""
        for stage, following in zip(self.stages, (*self.stages[1:], None), strict=True):
            width, height = (_scaled(side, how.scale) for side in stage.size)
            seen = min(width, stage.window_size[0]), min(height, stage.window_size[1])
            own = stage.settings.checkpoint or ""
            for name in filter(None, (own, stage.refiner)):
                if name in self.footprints:
                    yield self._forward(stage, name, seen, how)
            if following is None or following.start == "picture":
                yield self._by_autoencoder("decode", own, (width, height), how)
            if stage.start == "picture":
                yield self._by_autoencoder("encode-image", own, (width, height), how)

    def _forward(self, stage: Stage, name: str, size: tuple[int, int], how: _How) -> tuple[int, bool]:
        each = self.footprints[name]
        positions = size[0] * size[1] // each.factor**2
        rows = 1 if "rows" in how.means else rows_of(stage.settings) * min(stage.windows, stage.settings.tile_batch)
        if not how.single:
            ceiling = POSITIONS.get(self.room.kind, POSITIONS["cpu"]) // max(1, positions)
            rows = max(rows, min(rows * self.request.count, ceiling))
        known = self.costs.seconds(Call(MEMORY_OF + "predict", name, *size, rows))
        return round(known if known is not None else rows * positions * each.row * self._number(each)), known is not None

    def _by_autoencoder(self, work: str, name: str, size: tuple[int, int], how: _How) -> tuple[int, bool]:
        each = self.footprints[name]
        decodes = work == "decode"
        tiny = (self.request.vae_decoder if decodes else self.request.vae_encoder) == "TAESD" or (decodes and how.taesd)
        pictures, waits = 1, 0.0
        if decodes and not how.single:
            ceiling = DECODE_POSITIONS.get(self.room.kind, DECODE_POSITIONS["cpu"]) * each.factor**2 // (size[0] * size[1])
            pictures = max(1, min(self.request.count, ceiling))
        if ("tiles" in how.means or any(stage.windows > 1 for stage in self.stages)) and not tiny:
            if self.room.kind == "cpu":  # a GPU keeps whole feature maps in main memory where they would not fit
                waits = size[0] * size[1] / each.factor**2 * (each.decode_maps if decodes else each.encode_maps)
            size, pictures = (min(size[0], TILE_SIDE), min(size[1], TILE_SIDE)), 1
        else:
            call = Call(MEMORY_OF + work + (BY_TAESD if tiny else ""), name, *size, pictures)
            if (known := self.costs.seconds(call)) is not None:
                return round(known), True
        peak = (TAESD_DECODE if decodes else TAESD_ENCODE) if tiny else each.decode if decodes else each.encode
        positions = pictures * size[0] * size[1] / each.factor**2
        return round((positions * peak + waits) * self._vae_number(each)), False


def memory_of(
    costs: CostModel, request: GenerationRequest, footprints: Mapping[str, Footprint | None], room: Room
) -> Memory | None:
    """See `Memory`; None where a checkpoint's networks are not known."""
    known = {name: each for name, each in footprints.items() if each is not None}
    if not known or len(known) < len(footprints):
        return None
    need = _Need(request, known, room, costs, stages_of(request))
    plain = _How(fp8=room.storage == "fp8")
    found = Memory(need.bytes(plain), need.weights(plain), room.memory, need.measured(plain))
    return found if found.fits else _helped(need, plain, found)


def _helped(need: _Need, plain: _How, found: Memory) -> Memory:
    """What is done, and what can be done, where it does not fit."""

    def fits(how: _How) -> bool:
        return need.bytes(how) <= found.room

    calls: tuple[Means, ...] = ("tiles", "rows")
    wide = not all(need.is_quantised(each) for each in need.footprints.values())
    narrow = wide and need.room.storage == "auto" and need.weights(replace(plain, means=("others",))) > found.room
    held: tuple[Means, ...] = ("others", "fp8", "denoiser") if narrow else ("others", "denoiser")
    chain = (*calls, *held)
    means = [replace(plain, means=chain[:end], single=True) for end in range(1, len(chain) + 1)] if need.room.streams else []
    enough = next((how for how in means if fits(how)), None)
    for each in calls:  # which are tried anew once weights have left the device
        without = enough and replace(enough, means=tuple(other for other in enough.means if other != each))
        enough = without if without and without.means and fits(without) else enough
    streams = enough is not None and "denoiser" in enough.means
    number = 1 if plain.fp8 or narrow else need.room.number
    return replace(
        found,
        means=enough.means if enough is not None else (),
        streamed=sum(need.passed(each, number) for each in need.footprints.values()) if streams else 0,
        size=None if enough is not None else _largest(need, means[-1] if means else replace(plain, single=True)),
        whole=_largest(need, plain),
        fp8=not plain.fp8 and wide and fits(replace(plain, fp8=True)),
        taesd=need.request.vae_decoder != "TAESD" and fits(replace(plain, taesd=True)),
        single=need.request.count > 1 and fits(replace(plain, single=True)),
    )


def sentences(memory: Memory) -> list[str]:
    """What users are told of it, before they submit."""
    about = "" if memory.measured else "about "
    takes = f"takes {about}{_gigabytes(memory.bytes)} of memory"
    if memory.fits:
        return [f"It {takes} at its peak, {_gigabytes(memory.weights)} of it for the model."]
    there = f"{_gigabytes(memory.room)} are there"
    said = [f"It {takes}, and {there}: {_joined([_does(each, memory) for each in memory.means])}."]
    if not memory.means:
        size = f"at most {memory.size[0]} × {memory.size[1]} fits" if memory.size else "no smaller size fits either"
        said = [f"Does not fit: it {takes}, and {there}; {size}."]
    if memory.whole and memory.whole != memory.size:
        said.append(f"None of that is needed up to {memory.whole[0]} × {memory.whole[1]}.")
    helps = [
        *(["one picture at a time"] if memory.single else []),
        *(["TAESD as decoder"] if memory.taesd else []),
        *(["weights in 8 bits (--weights-storage fp8)"] if memory.fp8 else []),
    ]
    if helps:
        said.append(f"It fits with {_joined(helps, 'or')}.")
    return said


def _does(means: Means, memory: Memory) -> str:
    return {
        "tiles": "the VAE works in tiles",
        "rows": "the rows of a step are evaluated one by one",
        "others": "weights of text encoder and VAE are streamed from main memory",
        "fp8": "the U-Net's are kept in 8 bits",
        "denoiser": f"the U-Net's are streamed, {_gigabytes(memory.streamed)} in each step, which takes longer",
    }[means]


def _joined(parts: Sequence[str], word: str = "and") -> str:
    """
    >>> _joined(["a", "b", "c"]), _joined(["a"])
    ('a, b and c', 'a')
    """
    return f" {word} ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else ""


def _gigabytes(count: int) -> str:
    """
    >>> _gigabytes(1_234_000_000), _gigabytes(56_700_000)
    ('1.2 GB', '57 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def memory_json(memory: Memory | None) -> dict[str, Any] | None:
    """What APIs say of it."""
    if memory is None:
        return None
    return {**asdict(memory), "fits": memory.fits, "possible": memory.possible, "said": sentences(memory)}


def _largest(need: _Need, how: _How) -> tuple[int, int] | None:
    """The largest picture of this form that fits, in steps of `STEP` of its longer side; None where no smaller one does."""
    width, height = max((stage.size for stage in need.stages), key=lambda size: size[0] * size[1])
    longer = max(width, height)
    for side in range((longer - 1) // STEP * STEP, 0, -STEP):
        scale = side / longer
        if min(_scaled(width, scale), _scaled(height, scale)) < MIN_SIDE:
            break
        if need.bytes(replace(how, scale=scale)) <= need.room.memory:
            return _scaled(width, scale), _scaled(height, scale)
    return None


def _scaled(side: int, scale: float) -> int:
    """In steps of 8 pixels, as sizes are."""
    return side if scale == 1.0 else max(8, int(side * scale) // 8 * 8)


def rows_of(request: GenerationRequest) -> int:
    """Rows of one evaluation of one picture; prompts joined by AND take a few more, which is not worth knowing here."""
    answers = 1 if request.cfg_scale == 1.0 and request.sag_scale == 0 else 2
    return answers + (request.pag_scale > 0) + (request.sag_scale > 0)
