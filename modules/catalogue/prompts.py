"""What is understood of a prompt, with the checkpoint, adapters and embeddings that are here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from modules.catalogue.names import Names
from modules.checkpoints.companions import LoraInfo, text_width
from modules.checkpoints.families import FAMILIES, Family
from modules.checkpoints.files import CheckpointInfo, read_source
from modules.checkpoints.files_beside import t5_tokenizer_for
from modules.checkpoints.sources import stamp_of
from modules.diffusion.samplers import find_sampler
from modules.errors import CheckpointError, RequestError
from modules.prompts.check import PromptCheck, check
from modules.prompts.chunks import Embedding
from modules.prompts.compose import take_networks
from modules.prompts.library import Library
from modules.prompts.t5_tokenizer import T5Tokenizer
from modules.prompts.vocabulary import Vocabulary, read_vocabulary
from modules.request import GenerationRequest, parse_request

PROMPT_FIELDS = (
    "prompt",
    "negative_prompt",
    "styles",
    "seed",
    "steps",
    "sampler",
    "emphasis",
    "comments",
    "old_prompt_editing",
    "raw_text",
    "hires",
)
"""Fields of a request that decide what its prompts mean."""


class PromptChecks:
    """Checks prompts without an engine."""

    def __init__(self, names: Names, library: Library) -> None:
        self.names, self.library = names, library

    def check(self, fields: dict[str, Any]) -> PromptCheck:
        """What is understood of the prompts in `fields`; of other fields only those that matter to them are looked at.

        Raises:
            RequestError: such a field makes no sense.
        """
        given = {name: fields[name] for name in PROMPT_FIELDS if fields.get(name) is not None}
        request = parse_request(given)
        first = self._checked(request, fields.get("checkpoint"))
        if request.hires is None:
            return first
        try:
            final = self.library.finish(request.model_copy(update={"seed": max(0, request.seed)})).request
        except RequestError:  # which the first one says
            return first
        words = final.second_pass()
        before = find_sampler(request.sampler)[0].prompt_steps(request.steps)
        second = self._checked(words, request.hires.checkpoint or fields.get("checkpoint"), before)
        same = (words.prompt, words.negative_prompt) == (final.prompt, final.negative_prompt)
        plain = all(len(side.stages) == 1 for each in (first, second) for side in (*each.sides, each.negative))
        if same and plain and set(second.notes) <= set(first.notes):
            return first
        return replace(first, second=replace(second, notes=tuple(note for note in second.notes if note not in first.notes)))

    def _checked(self, request: GenerationRequest, checkpoint: Any, steps_before: int | None = None) -> PromptCheck:
        """What is understood of the prompts of one pass."""
        sampler, _ = find_sampler(request.sampler)
        usable, skipped = self._embeddings_for(checkpoint)
        loras = self.names.lora_infos() if "<" in request.prompt else []
        bundled = self._bundled(request.prompt, loras, checkpoint)
        networks = self.names.hypernetworks() if "<hypernet:" in request.prompt else []
        info, family = self._family_of(checkpoint)
        checked = check(
            request,
            self.library,
            sampler.step_ends(request.steps),
            sampler.prompt_steps(request.steps),
            networks=[name for info in loras for name in (info.name, info.alias) if name],
            hypernetworks={each.name: each.problem for each in networks},
            embeddings=[*usable, *(one for one in bundled if one.name.casefold() not in {e.name.casefold() for e in usable})],
            tokenizer=family.tokenizer() if family else None,
            whole=self._t5_tokenizer(info),
            skipped=skipped,
            vocabulary=self._vocabulary(checkpoint),
            steps_before=steps_before,
        )
        if info is None or family is None or family.words == "text":
            return checked
        texts = dict.fromkeys(stage.text for side in checked.sides for stage in side.stages)
        try:
            notes = family.prompt_notes(read_source(info.path), info.path, texts)
        except (OSError, CheckpointError):
            return checked
        return replace(checked, notes=(*checked.notes, *notes))

    def _t5_tokenizer(self, info: CheckpointInfo | None) -> T5Tokenizer | None:
        """T5's, where the checkpoint reads prompts with it."""
        try:
            return None if info is None else t5_tokenizer_for(info.path, self.names.folders)
        except (OSError, CheckpointError):
            return None

    def _family_of(self, checkpoint: Any) -> tuple[CheckpointInfo | None, Family | None]:
        """A checkpoint, the usual one where none is named, and its family, as far as they are here."""
        try:
            info = self.names.checkpoint(checkpoint if isinstance(checkpoint, str) else None)
        except RequestError:
            return None, None
        return info, FAMILIES.find(info.family)

    def _embeddings_for(self, checkpoint: Any) -> tuple[list[Embedding], dict[str, str]]:
        """Those that fit this checkpoint (or the usual one), and the others with the reason why they are skipped.

        Without any checkpoint all that are sound fit.
        """
        usable, skipped = [], {}
        found = self.names.embeddings()
        width = self._text_width(checkpoint) if found else 0
        for info in found:
            if info.problem:
                skipped[info.name] = f"{info.problem}; the word {info.name!r} is read as it is written"
            elif width and info.width != width:
                made_for = f"; it is made for {info.family}" if info.family else ""
                skipped[info.name] = (
                    f"the embedding {info.name!r} is skipped: it has vectors of {info.width} numbers, "
                    f"this checkpoint takes {width}{made_for}"
                )
            else:
                usable.append(Embedding(info.name, info.vectors, info.version))
        return usable, skipped

    def _bundled(self, prompt: str, loras: Sequence[LoraInfo], checkpoint: Any) -> list[Embedding]:
        """The textual inversions in the LoRAs that a prompt names, as far as they fit."""
        if not any(info.bundled for info in loras):
            return []
        named = {network.name.casefold() for network in take_networks(prompt)[1]}
        used = [info for info in loras if {info.name.casefold(), info.alias.casefold()} & named]
        width = self._text_width(checkpoint)
        return [Embedding(name, count) for info in used for name, count, wide in info.bundled if width in (0, wide)]

    def _text_width(self, checkpoint: Any) -> int:
        try:
            return text_width(self.names.checkpoint(checkpoint if isinstance(checkpoint, str) else None).path)
        except RequestError:
            return 0

    def _vocabulary(self, checkpoint: Any) -> Vocabulary | None:
        """The words that this checkpoint (or the usual one) was trained on; None where its file does not list them."""
        try:
            path = self.names.checkpoint(checkpoint if isinstance(checkpoint, str) else None).path
            return _vocabulary_in(path, *stamp_of(path))
        except (OSError, RequestError, CheckpointError):
            return None


@lru_cache(maxsize=8)
def _vocabulary_in(path: Path, *stamp: int) -> Vocabulary | None:
    """`stamp` is there to read a replaced file anew."""
    return read_vocabulary(read_source(path).metadata)
