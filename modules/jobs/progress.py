"""How far an image is, over all its stages and within the one that runs.  Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from modules.engine.messages import Progress
from modules.pipelines.stages import stages_of
from modules.request import GenerationRequest


@dataclass(frozen=True)
class ImageProgress:
    """`step` of `steps` are done over all stages, `stage_step` of `stage_steps` in stage `stage` (from 1) of `stages`."""

    step: int
    steps: int
    stage: int
    stages: int
    stage_step: int
    stage_steps: int

    @property
    def share(self) -> float:
        """Of the whole image, in [0, 1]."""
        return self.step / max(1, self.steps)


def not_begun(request: GenerationRequest) -> ImageProgress:
    """Of an image of which no step is done."""
    planned = [stage.steps for stage in stages_of(request)] or [0]
    return ImageProgress(0, sum(planned), 1, len(planned), 0, planned[0])


def reported(request: GenerationRequest, progress: Progress) -> ImageProgress:
    """What the engine reports of an image of `request`: it counts steps over all stages.

    >>> from modules.request import Hires, Txt2Img
    >>> request = Txt2Img(steps=30, hires=Hires(width=768, height=768, steps=20))
    >>> reported(request, Progress("job.0", step=35, steps=50, stage=1, stages=2))
    ImageProgress(step=35, steps=50, stage=2, stages=2, stage_step=5, stage_steps=20)
    """
    planned = [stage.steps for stage in stages_of(request)] or [0]
    before, after = sum(planned[: progress.stage]), sum(planned[progress.stage + 1 :])
    stage_steps = max(0, progress.steps - before - after)
    stage_step = min(max(0, progress.step - before), stage_steps)
    return ImageProgress(progress.step, progress.steps, progress.stage + 1, progress.stages, stage_step, stage_steps)
