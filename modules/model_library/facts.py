"""What a model's file and its neighbours say, in words for people: labels and values, tags with their counts, a description."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from modules.checkpoints.sources import read_source
from modules.errors import CheckpointError
from modules.model_library.neighbours import json_beside, mapping, number, text, words
from modules.model_library.survey import Found

MAX_TAGS = 100
"""Tags that are shown, the most frequent."""
MAX_VALUE, MAX_READ = 500, 20_000
"""Characters of a value that are shown, and that are looked at: a header may have megabytes."""

Said = Mapping[str, str]


def header_metadata(found: Found) -> dict[str, str]:
    """The metadata in a file's header, empty where it cannot be read."""
    if found.pickle:
        return {}
    try:
        return read_source(found.path).metadata
    except CheckpointError:
        return {}


def facts(found: Found, metadata: Said) -> list[dict[str, str]]:
    """(label, value) of what people want to know of a model, in the order in which it is read."""
    civitai = json_beside(found.path.with_name(found.civitai)) if found.civitai else {}
    told = [*_of_metadata(metadata), *_of_civitai(civitai)]
    first: dict[str, str] = {}
    for label, value in told:
        first.setdefault(label, value)
    return [{"label": label, "value": value} for label, value in first.items()]


def description(found: Found, metadata: Said) -> str:
    """The longest that there is: people's own, civitai's, the file's.  Plain text."""
    notes = json_beside(found.path.with_name(found.notes)) if found.notes else {}
    civitai = json_beside(found.path.with_name(found.civitai)) if found.civitai else {}
    told = (
        text(notes.get("description")),
        plain(text(mapping(civitai.get("model")).get("description")) or text(civitai.get("description"))),
        plain(text(metadata.get("atelier.description")) or text(metadata.get("modelspec.description"))),
    )
    return next(filter(None, told), "")


def tags(metadata: Said) -> list[dict[str, Any]]:
    """The tags of the captions that it was trained on, of all data sets together (kohya's `ss_tag_frequency`)."""
    counted: Counter[str] = Counter()
    for counts in _json(metadata.get("ss_tag_frequency")).values():
        for tag, count in mapping(counts).items():
            if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 2**53:
                counted[text(tag, 200)] += count
    counted.pop("", None)
    return [{"tag": tag, "count": count} for tag, count in counted.most_common(MAX_TAGS)]


