"""When memory runs out: the steps by which one device op goes on with less of it, each said to the user.

An op that fails for want of memory is tried again after unused models were let go of, then by means that take less memory and
more time: an autoencoder in smaller and smaller tiles; a forward with fewer rows, then with attention in slices.  Where none of
them is enough, weights are streamed from main memory: first those of the networks that the op does not run, then its own; and
the means are tried again from the first one.  What worked is remembered by model and size, and taken back a step at a time
after it has gone well for a while.
"""

from __future__ import annotations

import logging
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from modules.checkpoints.cache import Component
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.residence import part_of
from modules.checkpoints.upscaler_networks import UpscalerHandle
from modules.diffusion.attention.backends import out_of_memory as said_out_of_memory
from modules.diffusion.device_memory import free_memory, streaming_helps
from modules.diffusion.networks import TiledLatentSpace
from modules.diffusion.placement import Placement
from modules.diffusion.tiles import Tiling
from modules.engine.budgets import RECOVERY
from modules.errors import OutOfMemory
from modules.pipelines.ops import Decode, DeviceOp, Encode, EncodeImage, Predict, Upscale

log = logging.getLogger(__name__)

SLICE_BYTES = 32 * 2**20
"""The bound of attention's score matrix where memory ran short."""

LONGEST_PATIENCE = 64 * RECOVERY
"""Calls that go well before a step back is tried, at most; each step back that fails doubles them."""

REMEMBERED = 256
"""Models and sizes of which is remembered what worked."""

OWN_PART = {Predict: "unet", Decode: "vae", EncodeImage: "vae", Encode: "text", Upscale: "upscaler"}
"""How the names of the networks begin that an op runs."""

TITLES = {"unet": "the U-Net's", "vae": "the VAE's", "text": "the text encoder's", "text_2": "the second text encoder's"}

_NO_WORK_SPACE = re.compile(
    r"unable to find a valid cudnn algorithm|unable to find an engine to execute|cublas_status_not_initialized", re.IGNORECASE
)
"""Said where there is no memory for a convolution's work space or for cuBLAS's handle."""


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out; cuBLAS, cuDNN and the CPU's allocator say so in plain RuntimeErrors."""
    return said_out_of_memory(error) or (isinstance(error, RuntimeError) and _NO_WORK_SPACE.search(str(error)) is not None)


@dataclass(frozen=True)
class Means:
    """How an op is run: `rows` in a forward at most, attention in slices of so many bytes, in tiles; 0 and None for not so."""

    rows: int = 0
    slice_bytes: int = 0
    tiling: Tiling | None = None

    def for_op(self, op: DeviceOp) -> Means:
        """What of it makes a difference to this op."""
        if isinstance(op, Upscale) and self.tiling is not None and self.tiling.side >= max(op.image.shape[1:]):
            return replace(self, tiling=None)
        return replace(self, rows=0) if isinstance(op, Predict) and len(op.rows) <= self.rows else self

    def said(self, op: DeviceOp) -> list[str]:
        """The sentences for the user."""
        said = []
        if self.rows:
            said.append(f"the rows of a step were evaluated {'one by one' if self.rows == 1 else f'{self.rows} at a time'}")
        if self.tiling is not None and isinstance(op, Upscale):
            said.append(f"enlarged in tiles of {self.tiling.side}x{self.tiling.side} pixels")
        elif self.tiling is not None:
            done, side = "decoded" if isinstance(op, Decode) else "encoded", self.tiling.side
            through = " through main memory" if self.tiling.on_host else ""
            said.append(f"{done} in tiles of {side}x{side} pixels{through}")
        if self.slice_bytes:
            said.append("attention was computed in slices")
        return [f"memory ran short: {each}" for each in said]


_FORWARDS = (Means(), Means(rows=4), Means(rows=2), Means(rows=1), Means(rows=1, slice_bytes=SLICE_BYTES))
_TILES = (
    Means(),
    Means(tiling=Tiling(512)),
    Means(tiling=Tiling(512, on_host=True)),
    Means(slice_bytes=SLICE_BYTES, tiling=Tiling(256, on_host=True)),
    Means(slice_bytes=SLICE_BYTES, tiling=Tiling(128, on_host=True)),
)
_SMALLER = (Means(), *(Means(tiling=Tiling(side, on_host=True)) for side in (256, 192, 128, 96, 64)))


def means_for(op: DeviceOp) -> tuple[Means, ...]:
    """What can be tried for an op, from the fastest on."""
    if isinstance(op, Predict):
        return _FORWARDS if op.model.attend is not None else _FORWARDS[:-1]
    if isinstance(op, Decode | EncodeImage) and isinstance(op.model.latent, TiledLatentSpace):
        return _TILES
    return _SMALLER if isinstance(op, Upscale) else (Means(),)


