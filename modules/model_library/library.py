"""The library of models: what the Models tab lists, shows and edits.  No torch, no jobs, no HTTP.

ModelLibrary ── ModelIndex   files in memory, by a walk of the folders and a thread that reads
     ├── ModelStore          what is remembered between runs, and favourites
     ├── Hashes              worked out when asked for
     ├── Previews            small pictures
     └── edits               what people write down, into A1111's files
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.checkpoints.files import listed
from modules.checkpoints.naming import named
from modules.errors import OutputError, RequestError
from modules.model_library import edits
from modules.model_library import facts as told
from modules.model_library.described import Described
from modules.model_library.family import misfit
from modules.model_library.hashing import Hashes
from modules.model_library.index import Entry, ModelIndex
from modules.model_library.kinds import KINDS, insert
from modules.model_library.neighbours import json_beside, text
from modules.model_library.previews import Previews, written
from modules.model_library.store import ModelStore

SORTS: Mapping[str, Callable[[Entry], Any]] = {
    "name": lambda entry: (entry.order, entry.found.file),
    "newest": lambda entry: (-entry.said.modified, entry.order),
    "size": lambda entry: (-entry.said.size, entry.order),
    "family": lambda entry: (not entry.said.family, entry.said.family, entry.order),
}
"""What a list can be sorted by."""
MAX_QUERY, MAX_PAGE = 500, 500
"""Characters of a search; models of a page."""
PREVIEW = ".preview.png"
"""What previews are written as."""
NOBODY = ""

Uses = Mapping[tuple[str, str], str]
"""By (kind, name), who uses what is in memory, in words."""


@dataclass(frozen=True)
class Query:
    """What is asked for: `kind` and `folder` "" for all, `words` to be found, `checkpoint` for which models are to fit."""

    kind: str = ""
    words: str = ""
    folder: str = ""
    sort: str = "name"
    checkpoint: str = ""
    offset: int = 0
    limit: int = 60

    def check(self) -> None:
        """
        Raises:
            RequestError: it makes no sense.
        """
        if self.kind and self.kind not in KINDS:
            raise RequestError(f"kind: must be one of {', '.join(KINDS)}, or empty for all")
        if self.sort not in SORTS:
            raise RequestError(f"sort: must be one of {', '.join(SORTS)}")
        if len(self.words) > MAX_QUERY:
            raise RequestError(f"q: at most {MAX_QUERY} characters, {len(self.words)} were given")
        if not 0 <= self.offset < 10_000_000:
            raise RequestError("offset: must be a whole number from 0")
        if not 1 <= self.limit <= MAX_PAGE:
            raise RequestError(f"limit: must be a whole number from 1 to {MAX_PAGE}")


class ModelLibrary:
    """See the module.  Any thread may call.

    Args:
        folders: the models folders, asked for each time.
        data: the folder for what is remembered.
    """

    def __init__(self, folders: Callable[[], Sequence[Path]], data: Path) -> None:
        self._folders = folders
        self._store = ModelStore(data / "models.sqlite")
        self._index = ModelIndex(folders, self._store)
        self._hashes = Hashes(data / "hashes.json", self._store)
        self._previews = Previews()
        self._editing = threading.Lock()

    def close(self) -> None:
        """End the threads."""
        self._index.close()
        self._hashes.close()

    # ---- looking

    def page(self, query: Query, user: str = NOBODY, uses: Uses | None = None) -> dict[str, Any]:
        """A page of the list, as JSON-ready data.

        `kinds` counts what is found of each kind in all folders, `folders` what is found of the kind asked for in each folder
        and below it; `unread` files say nothing of themselves yet, as they are still being read.

        Raises:
            RequestError: the query makes no sense.
        """
        query.check()
        entries = self._index.entries()
        unread = self._index.unread  # before the entries are looked at: 0 promises that all of them were read
        words = query.words.casefold().split()
        found = [entry for entry in list(entries.values()) if all(word in entry.text for word in words)]
        kinds = Counter(entry.found.kind for entry in found)
        if query.kind:
            found = [entry for entry in found if entry.found.kind == query.kind]
        folders = _tree(Counter(entry.found.folder for entry in found))
        if query.folder:
            below = query.folder.rstrip("/")
            found = [entry for entry in found if f"{entry.found.folder}/".startswith(f"{below}/")]
        found.sort(key=SORTS[query.sort])
        target = self._checkpoint(query.checkpoint, entries)
        favourites = self._store.favourites(user)
        shown = found[query.offset : query.offset + query.limit]
        return {
            "total": len(found),
            "kinds": {kind: kinds[kind] for kind in KINDS},
            "folders": [{"path": path, "count": count} for path, count in folders],
            "items": [self._card(entry, target, favourites, uses or {}) for entry in shown],
            "unread": unread,
        }

    def detail(self, id_: str, user: str = NOBODY, checkpoint: str = "", uses: Uses | None = None) -> dict[str, Any] | None:
        """All that is known of a model, as JSON-ready data; None when there is none of this id.

        Its hashes are worked out in the background, if they are not known: `hashing` is how far that is, None when it is over.
        """
        entry = self._index.entry(id_)
        if entry is None:
            return None
        found = entry.found
        self._hashes.ask(found)
        target = self._checkpoint(checkpoint, self._index.entries(0.0))
        metadata = told.header_metadata(found)
        notes = json_beside(found.path.with_name(found.notes)) if found.notes else {}
        own = edits.own_defaults(found.path) if found.kind == "checkpoint" else {}
        return {
            **self._card(entry, target, self._store.favourites(user), uses or {}),
            "facts": [*told.facts(found, metadata), *self._hash_facts(entry)],
            "tags": told.tags(metadata),
            "description": told.description(found, metadata),
            "notes": text(notes.get("notes")),
            "negative": entry.said.negative,
            "defaults": _defaults_json(own) if found.kind == "checkpoint" else {},
            "hashing": self._hashes.progress(id_),
        }

    def hash(self, id_: str) -> dict[str, Any] | None:
        """Have a model's hashes worked out; what is known of them now, None when there is no model of this id."""
        entry = self._index.entry(id_)
        if entry is None:
            return None
        self._hashes.ask(entry.found)
        return {
            "hash": self._hashes.short(entry),
            "sha256": self._hashes.sha256(entry.found),
            "autov3": self._hashes.autov3(entry.found) if entry.found.kind == "lora" else "",
            "progress": self._hashes.progress(id_),
        }

    def prompt_words(self) -> dict[str, dict[str, Any]]:
        """Of the LoRAs for which something is preferred: trigger words, weight and negative words, by name."""
        chosen = [entry for entry in list(self._index.entries().values()) if entry.found.kind == "lora"]
        return {
            entry.found.name: {"triggers": list(said.triggers), "weight": said.weight, "negative": said.negative}
            for entry in chosen
            if not entry.found.hidden_by and ((said := entry.said).triggers or said.weight is not None or said.negative)
        }

    def refresh(self) -> None:
        """Look at all files again now."""
        self._index.refresh()

    def preview(self, id_: str) -> tuple[bytes, str] | None:
        """(JPEG, what tells versions of it apart) of a model's preview picture; None when it has none."""
        entry = self._index.entry(id_)
        if entry is None or not entry.found.preview:
            return None
        version = _version(entry.said)
        jpeg = self._previews.get(f"{id_} {version}", entry.found.path.with_name(entry.found.preview))
        return (jpeg, version) if jpeg else None

    def preview_url(self, id_: str) -> str:
        """Where the preview of a model is served, "" when it has none."""
        entry = self._index.entry(id_)
        return _preview_url(entry) if entry else ""

    # ---- editing

    def edit(self, id_: str, given: Mapping[str, Any]) -> bool:
        """Write down what people prefer of a model (`edits.edited`); False when there is none of this id.

        Raises:
            RequestError: a field makes no sense.
            OutputError: it cannot be written.
        """
        entry = self._index.entry(id_)
        if entry is None:
            return False
        if "defaults" in given and entry.found.kind != "checkpoint":
            raise RequestError("defaults: only checkpoints have them")
        keys = edits.edited(given)
        if keys:
            with self._editing:
                edits.write(entry.found.path, keys)
            self._index.entry(id_)
        return True

    def set_favourite(self, id_: str, user: str, favourite: Any) -> bool:
        """Make a model one of this user's favourites, or none; False when there is none of this id.

        Raises:
            RequestError: `favourite` is neither true nor false.
            OutputError: it cannot be written.
        """
        if not isinstance(favourite, bool):
            raise RequestError("favourite: must be true or false")
        if self._index.entry(id_) is None:
            return False
        try:
            self._store.set_favourite(user, id_, favourite)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"the favourite cannot be kept: {error}") from None
        return True

    def set_preview(self, id_: str, data: bytes, infotext: str) -> bool:
        """Make a picture file of ours the preview of a model; False when there is no model of this id.

        Raises:
            RequestError: it is no picture.
            OutputError: it cannot be written.
        """
        entry = self._index.entry(id_)
        if entry is None:
            return False
        path = entry.found.path
        with self._editing:
            edits.replace_file(path.with_name(entry.found.stem + PREVIEW), written(data, infotext))
        return True

    def remove_preview(self, id_: str) -> bool:
        """Remove the preview that was set for a model; False when there is no model of this id.

        Raises:
            RequestError: its preview is a file that was not made here.
            OutputError: it cannot be removed.
        """
        entry = self._index.entry(id_)
        if entry is None:
            return False
        found = entry.found
        if found.preview and found.preview != found.stem + PREVIEW:
            raise RequestError(f"its preview {found.preview} came with the model and stays; remove that file yourself")
        try:
            with self._editing, suppress(FileNotFoundError):
                found.path.with_name(found.stem + PREVIEW).unlink()
        except OSError as error:
            raise OutputError(f"{found.preview} cannot be removed ({error.strerror})") from None
        return True

    # ---- inside

    def _card(self, entry: Entry, target: Entry | None, favourites: frozenset[str], uses: Uses) -> dict[str, Any]:
        found, said = entry.found, entry.said
        fits = ""
        if target is not None and not said.problem:
            other = target.said
            fits = misfit(found.kind, said.family, said.width, target.found.name, other.family, other.width)
        return {
            "id": found.id,
            "kind": found.kind,
            "name": found.name,
            "file": found.file,
            "folder": found.folder,
            "family": said.family,
            "size": said.size,
            "modified": said.modified,
            "hash": self._hashes.short(entry),
            "base_model": said.base_model,
            "triggers": list(said.triggers),
            "preview": _preview_url(entry),
            "fits": fits,
            "problem": said.problem,
            "insert": insert(found.kind, found.name, said.weight),
            "weight": said.weight,
            "loaded": uses.get((found.kind, found.name), ""),
            "favourite": found.id in favourites,
        }

    def _hash_facts(self, entry: Entry) -> list[dict[str, str]]:
        known = (
            ("SHA-256 (AutoV2: its first 10 digits)", self._hashes.sha256(entry.found)),
            ("SHA-256 behind the header (AutoV3)", self._hashes.autov3(entry.found) if entry.found.kind == "lora" else ""),
        )
        return [{"label": label, "value": value} for label, value in known if value]

    def _checkpoint(self, name: str, entries: Mapping[str, Entry]) -> Entry | None:
        """The checkpoint of that name, None for none."""
        if not name:
            return None
        checkpoints = [entry for entry in list(entries.values()) if entry.found.kind == "checkpoint"]
        exact = next((entry for entry in checkpoints if entry.found.name == name), None)
        if exact is not None:
            return exact
        meant = named(listed(tuple(self._folders())), name[:1000])
        return next((entry for entry in checkpoints if meant is not None and entry.found.path == meant.path), None)


