"""An engine in this process, driven tick by tick, with everything that it says kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modules.checkpoints.manager import ModelManager
from modules.diffusion.attention import sdpa
from modules.engine.engine import Engine
from modules.engine.messages import Message, Submit
from modules.images.uploads import pixel_id
from modules.pipelines.generate import generate
from modules.pipelines.reference import run_reference
from modules.pipelines.stages import stages_of
from modules.request import parse_request
from modules.roles import ROLE_FIELDS
from tests.tiny import tiny_checkpoint


@dataclass
class Bench:
    """`engine` with its messages in `said`; `request` makes small ones; `alone` is the reference runner's picture."""

    manager: ModelManager
    exact: bool = False
    said: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = Engine(self.manager, self.said.append, self.exact)

    def request(self, **fields: Any) -> dict[str, Any]:
        basics = {"prompt": "a cat", "seed": 1, "steps": 3, "width": 64, "height": 64, "checkpoint": "tiny", "cfg_scale": 5.0}
        return {**basics, **fields}

    def submit(self, task: str, user: str = "u", **fields: Any) -> None:
        """Fields `source` and `mask` may be pictures."""
        fields, pictures = named_pictures(fields)
        self.engine._handle(Submit.of(task, user, self.request(**fields), pictures).message())

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Tick until no pipeline is left, or `until` holds."""
        with torch.inference_mode():
            while self.engine.tasks and not until():
                self.engine.tick()

    def of(self, kind: str) -> dict[str, Message]:
        return {message.data["task"]: message for message in self.said if message.kind == kind}

    def pixels(self, task: str) -> np.ndarray:
        message = self.of("done")[task]
        return np.frombuffer(message.blob, np.uint8).reshape(message.data["height"], message.data["width"], 3).astype(int)

    def alone(self, **fields: Any) -> np.ndarray:
        fields, pictures = named_pictures(fields)
        request = parse_request(self.request(**fields))
        return run_reference(generate(stages_of(request), pictures), self.manager).pixels.numpy().astype(int)


def named_pictures(fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """Fields with ids in the place of pictures, and the pictures by role."""
    pictures = {name: fields[name] for name in ROLE_FIELDS if isinstance(fields.get(name), Image.Image)}
    named = {name: pixel_id(picture) for name, picture in pictures.items()}
    return {**fields, **named}, {ROLE_FIELDS[name]: picture for name, picture in pictures.items()}


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_checkpoint(folder / "tiny.safetensors")
    return folder


@pytest.fixture
def manager(tiny_models: Path, tmp_path: Path) -> ModelManager:
    return ModelManager([tiny_models], torch.device("cpu"), torch.float32, sdpa, cache=tmp_path / "hashes.json")


@pytest.fixture
def bench(manager: ModelManager) -> Bench:
    return Bench(manager)