@dataclass
class Patience:
    """Counts calls that went well, and says when it is time to try a step back."""

    needed: int = RECOVERY
    good: int = 0

    def went_well(self) -> None:
        self.good += 1

    @property
    def over(self) -> bool:
        return self.good >= self.needed

    def in_vain(self) -> None:
        """A step back failed: wait for twice as long."""
        self.needed, self.good = min(2 * self.needed, LONGEST_PATIENCE), 0


@dataclass
class _Learned:
    level: int
    patience: Patience = field(default_factory=Patience)


@dataclass
class MemoryLadder:
    """Runs single ops that ran out of memory, and remembers what worked.

    Args:
        call: runs like ops and gives an answer to each, or raises.
        make_room: lets go of models that share nothing with the given one and are not used; whether there were any.
        say: a sentence about an op, for the user.
    """

    call: Callable[[Sequence[DeviceOp]], list[Any]]
    make_room: Callable[[ModelHandle | UpscalerHandle], bool] = lambda handle: False
    say: Callable[[DeviceOp, str], None] = lambda op, sentence: None
    _learned: OrderedDict[Hashable, _Learned] = field(default_factory=OrderedDict)
    _streamed: dict[Hashable, Patience] = field(default_factory=dict)
    """By component, for those that are streamed because memory ran out."""

    def remembers(self, op: DeviceOp) -> bool:
        """Whether an op like this one is to be run by `run` at once."""
        learned = self._learned.get(_key(op))
        return learned is not None and learned.level > 0

    def run(self, op: DeviceOp) -> Any:
        """The answer to an op, or the exception that it ends with."""
        means, key = means_for(op), _key(op)
        learned = self._learned.get(key)
        level = learned.level if learned else 0
        if not level:  # it failed just now
            self._make_room(op)
        stepped_back = learned is not None and (not level or learned.patience.over)
        if stepped_back:
            level = _other(means, level, op, -1)
        while isinstance(answer := self._attempt(op, means[level].for_op(op)), _Full):
            if stepped_back and learned:
                learned.patience.in_vain()
            stepped_back = False
            self._make_room(op)
            if (following := _other(means, level, op, 1)) != level:
                level = following
            elif self._stream_more(op):
                level = 0
            else:
                return OutOfMemory(_nothing_helps(op))
        if isinstance(answer, Exception):
            return answer
        self._learn(key, level, means[level].for_op(op), op)
        self.went_well([op])
        return answer

    def went_well(self, ops: Sequence[DeviceOp]) -> None:
        """Ops were run: say of those whose weights are streamed that they are, and settle weights again where they fit."""
        for op in ops:
            for component, _ in self._placed(op, own=True, streamed=True):
                title = TITLES.get(part_of(component), "a network's")
                self.say(op, f"memory ran short: {title} weights were streamed from main memory")
        self._settle_some(ops[0])

    # ---- one attempt

    def _attempt(self, op: DeviceOp, means: Means) -> Any:
        """The answer, the exception, or that memory was not enough; then nothing of the attempt is alive any more."""
        try:
            attend = op.model.attend if isinstance(op, Predict | Decode | EncodeImage | Encode) else None
            with attend.in_slices(means.slice_bytes) if attend and means.slice_bytes else nullcontext():
                return self._by(op, means)
        except Exception as error:
            if not out_of_memory(error):
                return error
        return _Full()

    def _by(self, op: DeviceOp, means: Means) -> Any:
        if isinstance(op, Predict) and means.rows:
            parts = [op.rows[start : start + means.rows] for start in range(0, len(op.rows), means.rows)]
            return [answer for rows in parts for answer in self.call([replace(op, rows=rows)])[0]]
        if isinstance(op, Decode | EncodeImage) and means.tiling is not None:
            latent = op.model.latent
            assert isinstance(latent, TiledLatentSpace)
            op = replace(op, model=replace(op.model, latent=latent.tiled(means.tiling)))
        if isinstance(op, Upscale) and means.tiling is not None:
            op = replace(op, model=op.model.in_tiles(means.tiling.side))
        return self.call([op])[0]

    def _make_room(self, op: DeviceOp) -> None:
        """Let go of what is made again when it is needed: other models, captured graphs, buffers of other networks'
        streams, what the allocator keeps."""
        self.make_room(_model(op))
        for component in _model(op).components:
            if component.placement is not None:
                component.placement.derived = None
                if not _is_own(component, op):
                    component.placement.let_go_of_buffers()
        torch.cuda.empty_cache()

    def _learn(self, key: Hashable, level: int, means: Means, op: DeviceOp) -> None:
        learned = self._learned.get(key)
        if learned is None and not level:
            return  # what was let go of was enough
        known = learned is not None and learned.level == level
        for sentence in means.said(op):
            if not known:
                log.warning("%s (%s)", sentence, _model(op).info.name)
            self.say(op, sentence)
        if learned is None:
            learned = self._learned[key] = _Learned(level)
        if not known:
            learned.level, learned.patience.good = level, 0
        learned.patience.went_well()
        self._learned.move_to_end(key)
        while len(self._learned) > REMEMBERED:
            self._learned.popitem(last=False)

    # ---- streamed weights

    def _stream_more(self, op: DeviceOp) -> bool:
        """Stream the weights of networks that this op does not run or, where that was done, its own; whether there were any."""
        if not streaming_helps(_model(op).device):
            return False
        for own in (False, True):
            moved = [component for component, place in self._placed(op, own, streamed=False) if _streams(place)]
            for component in moved:
                log.warning(
                    "memory ran short: %s weights are streamed from main memory (%s)",
                    TITLES.get(part_of(component), "a network's"),
                    _model(op).info.name,
                )
                self._streamed.setdefault(component.key, Patience()).good = 0
            torch.cuda.empty_cache()
            if moved:
                return True
        return False

    def _settle_some(self, op: DeviceOp) -> None:
        """After a while, bring streamed weights of this op's networks back to the device: its own, then the others."""
        streamed = [*self._placed(op, own=True, streamed=True), *self._placed(op, own=False, streamed=True)]
        for number, (component, placement) in enumerate(streamed):
            patience = self._streamed.setdefault(component.key, Patience())
            patience.went_well()
            if number or not patience.over:
                continue
            patience.in_vain()  # unless it lasts, the next time comes later
            if (free := free_memory(placement.device)) is None or free > 1.5 * placement.streamed_bytes:
                _settle(placement)

    def _placed(self, op: DeviceOp, own: bool, streamed: bool) -> Iterator[tuple[Component, Placement]]:
        """Networks of the op's model whose weights are streamed or not, those that it runs or the others."""
        for component in _model(op).components:
            placement = component.placement
            if placement is not None and placement.streamed == streamed and _is_own(component, op) == own:
                yield component, placement


