"""The text that travels with a picture: A1111's "parameters" line and, beside it, our complete JSON record.

The text form is what every other program reads; it is ambiguous in places (a prompt with a line "Negative prompt:", leading
blanks), therefore the record says the same without loss and is preferred when we read our own pictures.  This file knows
text only: neither image formats (`png`) nor which samplers or checkpoints exist.

Formats: AUTOMATIC1111 v1.10.1, `infotext_utils` and `processing.create_infotext`, whose behaviour is matched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from modules.errors import RequestError
from modules.request import Emphasis, GenerationRequest, clean_text, parse_request

RECORD_FORMAT = 1
"""Version of the JSON record; raised when an older reader would misunderstand it."""

PROMPT = "Prompt"
NEGATIVE = "Negative prompt"
_NEGATIVE_LINE = "Negative prompt:"
_FEWEST_ITEMS = 3  # fewer than this on the last line and it is part of the prompt
_MAX_INFOTEXT = 1 << 20  # characters that `parse` looks at; what the PNG reader lets through is far less

_CORE_KEYS = frozenset(
    {PROMPT, NEGATIVE, "Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Size-1", "Size-2"}
    | {"Model hash", "Model", "Clip skip", "Version", "Variation seed", "Variation seed strength", "ENSD", "RNG"}
    | {"Seed resize from", "Seed resize from-1", "Seed resize from-2"}
)

_OLD_SCHEDULE_SUFFIXES = ("SGM Uniform", "Karras", "Exponential", "Polyexponential")
"""Before A1111 1.9 the schedule was part of the sampler's name, "DPM++ 2M Karras"."""

A1111_RNG = "GPU"
"""The random number source that a text without "RNG" means."""
ZERO_SNR = "Zero Terminal SNR"

_OPTIONS = {
    "Noise Schedule": "zero_snr",
    "Discard penultimate sigma": "discard_penultimate",
    "Schedule min sigma": "sigma_min",
    "Schedule max sigma": "sigma_max",
    "Schedule rho": "rho",
    "Beta schedule alpha": "beta_alpha",
    "Beta schedule beta": "beta_beta",
    "SGM noise multiplier": "sgm_noise_multiplier",
    "Eta": "eta",
    "Eta DDIM": "eta",
    "Sigma churn": "s_churn",
    "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax",
    "Sigma noise": "s_noise",
    "Skip Early CFG": "skip_early_cfg",
    "NGMS": "ngms",
    "NGMS all steps": "ngms_all_steps",
    "CFG rescale": "cfg_rescale",
    "Mimic scale": "mimic_scale",
    "Threshold percentile": "threshold_percentile",
    "APG": "apg",
    "APG eta": "apg_eta",
    "APG norm": "apg_norm",
    "APG momentum": "apg_momentum",
    "PAG scale": "pag_scale",
    "SAG scale": "sag_scale",
    "SAG blur sigma": "sag_blur",
    "CFG Zero star": "cfg_zero",
    "CFG Zero init steps": "cfg_zero_steps",
}
"""The request's fields by their keys, in A1111's order; the last ones are not its own, but some are known from extensions."""

_INTEGER = re.compile(r"-?[0-9]{1,20}")
_REAL = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{0,20})?(?:[eE][+-]?[0-9]{1,3})?")
_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")


@dataclass(frozen=True)
class GenerationInfo:
    """Everything that is known about one picture: the request for it alone, and the facts found while it was made.

    `request` has its seed resolved and count 1.  `model_hash` is the first 10 hex digits of the file's SHA-256.
    `schedule_label` is the schedule that was used ("Karras" where the request said "Automatic" and that meant Karras).
    `version` names the program ("Atelier 0.1.0").  `extras` are further items of the text, in order.  `facts` (device, dtype,
    library versions, timings) go to the record only.
    """

    request: GenerationRequest
    model_name: str
    model_hash: str
    schedule_label: str
    version: str
    extras: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.request.seed < 0 or self.request.count != 1:
            raise ValueError(f"one picture with its own seed is described, not seed {self.request.seed} x {self.request.count}")


