"""What a call of the device is known as among the costs."""

from __future__ import annotations

from modules.engine.costs import Call
from modules.engine.runner import batch_key, work_of
from modules.pipelines.ops import Decode, DeviceOp, Encode, EncodeImage, Predict


def call_of(op: DeviceOp, rows: int) -> Call:
    """A batch of `rows` ops like this one."""
    if isinstance(op, Encode):
        return Call("encode", op.model.info.name, rows=rows)
    assert isinstance(op, Predict | EncodeImage | Decode)
    _, model, (_, height, width) = batch_key(op)
    return Call(work_of(op), model.info.name, width * model.latent.factor, height * model.latent.factor, rows)
