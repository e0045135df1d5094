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
from modules.images.sources import pixel_id
from modules.pipelines.alone import run_alone
from modules.pipelines.img2img import img2img
from modules.pipelines.txt2img import txt2img
from modules.request import Img2Img, parse_request
from tests.tiny import tiny_checkpoint


@dataclass
class Bench:
    """`engine` with its messages in `said`; `request` makes small ones; `alone` is the slow twin's picture."""

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
        """Tick until no story is left, or `until` holds."""
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
        story = img2img(request, *pictures) if isinstance(request, Img2Img) else txt2img(request)
        return run_alone(story, self.manager).pixels.numpy().astype(int)


def named_pictures(fields: dict[str, Any]) -> tuple[dict[str, Any], list[Image.Image]]:
    """Fields with ids in the place of pictures, and the pictures."""
    pictures = {name: fields[name] for name in ("source", "mask") if isinstance(fields.get(name), Image.Image)}
    return {**fields, **{name: pixel_id(picture) for name, picture in pictures.items()}}, list(pictures.values())


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
