"""The models of a request's stages: its checkpoint, and that of a second pass where it is another one."""

from __future__ import annotations

from collections.abc import Sequence

from modules.checkpoints.handle import ModelHandle
from modules.checkpoints.second_passes import second_pass_problem
from modules.checkpoints.taesd import Half
from modules.errors import RequestError
from modules.pipelines.ops import Program, load
from modules.pipelines.stages import Stage
from modules.request import Txt2Img


def load_stages(stages: Sequence[Stage]) -> Program[dict[str, ModelHandle]]:
    """The models of the stages by checkpoint, the first stage's last: what was loaded last is what the next image is likely to
    begin with.

    Raises:
        RequestError: a second pass cannot be run with its checkpoint.
    """
    request, models = stages[0].settings, dict[str, ModelHandle]()
    for stage in reversed(stages):
        if (name := stage.settings.checkpoint or "") not in models:
            models[name] = yield from load(name, request.vae, taesd_of(request))
    first = models[request.checkpoint or ""]
    for stage in stages[1:]:
        other = models[stage.settings.checkpoint or ""]
        if other is not first and (
            problem := second_pass_problem(first.info.name, first.family, other.info.name, other.family, stage.upscaler)
        ):
            raise RequestError(f"hires.checkpoint: {problem}")
    return models


def taesd_of(request: Txt2Img) -> tuple[Half, ...]:
    """The halves of TAESD that the request asks for."""
    asked: dict[Half, str] = {"decoder": request.vae_decoder, "encoder": request.vae_encoder}
    return tuple([half for half, method in asked.items() if method == "TAESD"])