def render(info: GenerationInfo) -> str:
    """The A1111 text of a picture.

    Prompt, "Negative prompt: ..." (left out when empty) and one line of `key: value` items, Steps first, Version last.
    """
    request = info.request
    negative = f"\n{_NEGATIVE_LINE} {request.negative_prompt}" if request.negative_prompt else ""
    items = ", ".join(_item(key, value) for key, value in _items(info))
    return f"{request.prompt}{negative}\n{items}".strip()


def _items(info: GenerationInfo) -> Iterator[tuple[str, str]]:
    request = info.request
    yield "Steps", str(request.steps)
    yield "Sampler", clean_text(request.sampler)
    yield "Schedule type", clean_text(info.schedule_label)
    yield "CFG scale", _number(request.cfg_scale)
    yield "Seed", str(request.seed)
    yield "Size", f"{request.width}x{request.height}"
    if info.model_hash:
        yield "Model hash", clean_text(info.model_hash)
    if info.model_name:
        yield "Model", clean_text(info.model_name)
    yield from _noise_items(request)
    yield from _option_items(request)
    # A key that the format cannot carry is bent into shape rather than refused: metadata must never cost a picture.
    extras = {_legal_key(key): clean_text(value) for key, value in info.extras.items()}
    for key, value in extras.items():
        if len(key) > 1 and key not in _CORE_KEYS | _OPTIONS.keys():
            yield key, value
    yield "Version", clean_text(info.version)