def _version(said: Described) -> str:
    """What tells versions of a model's preview apart, "" while it is not known."""
    return hashlib.blake2b(said.preview.encode(), digest_size=6).hexdigest() if said.preview else ""


def _preview_url(entry: Entry) -> str:
    version = _version(entry.said) if entry.found.preview else ""
    return f"/internal/models/{entry.found.id}/preview?v={version}" if version else ""


def _tree(folders: Mapping[str, int]) -> list[tuple[str, int]]:
    """Folders with what is in them and below, parents included, each before what is in it.

    >>> _tree({"loras/style/ink": 2, "loras": 1, "": 3})
    [('loras', 3), ('loras/style', 2), ('loras/style/ink', 2)]
    """
    counts: Counter[str] = Counter()
    for folder, count in folders.items():
        parts = folder.split("/") if folder else []
        for depth in range(1, len(parts) + 1):
            counts["/".join(parts[:depth])] += count
    return sorted(counts.items(), key=lambda one: one[0].casefold().split("/"))


def _defaults_json(own: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's own defaults as the page edits them; None for those that nobody set."""
    size = [own["width"], own["height"]] if "width" in own and "height" in own else None
    rest = ("steps", "cfg_scale", "sampler", "schedule", "clip_skip", "vae")
    return {"size": size, **{name: own.get(name) for name in rest}, "negative": own.get("negative_prompt", "")}
