"""One image in flight: its pipeline, and the device op that it waits for.  Lives only in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modules.checkpoints.cache import Leases
from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.upscaler_networks import UpscalerHandle
from modules.extensions.isolation import Picture, made, making
from modules.pipelines.ops import DeviceOp, Program
from modules.pipelines.painted import Painted


@dataclass(eq=False)
class Task:
    """A pipeline and where it stands.

    `op` is what the pipeline waits for, None before the start and after the end; `since` is the tick at which it began to wait.
    """

    id: str
    user: str
    program: Program[Painted]
    op: DeviceOp | None = None
    launched: bool = False
    """Whether `op` was launched, and its answer is on the way."""
    since: int = 0
    checkpoints: frozenset[str] = frozenset()
    """All that it will load."""
    models: list[ModelHandle] = field(default_factory=list)
    """What it runs, as far as that is loaded."""
    upscalers: list[UpscalerHandle] = field(default_factory=list)
    """The upscalers among that."""
    finishing: bool = False
    """Whether its denoising loop is to end with the step that runs now."""
    ended_at: tuple[int, int] | None = None
    """(step, steps), over all stages, where it was ended so."""
    notes: dict[str, None] = field(default_factory=dict)
    """Sentences for the user about how it was made, in their order."""
    picture: Picture = field(default_factory=Picture)
    """What extensions did for it."""
    result: Painted | None = field(default=None, repr=False)
    leases: list[Leases] = field(default_factory=list, repr=False)
    """Of the components that it runs; they end with it."""

    def start(self, tick: int) -> None:
        self._step(lambda: next(self.program), tick)

    def advance(self, answer: Any, tick: int) -> None:
        """Hand the pipeline what it asked for; it runs until its next op or its end."""
        self._step(lambda: self.program.send(answer), tick)

    def fail(self, error: BaseException, tick: int) -> None:
        """Raise `error` where the pipeline waits.  A pipeline that does not catch it ends, and the error comes out here."""
        self._step(lambda: self.program.throw(error), tick)

    def close(self) -> None:
        """End or cancel: the pipeline's `finally` blocks run and what it used is given back, nothing else."""
        with making(self.picture):
            self.program.close()
        made(self.picture)
        self.op = None
        while self.leases:
            self.leases.pop().release()

    def _step(self, resume: Any, tick: int) -> None:
        self.op, self.launched, self.since = None, False, tick
        try:
            with making(self.picture):
                self.op = resume()
        except StopIteration as end:
            self.result = end.value