def _noise_items(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    if request.variation_strength > 0:
        yield "Variation seed", str(request.variation_seed)
        yield "Variation seed strength", _number(request.variation_strength)
    if request.seed_resize_width and request.seed_resize_height:
        yield "Seed resize from", f"{request.seed_resize_width}x{request.seed_resize_height}"
    if request.clip_skip > 1:
        yield "Clip skip", str(request.clip_skip)
    if request.ensd:
        yield "ENSD", str(request.ensd)
    if request.rng != A1111_RNG:
        yield "RNG", request.rng


def _option_items(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """What is not at its default, under A1111's names where it has one."""
    for key, name in _OPTIONS.items():
        value = getattr(request, name)
        if value == type(request).model_fields[name].default:
            continue
        if name == "eta" and request.sampler.startswith("DDIM") != (key == "Eta DDIM"):
            continue
        if name == "zero_snr":
            yield key, ZERO_SNR
        else:
            yield key, "True" if value is True else _number(value)


def _number(value: float) -> str:
    """7.0 as "7", 4.5 as "4.5": what A1111's own sliders write."""
    return str(int(value)) if value == int(value) else repr(value)


def _legal_key(key: str) -> str:
    kept = "".join(c if _is_word(c) or c in " -/" else " " for c in clean_text(key))
    return " ".join(kept.split()).strip("-/ ")


def _item(key: str, value: str) -> str:
    return key if key == value else f"{key}: {_quote(value)}"


def _quote(value: str) -> str:
    """A1111 quotes what contains a comma, a newline or a colon; we also quote what its reader would trim or unquote."""
    if any(c in value for c in ",\n:") or value.startswith('"') or value != value.strip():
        return json.dumps(value, ensure_ascii=False)
    return value


# ---------------------------------------------------------------------------------------------------------------- reading


def parse(text: str) -> dict[str, str]:
    """What an A1111 text says, as it says it: "Prompt", "Negative prompt", then its items in order.

    An item "512x768" also yields `key-1` and `key-2`.  Never raises, and takes time linear in the length whatever `text`
    is; what does not look like items is prompt.
    """
    *lines, last = clean_text(text[:_MAX_INFOTEXT]).strip().split("\n")
    found, items = _scan(last)
    if found < _FEWEST_ITEMS:
        lines, items = [*lines, last], {}

    # The first line that starts with the words switches; everything behind it is negative.
    switch = next((i for i, line in enumerate(lines) if line.lstrip().startswith(_NEGATIVE_LINE)), len(lines))
    negative = "\n".join(lines[switch:]).lstrip().removeprefix(_NEGATIVE_LINE).removeprefix(" ")
    parsed = {PROMPT: "\n".join(lines[:switch]), NEGATIVE: negative}
    parsed |= {key: value for key, value in items.items() if key not in parsed}
    for key, value in items.items():
        if size := _SIZE.fullmatch(value):
            parsed.setdefault(f"{key}-1", size[1])
            parsed.setdefault(f"{key}-2", size[2])
    return parsed


def _scan(line: str) -> tuple[int, dict[str, str]]:
    """The items of a line, and how many of them had the form `key: value`.

    One pass: a key is the longest run of word characters, blanks, "-" and "/" in front of a colon.  A piece between commas
    that is nothing but such a run is an item whose value equals its key.
    """
    items: dict[str, str] = {}
    found = 0
    begin = -1  # where the current run began, -1 outside of one
    alone = True  # nothing but blanks and the run since the last comma
    at = 0
    while at <= len(line):
        char = line[at] if at < len(line) else ","
        if char == ":" and begin >= 0 and at - begin > 1:
            key = line[begin:at].rstrip()
            items[key], at = _value(line, at + 1)
            found += 1
            begin, alone = -1, True
            continue
        if char == ",":
            if found and alone and begin >= 0 and at - begin > 1:
                items.setdefault(line[begin:at].rstrip(), line[begin:at].rstrip())
            begin, alone = -1, True
        elif _is_word(char):
            begin = at if begin < 0 else begin
        elif begin >= 0 and char not in " -/":
            begin, alone = -1, False
        elif begin < 0 and not char.isspace():
            alone = False
        at += 1
    return found, items


def _value(line: str, at: int) -> tuple[str, int]:
    """The value that begins at `at`, and where the next item begins."""
    while at < len(line) and line[at].isspace():
        at += 1
    if line.startswith('"', at):
        end = at + 1
        while end < len(line) and line[end] != '"':
            end += 2 if line[end] == "\\" else 1
        if end < len(line) and line[end + 1 : end + 2] in ("", ","):
            return _unquote(line[at : end + 1]), end + 2
    comma = line.find(",", at)
    end = len(line) if comma < 0 else comma
    return line[at:end].rstrip(), end + 1


def _unquote(text: str) -> str:
    try:
        return clean_text(str(json.loads(text)))
    except ValueError:
        return text


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def request_fields(parsed: Mapping[str, str]) -> dict[str, Any]:
    """The fields for `modules.request.parse_request` that a parsed text names; what it does not say is left out.

    Values that are no numbers are left out too; ranges are the request's to judge.
    """
    fields: dict[str, Any] = {"prompt": parsed.get(PROMPT, ""), "negative_prompt": parsed.get(NEGATIVE, "")}
    sampler, schedule = parsed.get("Sampler", ""), parsed.get("Schedule type", "")
    if not schedule:
        suffix = next((name for name in _OLD_SCHEDULE_SUFFIXES if sampler.endswith(" " + name)), "")
        sampler, schedule = sampler.removesuffix(suffix).rstrip(), suffix
    if sampler:
        fields["sampler"] = sampler
        fields["schedule"] = schedule or "Automatic"

    numbers = {"steps": "Steps", "seed": "Seed", "width": "Size-1", "height": "Size-2", "clip_skip": "Clip skip"}
    for name, key in numbers.items():
        if _INTEGER.fullmatch(value := parsed.get(key, "").strip()):
            fields[name] = int(value)
    if _REAL.fullmatch(value := parsed.get("CFG scale", "").strip()):
        fields["cfg_scale"] = float(value)
    fields |= _option_fields(parsed)
    if (emphasis := parsed.get("Emphasis", "").strip()) in get_args(Emphasis):
        fields["emphasis"] = emphasis
    if parsed.get("Old prompt editing timelines", "").strip() == "True":
        fields["old_prompt_editing"] = True
    if names := checkpoint_names(parsed):
        fields["checkpoint"] = names[-1]
    return fields


def _option_fields(parsed: Mapping[str, str]) -> dict[str, Any]:
    """Noise, solver and guidance.  A text of A1111's that names no random number source means its default, the GPU's."""
    fields: dict[str, Any] = {}
    if "Steps" in parsed and (source := parsed.get("RNG", A1111_RNG).strip()) in ("CPU", "GPU", "NV"):
        fields["rng"] = source
    numbers = {"variation_seed": "Variation seed", "ensd": "ENSD"}
    numbers |= {"seed_resize_width": "Seed resize from-1", "seed_resize_height": "Seed resize from-2"}
    for name, key in numbers.items():
        if _INTEGER.fullmatch(value := parsed.get(key, "").strip()):
            fields[name] = int(value)
    for key, name in {"Variation seed strength": "variation_strength", **_OPTIONS}.items():
        value = parsed.get(key, "").strip()
        if value in ("True", ZERO_SNR):
            fields[name] = True
        elif _REAL.fullmatch(value):
            fields[name] = float(value)
    return fields


def checkpoint_names(parsed: Mapping[str, str]) -> tuple[str, ...]:
    """What the text calls its checkpoint, surest first: the hash, then the name."""
    return tuple(value for key in ("Model hash", "Model") if (value := parsed.get(key, "").strip()))


# ------------------------------------------------------------------------------------------------------------- our record


def render_record(info: GenerationInfo, job: str = "", index: int = 0) -> str:
    """The complete JSON record of picture `index` of `job`: request, facts, versions.  Nothing is lost to the text form."""
    record = {
        "format": RECORD_FORMAT,
        "version": info.version,
        "job": job,
        "index": index,
        "request": info.request.model_dump(mode="json"),
        "model": {"name": info.model_name, "hash": info.model_hash},
        "schedule": info.schedule_label,
        "extras": dict(info.extras),
        "facts": dict(info.facts),
    }
    return clean_text(json.dumps(record, ensure_ascii=False, separators=(",", ":")))


@dataclass(frozen=True)
class Record:
    """A picture's own account of itself: which job and which picture of it, and how it was made."""

    info: GenerationInfo
    job: str
    index: int


def parse_record(text: str) -> Record:
    """The record that `render_record` wrote.

    Raises:
        RequestError: not a record, one of a newer program, or one whose request makes no sense.
    """
    try:
        data = json.loads(text)
        if data["format"] != RECORD_FORMAT:
            found = repr(data["format"])[:20]
            raise RequestError(f"the picture's record has format {found}; this program reads {RECORD_FORMAT}")
        info = GenerationInfo(
            request=_recorded_request(data["request"]),
            model_name=_string(data["model"]["name"]),
            model_hash=_string(data["model"]["hash"]),
            schedule_label=_string(data["schedule"]),
            version=_string(data["version"]),
            extras={_string(key): _string(value) for key, value in data["extras"].items()},
            facts={_string(key): _string(value) for key, value in data["facts"].items()},
        )
        if not isinstance(index := data["index"], int) or not 0 <= index < 1 << 31:
            raise ValueError("not a picture's number")
        return Record(info, _string(data["job"]), index)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RequestError("the picture's record is damaged or was not written by this program") from None


def _recorded_request(value: Any) -> GenerationRequest:
    try:
        return parse_request(value)
    except RequestError as error:
        raise RequestError(f"the request in the picture's record makes no sense here: {error}") from None


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text expected, not {type(value).__name__}")
    return clean_text(value)