class _Full:
    """Memory was not enough."""


def _key(op: DeviceOp) -> Hashable:
    """What is remembered is remembered by content and size, not by handle: a model that comes back begins where it was."""
    if isinstance(op, Predict):
        what: Any = tuple(op.rows[0].x.shape)
    elif isinstance(op, Decode):
        what = tuple(op.latent.shape)
    else:
        what = tuple(op.image.shape) if isinstance(op, EncodeImage | Upscale) else None
    return type(op), tuple([component.key for component in _model(op).components]), what


def _model(op: DeviceOp) -> ModelHandle | UpscalerHandle:
    assert isinstance(op, Predict | Decode | EncodeImage | Encode | Upscale)
    return op.model


def _other(means: Sequence[Means], level: int, op: DeviceOp, step: int) -> int:
    """The next level in this direction at which the op is run otherwise; the same where there is none."""
    now = means[level].for_op(op)
    others = range(level + 1, len(means)) if step > 0 else range(level - 1, -1, -1)
    return next((other for other in others if means[other].for_op(op) != now), level)


def _is_own(component: Component, op: DeviceOp) -> bool:
    return part_of(component).startswith(OWN_PART[type(op)])


def _streams(placement: Placement) -> bool:
    """Whether this network's weights are streamed now, and were not."""
    try:
        return placement.stream()
    except Exception as error:
        if not out_of_memory(error):
            raise
    return False


def _settle(placement: Placement) -> None:
    try:
        placement.settle()
    except Exception as error:
        if not out_of_memory(error):
            raise
    torch.cuda.empty_cache()


def _nothing_helps(op: DeviceOp) -> str:
    """What was asked, what there is, what to do."""
    model = _model(op)
    free = free_memory(model.device)
    there = f"{model.device} has not enough memory" if free is None else f"{model.device} has {free / 1e9:.1f} GB left"
    if isinstance(op, Encode):
        return f"the prompt's encoding needs more memory than there is: {there}; close other programs, or shorten the prompt"
    if isinstance(model, UpscalerHandle):
        return f"the upscaler {model.info.name!r} needs more memory than there is, in the smallest tiles too: {there}"
    if isinstance(op, EncodeImage):
        height, width = op.image.shape[-2:]
    else:
        shape = op.rows[0].x.shape if isinstance(op, Predict) else op.latent.shape  # type: ignore[union-attr]
        height, width = (side * model.latent.factor for side in shape[-2:])
    smaller = f"choose a smaller size (at most {_smaller(width)}x{_smaller(height)}), or " if min(width, height) > 64 else ""
    return (
        f"a picture of {width}x{height} pixels needs more memory than there is, in the smallest steps too: {there}; "
        f"{smaller}close other programs"
    )


def _smaller(side: int) -> int:
    """Three quarters of a side, in steps of 64."""
    return max(64, math.floor(side * 0.75 / 64) * 64)
