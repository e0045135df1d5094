"""What forwards of a model take that was just loaded, so that estimates and row budgets need no picture first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator

from modules.checkpoints.handle import ModelHandle
from modules.diffusion.attention.backends import first_line
from modules.engine.costs import Call
from modules.engine.runner import Runner

log = logging.getLogger(__name__)


class Probe:
    """Measures a model's forwards at the size that it is made for, a piece at a time (`Runner.measuring`).

    Args:
        runner: runs them.
        learn: gets what each number of rows took, in seconds.
    """

    def __init__(self, runner: Runner, learn: Callable[[Call, float], None]) -> None:
        self._runner, self._learn = runner, learn
        self._model: ModelHandle | None = None
        self._steps: Generator[None, None, dict[int, float]] | None = None

    @property
    def active(self) -> bool:
        """Whether there is something left to be measured."""
        return self._steps is not None

    def begin(self, model: ModelHandle) -> None:
        """Measure this model from now on; what was left of another is given up."""
        best, factor = model.info.defaults, model.latent.factor
        self._model, self._steps = model, self._runner.measuring(model, best.height // factor, best.width // factor)

    def go_on(self) -> None:
        """Measure the next piece."""
        assert self._steps is not None
        assert self._model is not None
        info = self._model.info
        try:
            next(self._steps)
        except StopIteration as ended:
            self._give_up()
            for rows, seconds in ended.value.items():
                self._learn(Call("predict", info.name, info.defaults.width, info.defaults.height, rows), seconds)
        except Exception as error:  # the first image that needs this model reports it
            log.warning("forwards of %s were not measured: %s", info.name, first_line(error))
            self._give_up()

    def forget(self, keep: Callable[[ModelHandle], bool]) -> None:
        """Give up what is measured of a model that is gone."""
        if self._model is not None and not keep(self._model):
            self._give_up()

    def _give_up(self) -> None:
        self._model = self._steps = None
