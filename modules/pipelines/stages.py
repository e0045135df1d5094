"""The stages of a request: each denoising loop as frozen data.

txt2img is one stage from noise, img2img (inpainting, outpainting and editing too) one from a picture, and a second pass
("hires") one more from what the first made.  Without torch: estimates count stages too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modules.diffusion.samplers import find_sampler
from modules.diffusion.schedules import run_steps
from modules.request import Img2Img, Txt2Img

Start = Literal["noise", "latent", "picture"]
"""What noise is added to: nothing, the latent of the stage before, or a picture: that stage's, or the init image."""


@dataclass(frozen=True)
class Stage:
    """One denoising loop.

    `settings` is the stage as a request of its own: its checkpoint, size, prompts, sampler, schedule, steps, guidance, seeds,
    and, where it begins with the init image, masks and inpaint region.  `strength` is how much of the noise schedule is run,
    all of it from noise; with `exactly` so long a schedule is made that `settings.steps` steps are run at any strength.
    `upscaler` brings the result of the stage before to this one's size, "" in the first stage.  `steps_before` are the steps of
    the stage before, from which prompt editing goes on counting.
    """

    settings: Txt2Img
    start: Start = "noise"
    strength: float = 1.0
    exactly: bool = False
    upscaler: str = ""
    steps_before: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.settings.width, self.settings.height

    @property
    def steps(self) -> int:
        """How many steps the loop has: fewer than `settings.steps` where only a part of the schedule is run."""
        if self.start == "noise":
            return self.settings.steps
        sampler, _ = find_sampler(self.settings.sampler)
        return run_steps(sampler, self.settings.steps, self.strength, self.exactly)


def stages_of(request: Txt2Img) -> tuple[Stage, ...]:
    """The stages of one image of `request`, in order.

    A second pass runs exactly its number of steps, as in A1111 (`sd_samplers_common.setup_img2img_steps`).
    """
    if isinstance(request, Img2Img):
        return (Stage(request, "picture", request.denoising_strength, request.fix_steps),)
    if (hires := request.hires) is None:
        return (Stage(request),)
    second = Stage(
        request.second_pass(),
        "latent" if hires.upscaler.startswith("Latent") else "picture",
        hires.denoising_strength,
        exactly=True,
        upscaler=hires.upscaler,
        steps_before=find_sampler(request.sampler)[0].prompt_steps(request.steps),
    )
    return Stage(request), second
