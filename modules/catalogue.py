"""What can be asked for: the checkpoints in the models folders, and a full request from some of its fields.

It knows files' headers and tables of names; not jobs, users or the engine, and it never imports torch.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from modules.checkpoints.companions import (
    EmbeddingInfo,
    HypernetworkInfo,
    LoraInfo,
    lora_file,
    lora_names,
    lora_of_hash,
    scan_embeddings,
    scan_hypernetworks,
    scan_loras,
    text_width,
)
from modules.checkpoints.families import FAMILIES, Family
from modules.checkpoints.files import CheckpointInfo, Defaults, find, read_source, scan
from modules.checkpoints.footprint import Weights, weights_in
from modules.checkpoints.refiners import refiner_problem
from modules.checkpoints.second_passes import second_pass_problem
from modules.checkpoints.sources import stamp_of
from modules.checkpoints.taesd import HALVES, TinyInfo, scan_taesd, taesd_for
from modules.checkpoints.upscalers import UpscalerInfo, find_upscaler, no_files, scan_upscalers
from modules.checkpoints.vaes import AUTOMATIC, OWN, VaeInfo, find_vae, scan_vaes
from modules.diffusion.samplers import find_sampler
from modules.diffusion.samplers.relevance import relevant
from modules.diffusion.schedules import find_schedule
from modules.errors import CheckpointError, RequestError, UnknownName
from modules.model_library.edits import own_defaults
from modules.pipelines.stages import checkpoints_of, stages_of
from modules.pixels.enlarging import hires_upscalers
from modules.prompts.check import PromptCheck, check
from modules.prompts.chunks import Embedding
from modules.prompts.compose import take_networks
from modules.prompts.library import Library
from modules.prompts.limits import check_affordable, check_windows
from modules.prompts.plan import plan
from modules.prompts.tokenizer import Tokenizer
from modules.prompts.vocabulary import Vocabulary, read_vocabulary
from modules.request import (
    GenerationRequest,
    Hires,
    Img2Img,
    RefinerOptions,
    TileOptions,
    Txt2Img,
    Upscaling,
    parse_request,
)
from modules.request.checkpoint import SIZE_FIELDS
from modules.request.starting import FROM_NOISE, NOISE_LEVEL, NOT_ENLARGING, starting_problem
from modules.request.tiles import tiles_of

DRAWN_SEEDS = 2**32
"""Random seeds are below: short enough to be copied, and exact in every JSON reader."""

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

COST_FIELDS = (
    *("width", "height", "count", "steps", "sampler", "cfg_scale"),
    *("pag_scale", "sag_scale", "source", "pictures", "denoising_strength", "fix_steps", "hires"),
    *("refiner", "refiner_switch_at", "refiner_pass", "refiner_by_steps", "vae", "vae_decoder", "vae_encoder"),
    *TileOptions.model_fields,
)
"""Fields of a request that decide what it costs, beside its checkpoint."""

_DEFAULTS = frozenset(field.name for field in fields_of(Defaults))
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class Catalogue:
    """Names to things that exist.

    Args:
        folders: models folders.
        library: the instance's styles and wildcards.
        latest: the checkpoint that was asked for last, None when there was none.
    """

    def __init__(self, folders: Sequence[Path], library: Library, latest: Callable[[], str | None]) -> None:
        self.folders, self.library, self._latest = folders, library, latest

    def checkpoints(self) -> list[CheckpointInfo]:
        """All files in the models folders, usable ones first; the others say what their problem is."""
        return [_as_preferred(info) for info in self._scanned()]

    def _scanned(self) -> list[CheckpointInfo]:
        return sorted(scan(self.folders), key=lambda info: (bool(info.problem), info.name.lower()))

    def checkpoint(self, name: Any) -> CheckpointInfo:
        """The usable checkpoint of that name, which may be any text, or the default one when it is none.

        Raises:
            RequestError: there is none, or it cannot be used.
        """
        return _as_preferred(self._checkpoint(name))

    def _checkpoint(self, name: Any) -> CheckpointInfo:
        """`checkpoint`, with the defaults of its file alone."""
        if name and not isinstance(name, str):
            raise RequestError(f"checkpoint: must be the name of one, as text; {repr(name)[:60]} was given")
        if name:
            info = find(self.folders, name)
        else:
            default = self._default()
            if default is None:
                folders = ", ".join(str(folder) for folder in self.folders)
                raise RequestError(f"no checkpoint found; put an SD 1.x .safetensors file into {folders}")
            info = default
        if info.problem:
            raise RequestError(f"checkpoint {info.name!r} cannot be used: {info.problem}")
        return info

    def vaes(self) -> list[VaeInfo]:
        """All autoencoders in files of their own; those that cannot be used say why."""
        return scan_vaes(self.folders)

    def vae(self, name: str) -> str:
        """The name of the autoencoder that `name` means: Automatic, None or a file's.

        Raises:
            UnknownName: there is none.
            RequestError: its file cannot be used.
        """
        for known in (AUTOMATIC, OWN):
            if name.casefold() == known.casefold():
                return known
        try:
            return find_vae(self.folders, name).name
        except CheckpointError as error:
            raise RequestError(f"vae: {error}") from None

    def _check_taesd(self, request: GenerationRequest, family: Family | None) -> None:
        """Refuse a request for TAESD that is not here for its checkpoint.

        Raises:
            RequestError: with the file that is missing, or what is wrong with it.
        """
        for half in HALVES:
            if getattr(request, f"vae_{half}") == "TAESD" and family is not None:
                try:
                    taesd_for(self.folders, family.latent, half)
                except CheckpointError as error:
                    raise RequestError(str(error)) from None

    def _check_noise_levels(self, request: Txt2Img, first: CheckpointInfo) -> None:
        """Refuse a sampler or a schedule that makes no sense with the checkpoint of a stage, or with its refiner.

        Raises:
            RequestError: with the reason.
        """
        for number, stage in enumerate(stages_of(request)):
            own = stage.settings
            for name in (own.checkpoint or first.name, stage.refiner):
                family = self._family_named(name, first)
                if family is not None and (why := family.refuses(own.sampler, own.schedule)):
                    field = why.partition(":")[0]
                    second = number > 0 and request.hires is not None and bool(getattr(request.hires, field, None))
                    raise RequestError(f"hires.{why}" if second else why)

    def _family_named(self, name: str, first: CheckpointInfo) -> Family | None:
        """The family of `first` or of another checkpoint; None where it is not known, and for no name."""
        return FAMILIES.find(first.family if name == first.name else find(self.folders, name).family) if name else None

    def _fitting(self, schedule: str, sampler: str, name: str, first: CheckpointInfo) -> str:
        """The schedule of a pass; where Automatic is one that the checkpoint refuses, that which its family is run with."""
        family = self._family_named(name, first)
        if schedule != "Automatic" or family is None or family.refuses_sampler(find_sampler(sampler)[0]):
            return schedule
        return family.defaults.schedule if family.refuses(sampler, schedule) else schedule

    def taesd(self) -> list[TinyInfo]:
        """All files of TAESD; those that cannot be used say why."""
        return scan_taesd(self.folders)

    def recipe_vae(self, fields: dict[str, Any]) -> str:
        """Leave out the autoencoder of a recipe that is not here; what to say about that, "" where it is."""
        name = fields.get("vae")
        if not isinstance(name, str) or name.casefold() == "taesd":  # which is refused where it is not here
            return ""
        try:
            fields["vae"] = self.vae(name)
        except RequestError:
            del fields["vae"]
            return f"the VAE {name[:80]!r} is not here; the checkpoint's own is used"
        return ""

    def upscalers(self) -> list[UpscalerInfo]:
        """The upscalers in files; those that cannot be used say why."""
        return scan_upscalers(self.folders)

    def upscaler(self, name: str, field: str, others: Sequence[str] | None = None) -> str:
        """The name of the upscaler that `name` means: one of `others`, which are no files, or a file's; `field` is named in
        errors.

        Raises:
            UnknownName: there is none.
            RequestError: its file cannot be used.
        """
        others = no_files() if others is None else others
        if known := next((other for other in others if other.casefold() == name.casefold()), ""):
            return known
        try:
            return find_upscaler(self.folders, name, f"{field}: upscaler", others).name
        except CheckpointError as error:
            raise RequestError(f"{field}: upscaler {name!r} cannot be used: {error}") from None

    def recipe_upscaler(self, fields: dict[str, Any]) -> str:
        """Give the upscaler of a recipe's second pass the name that it has here, or Lanczos in its place; what to say about
        that, "" where it is here."""
        hires = fields.get("hires")
        if not isinstance(hires, dict) or not isinstance(name := hires.get("upscaler"), str):
            return ""
        try:
            fields["hires"] = {**hires, "upscaler": self.upscaler(name, "hires.upscaler", hires_upscalers())}
        except RequestError:
            fields["hires"] = {**hires, "upscaler": "Lanczos"}
            return f"the upscaler {name[:80]!r} is not here; Lanczos takes its place"
        return ""

    def refiner(self, name: str, checkpoint: CheckpointInfo) -> str:
        """The name of the checkpoint that `name` means, which can go on with pictures of `checkpoint`; "" for none.

        Raises:
            RequestError: there is none, or it cannot be used for that.
        """
        if name.casefold() in ("", "none"):
            return ""
        try:
            info = find(self.folders, name)
        except UnknownName as error:
            raise RequestError(f"refiner: {error}") from None
        if info.problem:
            raise RequestError(f"refiner: {info.name!r} cannot be used: {info.problem}")
        family, refining = FAMILIES.find(checkpoint.family), FAMILIES.find(info.family)
        if family is None or refining is None:  # of an extension that went away: the engine says so
            return info.name
        if problem := refiner_problem(checkpoint.name, family, info.name, refining):
            raise RequestError(f"refiner: {problem}")
        return info.name

    def _hires(self, hires: Hires, first: CheckpointInfo) -> Hires:
        """With the names of its own sampler, schedule and checkpoint resolved; the first pass's own checkpoint is none.

        Raises:
            RequestError: there is no such sampler, schedule or checkpoint, or it cannot be used for that.
        """
        hires = self._named_hires(hires)
        if hires.checkpoint.casefold() in ("", "none", "use same checkpoint"):
            return hires.model_copy(update={"checkpoint": ""})
        try:
            info = find(self.folders, hires.checkpoint)
        except UnknownName as error:
            raise RequestError(f"hires.checkpoint: {error}") from None
        if info.problem:
            raise RequestError(f"hires.checkpoint: {info.name!r} cannot be used: {info.problem}")
        family, other = FAMILIES.find(first.family), FAMILIES.find(info.family)
        if (
            family is not None
            and other is not None
            and info.name != first.name
            and (problem := second_pass_problem(first.name, family, info.name, other, hires.upscaler))
        ):
            raise RequestError(f"hires.checkpoint: {problem}")
        return hires.model_copy(update={"checkpoint": "" if info.name == first.name else info.name})

    def recipe_hires(self, fields: dict[str, Any], cache: Path) -> str:
        """Give the checkpoint of a recipe's second pass, "name [hash]", the name that it has here, or leave it out; what to say
        about that, "" where it is here."""
        if not isinstance(hires := fields.get("hires"), dict):
            return ""
        name = hires.get("checkpoint")
        if not isinstance(name, str) or not name:
            return ""
        known = self._by_recipe(name, cache)
        fields["hires"] = {**hires, "checkpoint": known}
        return "" if known else f"the hires checkpoint {name[:80]!r} is not here; the second pass runs with the first one's"

    def _by_recipe(self, name: str, cache: Path) -> str:
        """The name that a checkpoint of a recipe, "name [hash]", has here; "" where it is not here."""
        digits = re.search(r"\[([0-9a-fA-F]{8,64})\]\s*$", name)
        for known in (*([digits[1]] if digits else []), name):
            try:
                return find(self.folders, known, cache).name
            except UnknownName:
                continue
        return ""

    def recipe_refiner(self, fields: dict[str, Any], cache: Path) -> str:
        """Give the refiner of a recipe, "name [hash]", the name that it has here, or leave it out; what to say about that, ""
        where it is here.  Hashes are those that `cache` remembers."""
        name = fields.get("refiner")
        if not isinstance(name, str) or not name:
            return ""
        if known := self._by_recipe(name, cache):
            fields["refiner"] = known
            return ""
        for field in RefinerOptions.model_fields:
            fields.pop(field, None)
        fields["refiner"] = ""
        return f"the refiner {name[:80]!r} is not here; the checkpoint goes on alone"

    def default_checkpoint(self) -> CheckpointInfo | None:
        """The checkpoint of the newest job if it is still here, else the first usable one."""
        info = self._default()
        return None if info is None else _as_preferred(info)

    def _default(self) -> CheckpointInfo | None:
        latest = self._latest()
        if latest:
            try:
                info = find(self.folders, latest)
                if info.name == latest and not info.problem:
                    return info
            except UnknownName:
                pass  # its file is gone
        return next((info for info in self._scanned() if not info.problem), None)

    def complete(self, fields: dict[str, Any]) -> GenerationRequest:
        """A full request from some fields: names resolved, a seed drawn, the rest from the checkpoint's defaults.

        Raises:
            RequestError: a field makes no sense; the message says which and what is allowed.
        """
        if "upscaler_1" in fields:
            return self._enlarging(fields)
        info = self.checkpoint(fields.get("checkpoint"))
        defaults = {
            "width": info.defaults.width,
            "height": info.defaults.height,
            "steps": info.defaults.steps,
            "cfg_scale": info.defaults.cfg_scale,
            "sampler": info.defaults.sampler,
            "schedule": info.defaults.schedule,
            **own_defaults(info.path),
        }
        given = {name: value for name, value in fields.items() if value is not None}
        family = FAMILIES.find(info.family)
        if family is not None and family.distilled:
            defaults["distilled_cfg_scale"] = info.defaults.distilled_cfg_scale
        request = _of_family(parse_request({**defaults, **given, "checkpoint": info.name}), family)
        if problem := starting_problem(info.name, family.concat if family else "", request):
            raise RequestError(problem)
        sampler, schedule_in_name = find_sampler(request.sampler)
        schedule = find_schedule(schedule_in_name or request.schedule)
        seed = request.seed if request.seed >= 0 else secrets.randbelow(DRAWN_SEEDS)
        found: dict[str, Any] = {
            "sampler": sampler.name,
            "schedule": self._fitting(schedule.label, sampler.name, info.name, info),
            "seed": seed,
            "vae": self.vae(request.vae),
            "refiner": self.refiner(request.refiner, info),
        }
        if request.variation_strength > 0 and request.variation_seed < 0:
            found["variation_seed"] = secrets.randbelow(DRAWN_SEEDS)
        if request.hires is not None:
            hires = self._hires(request.hires, info)
            chosen = hires.schedule or found["schedule"]
            fits = self._fitting(chosen, hires.sampler or sampler.name, hires.checkpoint or info.name, info)
            found["hires"] = hires if fits == chosen else hires.model_copy(update={"schedule": fits})
        found |= _tiled(request, info)
        request = relevant(request.model_copy(update=found))
        self._check_taesd(request, family)
        self._check_noise_levels(request, info)
        for stage in stages_of(self.library.finish(request.image(0)).request):
            words, steps = stage.settings, find_sampler(stage.settings.sampler)[0].prompt_steps(stage.settings.steps)
            passes = (steps, None) if stage.steps_before is None else (stage.steps_before, steps)
            planned = plan(words.prompt, words.negative_prompt, *passes, old=request.old_prompt_editing)
            check_affordable(planned)
            check_windows(planned, Tokenizer(request.raw_text), request.emphasis)
        return request

    def _enlarging(self, fields: dict[str, Any]) -> GenerationRequest:
        """The request of a picture that is only enlarged, with its upscalers as they are called here."""
        request = parse_request({name: value for name, value in fields.items() if value is not None})
        assert isinstance(request, Upscaling), "its fields say so"
        named = {field: self.upscaler(getattr(request, field), field) for field in ("upscaler_1", "upscaler_2")}
        return request.model_copy(update={**named, "seed": 0})

    def _named_hires(self, hires: Hires) -> Hires:
        """With the names of its upscaler, sampler and schedule resolved.

        Raises:
            UnknownName: there is no such one.
        """
        names = {"upscaler": self.upscaler(hires.upscaler, "hires.upscaler", hires_upscalers())}
        schedule = hires.schedule
        if hires.sampler:
            sampler, in_name = find_sampler(hires.sampler)
            names["sampler"], schedule = sampler.name, in_name or schedule
        if schedule:
            names["schedule"] = find_schedule(schedule).label
        return hires.model_copy(update=names)

    def to_quote(self, fields: dict[str, Any]) -> tuple[GenerationRequest, CheckpointInfo | None]:
        """The request of those among `fields` that decide what it costs, and its checkpoint, None where it is only enlarged.

        Raises:
            RequestError: such a field makes no sense.
        """
        if "upscaler_1" in fields:
            return self._enlarging(fields), None
        info = self._checkpoint(fields.get("checkpoint"))  # whose native size is its file's, whatever people prefer
        given = {name: fields[name] for name in COST_FIELDS if fields.get(name) is not None}
        best = {name: getattr(info.defaults, name) for name in _DEFAULTS if name in COST_FIELDS}
        request = parse_request({**best, **given, "checkpoint": info.name})
        found: dict[str, Any] = {
            "sampler": find_sampler(request.sampler)[0].name,
            "refiner": self.refiner(request.refiner, info),
        }
        if request.hires is not None:
            found["hires"] = self._hires(request.hires, info)
        found |= _tiled(request, info)
        return _of_family(request.model_copy(update=found), FAMILIES.find(info.family)), info

    def beside(self, request: GenerationRequest) -> list[CheckpointInfo]:
        """The checkpoints that a completed request, or one that was quoted, needs beside its own."""
        names = checkpoints_of(stages_of(request))[1:]
        return [find(self.folders, name) for name in names]

    def check_prompt(self, fields: dict[str, Any]) -> PromptCheck:
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
        loras = self.lora_infos() if "<" in request.prompt else []
        bundled = self._bundled(request.prompt, loras, checkpoint)
        info, family = self._family_of(checkpoint)
        checked = check(
            request,
            self.library,
            sampler.step_ends(request.steps),
            sampler.prompt_steps(request.steps),
            networks=[name for info in loras for name in (info.name, info.alias) if name],
            hypernetworks={info.name: info.problem for info in self.hypernetworks()} if "<hypernet:" in request.prompt else {},
            embeddings=[*usable, *(one for one in bundled if one.name.casefold() not in {e.name.casefold() for e in usable})],
            tokenizer=family.tokenizer() if family else None,
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

    def _family_of(self, checkpoint: Any) -> tuple[CheckpointInfo | None, Family | None]:
        """A checkpoint, the usual one where none is named, and its family, as far as they are here."""
        try:
            info = self.checkpoint(checkpoint if isinstance(checkpoint, str) else None)
        except RequestError:
            return None, None
        return info, FAMILIES.find(info.family)

    def embeddings(self) -> list[EmbeddingInfo]:
        """All textual inversions in the models folders; those that cannot be used say what their problem is."""
        return scan_embeddings(self.folders)

    def hypernetworks(self) -> list[HypernetworkInfo]:
        """All hypernetworks in the models folders; those that cannot be used say what their problem is."""
        return scan_hypernetworks(self.folders)

    def loras(self) -> list[str]:
        """The names of the LoRAs in the models folders."""
        return lora_names(self.folders)

    def lora_infos(self) -> list[LoraInfo]:
        """The LoRAs in the models folders, with what their headers say; the first time it reads all of them."""
        return scan_loras(self.folders)

    def with_local_loras(
        self, fields: dict[str, Any], hashes: Mapping[str, str], cache: Path
    ) -> tuple[dict[str, Any], list[str]]:
        """A recipe's fields with LoRAs under the names that they have here, and what to say of that.

        `hashes` are those that the recipe gives to its names; a name that is here stays, whatever its file's hash.
        """
        renamed: dict[str, str] = {}
        for name, digits in hashes.items():
            if digits and lora_file(self.folders, name) is None and (found := lora_of_hash(self.folders, digits, cache)):
                renamed[name] = found.name
        if not renamed:
            return fields, []
        made: dict[str, Any] = {
            key: _renamed(text, renamed) for key in _WITH_NETWORKS if isinstance(text := fields.get(key), str)
        }
        if isinstance(hires := fields.get("hires"), dict):
            again = {key: _renamed(text, renamed) for key in _WITH_NETWORKS if isinstance(text := hires.get(key), str)}
            made["hires"] = {**hires, **again}
        return {**fields, **made}, [f"LoRA {old[:80]!r} is {new!r} here, by its hash" for old, new in renamed.items()]

    def _embeddings_for(self, checkpoint: Any) -> tuple[list[Embedding], dict[str, str]]:
        """Those that fit this checkpoint (or the usual one), and the others with the reason why they are skipped.

        Without any checkpoint all that are sound fit.
        """
        usable, skipped = [], {}
        found = self.embeddings()
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
            return text_width(self.checkpoint(checkpoint if isinstance(checkpoint, str) else None).path)
        except RequestError:
            return 0

    def _vocabulary(self, checkpoint: Any) -> Vocabulary | None:
        """The words that this checkpoint (or the usual one) was trained on; None where its file does not list them."""
        try:
            path = self.checkpoint(checkpoint if isinstance(checkpoint, str) else None).path
            return _vocabulary_in(path, *stamp_of(path))
        except (OSError, RequestError, CheckpointError):
            return None


def enlarging_factor(info: CheckpointInfo) -> int:
    """How many times as large as the picture that it starts from are those of a checkpoint; 0 where they may have any size."""
    family = FAMILIES.find(info.family)
    return family.latent.factor if family is not None and family.concat == "low-res" else 0


def _of_family(request: GenerationRequest, family: Family | None) -> GenerationRequest:
    """The request without what only other families of checkpoints are told: it made no difference."""
    if family is None:
        return request
    defaults, from_noise = type(request).model_fields, family.concat in FROM_NOISE
    idle: tuple[str, ...] = () if family.numbers else SIZE_FIELDS  # a base model's scores are its refiner's
    idle += () if family.distilled else ("distilled_cfg_scale",)
    if isinstance(request, Img2Img):
        idle += NOT_ENLARGING if from_noise else ()
        idle += () if family.noises_low_res else ("upscaler_noise_level",)
    if not family.words:  # nothing is said to the network, so there is nothing to guide away from
        idle += ("negative_prompt",)
    changed: dict[str, Any] = {
        name: defaults[name].default for name in idle if getattr(request, name) != defaults[name].default
    }
    if from_noise and isinstance(request, Img2Img):
        changed["denoising_strength"] = 1.0
        if family.noises_low_res:
            level = request.upscaler_noise_level
            changed["upscaler_noise_level"] = NOISE_LEVEL if level is None else level
    if not family.words:
        changed["cfg_scale"] = 1.0
    return request.model_copy(update=changed) if changed else request


def _tiled(request: GenerationRequest, info: CheckpointInfo) -> dict[str, int]:
    """The sizes of windows that a request leaves to its checkpoint.

    Raises:
        RequestError: a picture would be too many windows.
    """
    tiles = tiles_of(request, (info.defaults.width, info.defaults.height))
    if tiles is None:
        return {}
    for stage in stages_of(request):
        if problem := tiles.problem(*stage.size):
            raise RequestError(problem)
    return {"tile_width": tiles.width, "tile_height": tiles.height, "tile_overlap": tiles.overlap}


def _as_preferred(info: CheckpointInfo) -> CheckpointInfo:
    """With the defaults that people gave this checkpoint in place of its file's."""
    own = {name: value for name, value in own_defaults(info.path).items() if name in _DEFAULTS}
    return replace(info, defaults=replace(info.defaults, **own)) if own else info


