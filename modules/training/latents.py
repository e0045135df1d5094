"""Stages 1 and 3: the scenes, and the cache of their latents that the denoiser learns from.

`recombine` makes new pairs out of old ones: the left half of one latent beside the right half of another on the same
ground. It costs nothing, and the denoiser meets practically all pairs of motifs instead of the few thousand rendered.
"""

from __future__ import annotations

import dataclasses
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from modules.training.autoencoder import LatentAutoencoder, pixels_to_tensor
from modules.training.concepts import CONCEPTS
from modules.training.loop import write_atomically
from modules.training.rendering import Placed, Scene, draw_scene, render


def draw_scenes(count: int, seed: int = 0) -> list[Scene]:
    """`count` scenes in which every motif has the first place equally often."""
    rand, names = random.Random(seed), list(CONCEPTS)
    return [draw_scene(rand, names[index % len(names)]) for index in range(count)]


def write_scenes(scenes: Sequence[Scene], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(dataclasses.asdict(scene)) + "\n" for scene in scenes))


def read_scenes(file: Path) -> list[Scene]:
    def scene(line: str) -> Scene:
        data = json.loads(line)
        objects = tuple(Placed(**placed) for placed in data["objects"])
        return Scene(data["layout"], objects, data["ground"], tuple(data["tint"]))

    return [scene(line) for line in file.read_text().splitlines()]


@dataclass(frozen=True)
class Cache:
    """Latents (N, 4, h, w), standardised over the whole cache, with their scenes in the same order.

    `mean` and `deviation` are those of the raw latents; the export folds them into the autoencoder.
    """

    latents: Tensor
    mean: Tensor
    deviation: Tensor
    scenes: Sequence[Scene]

    @property
    def raw(self) -> Tensor:
        """The latents as the encoder gives them."""
        return self.latents * self.deviation[:, None, None] + self.mean[:, None, None]

    @property
    def twins(self) -> dict[str | None, list[int]]:
        """The pairs by their ground: any two of a list may exchange their right halves."""
        groups: dict[str | None, list[int]] = defaultdict(list)
        for index, scene in enumerate(self.scenes):
            if scene.layout == "pair":
                groups[scene.ground].append(index)
        return groups


def encode_all(model: LatentAutoencoder, scenes: Sequence[Scene], file: Path, workers: int = 2, batch: int = 8) -> Cache:
    """Encode every scene in `workers` threads, write the cache to `file`."""
    torch.set_num_threads(1)  # threads that never wait for each other: see `parallel`
    began = time.monotonic()

    @torch.no_grad()
    def encode(start: int) -> Tensor:
        x = pixels_to_tensor([render(scene) for scene in scenes[start : start + batch]])
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.vae.encode(x)[0].float()
        if start % (200 * batch) == 0:
            print(f"cache: {start} of {len(scenes)}, {time.monotonic() - began:.0f} s", flush=True)
        return latents

    model.eval()
    with ThreadPoolExecutor(workers) as pool:
        raw = torch.cat(list(pool.map(encode, range(0, len(scenes), batch))))
    mean, deviation = raw.mean((0, 2, 3)), raw.std((0, 2, 3))
    latents = (raw - mean[:, None, None]) / deviation[:, None, None]
    write_atomically({"latents": latents.half(), "mean": mean, "deviation": deviation}, file)
    return Cache(latents, mean, deviation, scenes)


def load(file: Path, scenes: Sequence[Scene]) -> Cache:
    state = torch.load(file, weights_only=True)
    if len(state["latents"]) != len(scenes):
        raise ValueError(f"{file} holds {len(state['latents'])} latents for {len(scenes)} scenes; run the cache stage again")
    return Cache(state["latents"].float(), state["mean"], state["deviation"], scenes)


def recombine(cache: Cache, left: int, right: int) -> tuple[Tensor, Scene]:
    """The left half of pair `left` beside the right half of pair `right`, as a latent and as a scene."""
    half = cache.latents.shape[-1] // 2
    latent = torch.cat([cache.latents[left, ..., :half], cache.latents[right, ..., half:]], dim=-1)
    scene = cache.scenes[left]
    return latent, dataclasses.replace(scene, objects=(scene.objects[0], cache.scenes[right].objects[1]))
