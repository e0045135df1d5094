"""What a task ends with: the messages of a finished picture and of a failure."""

from __future__ import annotations

import traceback

import torch

from modules.diffusion import eight_bits
from modules.engine.messages import Done, Failed, Message
from modules.engine.task import Task
from modules.errors import AtelierError, OutOfMemory
from modules.extensions.isolation import ISOLATION, blamed
from modules.pipelines.painted import Painted


def finished(task: Task) -> Message:
    """The picture of a task whose pipeline has ended, and what its record says."""
    painted = task.result
    assert painted is not None, "a pipeline ends with a picture or an error"
    height, width, _ = painted.pixels.shape
    done = Done(
        task=task.id,
        width=width,
        height=height,
        schedule=painted.schedule,
        model_name=painted.model.info.name if painted.model else "",
        model_hash=painted.model.hash.value()[:10] if painted.model else "",
        extras=dict(painted.extras),
        facts=_facts(task, painted),
        extensions=sorted(task.picture.used - task.picture.failed),
        pixels=painted.pixels.numpy().tobytes(),
    )
    return done.message()


def failed(task_id: str, error: BaseException) -> Message:
    """The cause as text: a stored exception would keep its frames' tensors alive."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        error = OutOfMemory("the device has not enough memory for this picture; choose a smaller size")
    expected = isinstance(error, AtelierError)
    text = str(error) if expected else f"{type(error).__name__}: {error}"
    if not expected and (name := blamed(error)):
        text = f"{ISOLATION.failed(name, 'a picture', error).sentence}; the picture cannot be made without what it asks of it"
    trace = "" if expected else "".join(traceback.format_exception(error))
    return Failed(task_id, text, trace).message()


def _facts(task: Task, painted: Painted) -> dict[str, str]:
    """What the record says: the number format where it is not float32, and that of weights kept in fewer bits, as rounding is
    seen; notes on how the task was run, one of them on where its denoising loop was ended before its last step."""
    facts = dict(painted.facts)
    notes = list(dict.fromkeys([*(note for model in task.models for note in model.notes), *task.notes, *task.picture.notes]))
    if painted.model is not None and painted.model.dtype != torch.float32:
        facts["dtype"] = str(painted.model.dtype).removeprefix("torch.")
    if any(model.in_eight_bits for model in task.models):
        facts["weights"] = str(eight_bits.FORMAT).removeprefix("torch.")
    if task.ended_at is not None:
        notes.append("interrupted after step {} of {}".format(*task.ended_at))
    if notes:
        facts["notes"] = ". ".join([*([facts["notes"]] if facts.get("notes") else []), *notes])
    return facts