_WITH_NETWORKS = ("prompt",)
"""Fields of a request, and of its second pass, in which networks are named."""


def _renamed(prompt: str, names: Mapping[str, str]) -> str:
    """`prompt` with LoRAs under other names; hashes are told without the colons and commas of names (A1111)."""

    def tag(found: re.Match[str]) -> str:
        name = found[2].replace(":", "").replace(",", "")
        return f"{found[1]}{names[name]}" if name in names else found[0]

    return re.sub(r"(<(?:lora|lyco):)([^:<>]+)(?=[:>])", tag, prompt)


def weights_of(info: CheckpointInfo, dtype: str, keeps_blocks: bool = True) -> int:
    """Bytes that the networks of a checkpoint take in the number format `dtype` ("float16"); 0 where either is not known.

    Kept twice in a file (`model_ema.`) is loaded once.  Without `keeps_blocks` layers whose numbers are quantised in the file
    take that number format too.
    """
    try:
        weights = _weights_in(info.path, *stamp_of(info.path))
    except (OSError, CheckpointError):
        return 0
    return weights.kept(_BYTES[dtype], keeps_blocks) if dtype in _BYTES else 0


@lru_cache(maxsize=64)
def _weights_in(path: Path, *stamp: int) -> Weights:
    """`stamp` is there to read a replaced file anew."""
    return weights_in(read_source(path))


@lru_cache(maxsize=8)
def _vocabulary_in(path: Path, *stamp: int) -> Vocabulary | None:
    """`stamp` is there to read a replaced file anew."""
    return read_vocabulary(read_source(path).metadata)
