"""What a family of models is to everything else: it recognises its files, checks them, and makes networks of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modules.checkpoints.families.parts import DEFAULTS, Concat, Defaults, LatentFormat, VectorNumbers, Words
from modules.diffusion.samplers import Sampler, find_sampler
from modules.diffusion.schedules import resolve_schedule

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from modules.checkpoints.header import Header
    from modules.checkpoints.model_file import ModelFile
    from modules.diffusion.networks import Networks
    from modules.prompts.chunks import Encodes


@dataclass(frozen=True, kw_only=True)
class Family(ABC):
    """Models that are run in the same way: how their files are recognised and checked, and what becomes of one.

    A family of another kind of network than the U-Nets of `unet.UNetFamily` is a subclass in one file, and an entry of a
    plugin (`hooks.Shared.families`).  What `load` needs of torch it imports itself: the web process recognises files too.
    """

    name: str
    title: str
    latent: LatentFormat
    defaults: Defaults = DEFAULTS
    about: str = ""
    """What such a checkpoint does, in a sentence, where its file has no description and that is no matter of course."""

    @property
    def concat(self) -> Concat:
        """What the network gets as concat conditioning."""
        return ""

    @property
    def words(self) -> Words:
        """What the prompt is for the network."""
        return "text"

    def tokenizer(self) -> Encodes | None:
        """That of its text encoder; None for CLIP's."""
        return None

    def motifs(self, header: Header, path: Path) -> tuple[str, ...]:
        """What the file at `path` can paint, where that is little enough to be listed."""
        return ()

    def prompt_notes(self, header: Header, path: Path, texts: Iterable[str]) -> list[str]:
        """Sentences about texts of a prompt that mean nothing to the file at `path`."""
        return []

    @property
    def noises_low_res(self) -> bool:
        """Whether a picture to be enlarged gets noise, whose level the network is told."""
        return False

    @property
    def black_masks(self) -> bool:
        """How a mask is shown: as its picture's latent, black where it is painted, and behind it -1 or 1; not as 0 or 1 in
        front of a latent that is grey there."""
        return False

    @property
    def numbers(self) -> VectorNumbers:
        """What the network is told of a picture beside its prompt."""
        return ()

    @property
    def distilled(self) -> bool:
        """Whether the network is told a guidance scale (distilled guidance)."""
        return False

    @property
    def unguided(self) -> str:
        """Why its networks are run at a CFG scale of 1, a sentence; "" where classifier-free guidance belongs to them."""
        return ""

    def refuses_sampler(self, sampler: Sampler) -> str:
        """Why a sampler makes no sense with its networks: a sentence of which the sampler is "it", "" where it does."""
        return ""

    def refuses_schedule(self, schedule: str) -> str:
        """The same of a schedule's label, which is not Automatic."""
        return ""

    def refuses(self, sampler: str, schedule: str) -> str:
        """What is said of a request with this sampler and this schedule, where one of them makes no sense: the rest of a
        sentence that begins with the name of the request's field; "" where both do.

        Raises:
            UnknownName: there is no such sampler or schedule.
        """
        found, _ = find_sampler(sampler)
        if why := self.refuses_sampler(found):
            return f"sampler: {found.name} does not fit {self.title}: {why}; choose {self.defaults.sampler}"
        label = resolve_schedule(schedule, found)
        if label != "Automatic" and (why := self.refuses_schedule(label)):  # a sampler with levels of its own has none
            return f"schedule: {label} does not fit {self.title}: {why}; choose {self.defaults.schedule}"
        return ""

    def defaults_of(self, header: Header, path: Path) -> Defaults:
        """What the file at `path` is best run with, where it does not say so itself."""
        return self.defaults

    def detects(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether a file with these tensors (names as `keys.canonical` gives them) is of this family, whatever its size.

        U-Net families say no: their files share the tensors that they are known by; `recognise` distinguishes them together.
        """
        return False

    @abstractmethod
    def check(self, header: Header) -> None:
        """Refuse a file of this family that could not be loaded, by its header alone.

        Raises:
            CheckpointError: the message is the rest of a sentence that begins with the file's name.
        """

    @abstractmethod
    def load(self, file: ModelFile) -> Networks:
        """The networks of a file of this family, on the device.

        Raises:
            CheckpointError: as `check`.
        """