def plain(html: str) -> str:
    """A text without HTML's tags and the commonest references: civitai keeps descriptions as HTML, and no page gets any."""
    broken = re.sub(r"(?i)<(?:br|/p|/li|/h\d|/div)[^<>]{0,200}>", "\n", html)
    bare = re.sub(r"<[^<>]{0,2000}>", "", broken)
    for reference, character in (
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", '"'),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ):
        bare = bare.replace(reference, character)
    return re.sub(r"\n{3,}", "\n\n", bare).strip()


def _of_metadata(said: Said) -> Iterator[tuple[str, str]]:
    for label, keys, write in _TABLE:
        value = next((said[key] for key in keys if said.get(key) not in (None, "", "None", "null")), None)
        if value is not None and (written := text(write(value[:MAX_READ]), MAX_VALUE)):
            yield label, written
    if arguments := _json(said.get("ss_network_args")):
        yield (
            "Network options",
            text(", ".join(f"{text(key, 100)}={_one(value)}" for key, value in [*arguments.items()][:100]), MAX_VALUE),
        )
    if folders := _json(said.get("ss_dataset_dirs")):
        counted = [(text(name, 100), mapping(one)) for name, one in [*folders.items()][:20]]
        sets = (f"{name} ({_one(one.get('img_count'))} pictures × {_one(one.get('n_repeats'))})" for name, one in counted)
        yield "Data sets", text(", ".join(sets), MAX_VALUE)


def _of_civitai(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model = mapping(said.get("model"))
    for label, value in (
        ("Name on civitai", text(model.get("name"), MAX_VALUE)),
        ("Version", text(said.get("name"), MAX_VALUE)),
        ("Base model", text(said.get("baseModel"), MAX_VALUE)),
        ("Trained words", ", ".join(words(said.get("trainedWords")))[:MAX_VALUE]),
        ("Published", text(said.get("publishedAt") or said.get("createdAt"), 10)),
    ):
        if value:
            yield label, value


def _one(value: Any) -> str:
    """A text, number or switch; what is nested may be too deep to be written."""
    return text(value, 100) if isinstance(value, str) else str(value) if isinstance(value, (bool, float)) else _whole(value)


def _whole(value: Any) -> str:
    return str(value) if isinstance(value, int) and abs(value) < 2**63 else "?"


def _as_it_is(value: str) -> str:
    return value


def _date(value: str) -> str:
    """Seconds since 1970, or a date that is one."""
    seconds = number(value)
    if seconds is None or not 0 < seconds < 4e9:
        return value[:10] if re.match(r"\d{4}-\d\d-\d\d", value) else value
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def _size(value: str) -> str:
    """
    >>> _size("(512, 768)"), _size("512"), _size("1024x1024")
    ('512 × 768', '512', '1024 × 1024')
    """
    sides = re.findall(r"\d{1,6}", value)
    return " × ".join(sides[:2]) if sides else value


def _number(value: str) -> str:
    found = number(value)
    return value if found is None else f"{found:g}" if abs(found) < 1e6 else f"{found:,.0f}"


def _list(value: str) -> str:
    try:
        parts = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return ", ".join(text(part, 100) for part in parts[:20] if isinstance(part, str)) if isinstance(parts, list) else value


_TABLE: tuple[tuple[str, tuple[str, ...], Callable[[str], str]], ...] = (
    ("Title", ("modelspec.title",), _as_it_is),
    ("Author", ("modelspec.author", "atelier.author"), _as_it_is),
    ("License", ("modelspec.license", "atelier.license"), _as_it_is),
    ("Made", ("modelspec.date", "ss_training_finished_at", "ss_training_started_at"), _date),
    ("Architecture", ("modelspec.architecture", "ss_base_model_version"), _as_it_is),
    ("Base model", ("ss_sd_model_name",), _as_it_is),
    ("Base model's hash", ("ss_new_sd_model_hash", "ss_sd_model_hash"), _as_it_is),
    ("VAE", ("ss_vae_name",), _as_it_is),
    ("Predicts", ("modelspec.prediction_type",), _as_it_is),
    ("Network", ("ss_network_module",), _as_it_is),
    ("Rank", ("ss_network_dim",), _number),
    ("Alpha", ("ss_network_alpha",), _number),
    ("Resolution", ("modelspec.resolution", "ss_resolution", "atelier.native_size"), _size),
    ("Trained on, pictures", ("ss_num_train_images",), _number),
    ("Steps", ("ss_steps", "ss_max_train_steps"), _number),
    ("Epoch", ("ss_epoch", "ss_num_epochs"), _number),
    ("Learning rate", ("ss_unet_lr", "ss_learning_rate"), _number),
    ("Learning rate, text encoder", ("ss_text_encoder_lr",), _number),
    ("Optimizer", ("ss_optimizer",), _as_it_is),
    ("Clip skip", ("ss_clip_skip", "modelspec.encoder_layer"), _number),
    ("Trigger", ("modelspec.trigger_phrase",), _as_it_is),
    ("How to use", ("modelspec.usage_hint",), _as_it_is),
    ("Tags", ("modelspec.tags",), _list),
    ("Merged from", ("modelspec.merged_from",), _list),
    ("Comment", ("ss_training_comment",), _as_it_is),
    ("Made with", ("modelspec.implementation",), _as_it_is),
    ("Hash of the weights, by its trainer", ("sshs_model_hash", "modelspec.hash_sha256"), _as_it_is),
)
"""Keys of kohya's scripts (`ss_`) and of Stability's model metadata standard (`modelspec.`); the first that is there counts."""


def _json(value: str | None) -> Mapping[str, Any]:
    try:
        found = json.loads(value or "{}")
    except (ValueError, RecursionError):
        return {}
    return mapping(found)
