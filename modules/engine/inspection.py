"""What is in the engine's memory, and whose images run it: checkpoints, upscalers and adapters, for people."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from modules.checkpoints.manager import ModelManager
from modules.engine.messages import InMemory
from modules.engine.task import Task
from modules.pipelines.ops import Encode, Predict


def in_memory(manager: ModelManager, tasks: Iterable[Task]) -> InMemory:
    """As it is now."""
    now, models = time.monotonic(), []
    running = list(tasks)
    for handle in manager.loaded:
        users = {task.user for task in running if any(model.network is handle for model in task.models)}
        used = max((component.used for component in handle.components), default=now)
        models.append(_model(handle.info.name, "checkpoint", handle.size, str(handle.device), users, now - used))
    for upscaler in manager.upscalers.loaded:
        users = {task.user for task in running if upscaler in task.upscalers}
        used = max(component.used for component in upscaler.components)
        models.append(_model(upscaler.info.name, "upscaler", upscaler.size, str(upscaler.device), users, now - used))
    users_of: dict[str, set[str]] = {}
    for task in running:
        for name in _adapters(task):
            users_of.setdefault(name, set()).add(task.user)
    for name, (size, used) in manager.builder.loras.in_memory().items():
        models.append(_model(name, "lora", size, str(manager.device), users_of.get(name, set()), now - used))
    return InMemory(models)


def _model(name: str, kind: str, size: int, device: str, users: set[str], idle: float) -> dict[str, Any]:
    idle = 0.0 if users else max(0.0, round(idle, 1))
    return {"name": name, "kind": kind, "bytes": size, "device": device, "users": sorted(users), "idle_seconds": idle}


def _adapters(task: Task) -> set[str]:
    """The names of the adapters in what a task waits for."""
    if isinstance(task.op, Predict):
        return {adapter.name for row in task.op.rows for adapter, _ in row.adapters}
    return {adapter.name for adapter, _ in task.op.adapters} if isinstance(task.op, Encode) else set()
