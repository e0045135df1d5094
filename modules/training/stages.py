"""The stages that make a starter file, in their order; each reads what the ones before left in the work folder and takes up its
own unfinished state."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from modules.errors import SettingsError
from modules.training import autoencoder, denoiser, export, latents, practice, rewording
from modules.training.captions import Vocabulary, caption
from modules.training.composition import Composer, to_pixels, to_unit
from modules.training.data import Scenes, draw_scenes
from modules.training.glyphs import coloured_glyphs, drawn_glyphs, read_glyphs
from modules.training.loop import Budget
from modules.training.recipe import Recipe
from modules.training.scenes import SceneSampler, arrays
from modules.training.sheets import contact_sheet

SHARES = {"autoencoder": 0.27, "polish": 0.08, "denoiser": 0.55, "wording": 0.10}  # of a budget for all
PRACTICE = 0.10  # of such a budget, beside it


@dataclass
class Work:
    """A work folder and what is made there. `font` None: stand-ins instead of glyphs."""

    folder: Path
    recipe: Recipe
    device: torch.device
    font: Path | None

    def __post_init__(self) -> None:
        self._composer: Composer | None = None

    @property
    def composer(self) -> Composer:
        """Made on first use: it takes seconds."""
        if self._composer is None:
            names = self.recipe.names
            glyphs = drawn_glyphs(names) if self.font is None else read_glyphs(self.font, names)
            self._composer = Composer(*coloured_glyphs(glyphs), self.recipe.picture, self.device)
        return self._composer

    @property
    def scenes(self) -> Scenes:
        return Scenes.load(self.needed("scenes.npz", "render"))

    def needed(self, name: str, stage: str) -> Path:
        """A file of an earlier stage.

        Raises:
            SettingsError: it is not there.
        """
        file = self.folder / name
        if not file.exists():
            raise SettingsError(f"{file} is not there; run the stage {stage} first.")
        return file

    def render(self, workers: int) -> None:
        """Draw the scenes and their captions, and a captioned sheet of 64 others to look at."""
        scenes = draw_scenes(self.recipe, workers=workers)
        scenes.save(self.folder / "scenes.npz")
        sampler, rng = SceneSampler(self.recipe.names), random.Random(0)
        examples = [sampler.draw(rng) for _ in range(64)]
        pictures = to_pixels(to_unit(self.composer.compose(*arrays(examples, self.composer.numbers, rng))))
        captions = [caption(scene, rng) for scene in examples]
        contact_sheet(pictures, captions).save(self.folder / "scenes.png")
        print(f"render: {len(scenes)} scenes in {self.folder}", flush=True)

    def autoencoder(self, budget: Budget) -> None:
        autoencoder.train(self.recipe, self.scenes, self.composer, self.folder / "autoencoder.pt", budget)

    def cache(self) -> None:
        model = autoencoder.load(self.recipe, self.needed("autoencoder.pt", "autoencoder"), self.device)
        latents.encode_all(model, self.scenes, self.composer, self.folder / "latents.pt")

    def polish(self, budget: Budget) -> None:
        scenes = self.scenes
        start = self.needed("autoencoder.pt", "autoencoder")
        z = latents.load(self.needed("latents.pt", "cache"), scenes)
        autoencoder.polish(self.recipe, scenes, self.composer, z, start, self.folder / "polished.pt", budget)

    def denoiser(self, budget: Budget) -> None:
        scenes = self.scenes
        z = latents.load(self.needed("latents.pt", "cache"), scenes)
        denoiser.train(self.recipe, scenes, z, self.folder / "denoiser.pt", budget, self.device)

    def export(self, model: Path, cfg_scale: float) -> None:
        """Write the file from the averaged weights of finished or running stages."""
        polished = self.folder / "polished.pt"
        pixels = polished if polished.exists() else self.needed("autoencoder.pt", "autoencoder")
        vae = autoencoder.load(self.recipe, pixels, self.device)
        network = denoiser.load(self.recipe, self.needed("denoiser.pt", "denoiser"), self.device)
        state = export.assemble(vae, network, Vocabulary(self.recipe.names).tokens)
        export.write(state, model, export.metadata(self.recipe, cfg_scale))
        print(f"{model}: {model.stat().st_size:,} bytes", flush=True)

    def wording(self, budget: Budget, model: Path, teacher: Path | None = None) -> None:
        """Teach the text encoder of an exported file to read over words that name nothing; the file is written anew.

        `teacher` is a file of before this stage, where `model` went through it already.
        """
        rewording.reword(model, self.folder, budget, self.device, teacher)

    def practice(self, budget: Budget, model: Path, missed: Sequence[str]) -> None:
        """Train the U-Net of an exported file further on motifs that it misses; the file is written anew."""
        practice.practise(model, self.composer, missed, self.folder, budget, self.device, self.recipe.practice_scenes)

    def everything(self, budget: Budget, model: Path, cfg_scale: float, workers: int) -> None:
        """All of it; stages that are finished are passed over, unfinished ones go on."""
        if not (self.folder / "scenes.npz").exists():
            self.render(workers)
        self.autoencoder(_part(budget, "autoencoder"))
        self.cache()
        self.polish(_part(budget, "polish"))
        self.denoiser(_part(budget, "denoiser"))
        self.export(model, cfg_scale)
        self.wording(_part(budget, "wording"), model)


def _part(budget: Budget, stage: str) -> Budget:
    """A stage's share of the seconds; of steps each stage takes all."""
    return budget if budget.steps is not None else Budget(budget.seconds * SHARES[stage])
