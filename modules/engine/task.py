"""One image in flight: its program, and the work that it waits for.  Lives only in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from modules.checkpoints.cache import Leases
from modules.pipelines.txt2img import Painted
from modules.pipelines.work import Program, Work


@dataclass(eq=False)
class Task:
    """A story and where it stands.

    `work` is what the story waits for, None before the start and after the end; `since` is the tick at which it began to wait.
    """

    id: str
    user: str
    program: Program[Painted]
    work: Work | None = None
    since: int = 0
    checkpoint: str = ""
    finishing: bool = False
    """Whether its denoising loop is to end with the step that runs now."""
    ended_at: tuple[int, int] | None = None
    """(step, steps) where it was ended so."""
    result: Painted | None = field(default=None, repr=False)
    leases: list[Leases] = field(default_factory=list, repr=False)
    """Of the components that it runs; they end with it."""

    def start(self, tick: int) -> None:
        self._step(lambda: next(self.program), tick)

    def advance(self, answer: Any, tick: int) -> None:
        """Hand the story what it asked for; it runs until its next work or its end."""
        self._step(lambda: self.program.send(answer), tick)

    def fail(self, error: BaseException, tick: int) -> None:
        """Raise `error` where the story waits.  A story that does not catch it ends, and the error comes out here."""
        self._step(lambda: self.program.throw(error), tick)

    def close(self) -> None:
        """End or cancel: the story's `finally` blocks run and what it used is given back, nothing else."""
        self.program.close()
        self.work = None
        while self.leases:
            self.leases.pop().release()

    def _step(self, resume: Any, tick: int) -> None:
        self.work, self.since = None, tick
        try:
            self.work = resume()
        except StopIteration as end:
            self.result = end.value
