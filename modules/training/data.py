"""The training data: scenes as arrays with their captions' rows (stage "render"), and batches of their pictures."""

from __future__ import annotations

import dataclasses
import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modules.training.captions import Rows, Vocabulary, caption
from modules.training.composition import Composer, to_unit
from modules.training.loop import replaced, rng
from modules.training.recipe import Recipe
from modules.training.scenes import Floats, SceneSampler, arrays, variants

CHUNK = 1024  # scenes that one worker draws at a time
FREE_GROUNDS = 0.33  # share of the autoencoder's pictures on a ground of any colour, that it may learn colours and not a table
BULK = 16  # batches that are composed at a time


@dataclass(frozen=True)
class Scenes:
    """N scenes: slots (N, 9, 4) and grounds (N, 7) as `Composer.compose` takes them, rows (N, captions, 77) of vocabulary."""

    slots: Floats
    grounds: Floats
    rows: Rows

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def alone(self) -> npt.NDArray[np.int64]:
        """The numbers of scenes with one glyph."""
        return np.nonzero(self.slots[:, 1, 0] < 0)[0]

    def save(self, file: Path) -> None:
        with replaced(file) as partial, partial.open("wb") as handle:
            np.savez(handle, **dataclasses.asdict(self))

    @classmethod
    def load(cls, file: Path) -> Scenes:
        with np.load(file) as kept:
            return cls(kept["slots"], kept["grounds"], kept["rows"])


def draw_scenes(recipe: Recipe, seed: int = 1, workers: int = 1) -> Scenes:
    """`recipe.scenes` scenes, the same for any number of worker processes."""
    counts = [min(CHUNK, recipe.scenes - start) for start in range(0, recipe.scenes, CHUNK)]
    draw = partial(_draw_chunk, recipe.names, recipe.captions, seed)
    if workers == 1:
        chunks = [draw(number, count) for number, count in enumerate(counts)]
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            chunks = list(pool.map(draw, range(len(counts)), counts))
    slots, grounds, rows = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    return Scenes(slots, grounds, rows)


def _draw_chunk(names: Sequence[str], captions: int, seed: int, number: int, count: int) -> tuple[Floats, Floats, Rows]:
    rand = rng(seed, number)
    sampler, vocabulary = SceneSampler(names), Vocabulary(names)
    numbers = {variant: index for index, variant in enumerate(variants(names))}
    scenes = [sampler.draw(rand) for _ in range(count)]
    rows = np.stack([vocabulary.rows([caption(scene, rand) for _ in range(captions)], rand) for scene in scenes])
    return (*arrays(scenes, numbers, rand), rows)


def empty_rows(vocabulary: Vocabulary, count: int = 512, seed: int = 3) -> Rows:
    """Rows (count, 77) of empty captions, some with unknown words: what guidance compares with, and negative prompts."""
    return vocabulary.rows([""] * count, random.Random(seed))


class Pictures:
    """Batches of pictures by step number: (B, 3, S, S) in [-1, 1], of random scenes, half of the batches mirrored."""

    def __init__(self, scenes: Scenes, composer: Composer, batch: int, seed: int) -> None:
        self.scenes, self.composer, self.batch, self.seed = scenes, composer, batch, seed
        self._bulk: tuple[int, Tensor] | None = None

    def at(self, step: int) -> Tensor:
        number, place = divmod(step, BULK)
        if self._bulk is None or self._bulk[0] != number:
            self._bulk = number, self._composed(np.random.default_rng((self.seed, number)))
        x = to_unit(self._bulk[1][place * self.batch : (place + 1) * self.batch])
        return x.flip(3) if rng(self.seed, step).random() < 0.5 else x

    def _composed(self, generator: np.random.Generator) -> Tensor:
        chosen = generator.integers(0, len(self.scenes), self.batch * BULK)
        grounds = self.scenes.grounds[chosen].copy()
        free = generator.random(len(chosen)) < FREE_GROUNDS
        colours = generator.uniform(0, 255, (int(free.sum()), 3)).astype(np.float32)
        grounds[free, 0:3] = grounds[free, 3:6] = colours
        return self.composer.compose(self.scenes.slots[chosen], grounds).round().byte()


def pictures_of(scenes: Scenes, composer: Composer, chosen: npt.NDArray[np.int64]) -> Tensor:
    """(B, 3, S, S) in [-1, 1] of these scenes; colours are whole numbers of 255, as in a file."""
    return to_unit(composer.compose(scenes.slots[chosen], scenes.grounds[chosen]).round())


def prepared(device: torch.device) -> torch.device:
    """Make the device ready: TF32 where float32 is left, cuDNN's kernels by measurement, and attention without cuDNN's, which
    plans anew for every shape."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.enable_cudnn_sdp(False)
    return device
