"""What a call of the device is known as among the costs."""

from __future__ import annotations

from modules.engine.costs import Call
from modules.engine.runner import batch_key, work_of
from modules.pipelines.ops import Decode, DeviceOp, Encode, EncodeImage, Predict, Upscale


def call_of(op: DeviceOp, rows: int) -> Call:
    """A batch of `rows` ops like this one."""
    if isinstance(op, Encode):
        return Call("encode", op.model.info.name, rows=rows)
    if isinstance(op, Upscale):
        return Call("upscale", op.model.info.name, op.image.shape[2], op.image.shape[1], rows)
    assert isinstance(op, Predict | EncodeImage | Decode)
    _, _, (_, height, width) = batch_key(op)
    return Call(work_of(op), op.model.info.name, width * op.model.latent.factor, height * op.model.latent.factor, rows)
