"""What a tool is handed to do its work: its request, the files that its names mean, where the result goes, and how to say how
far it is.  No torch."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modules.checkpoints.hashes import file_sha256
from modules.model_tools.requests import GetModel, Request, ToolRequest, load

PART_SUFFIX = ".part"


@dataclass(frozen=True)
class Order:
    """A request with its names resolved: all that a child process is told.

    `files` are the sources by field ("a", "loras.0"), `target` the new file, `part` the hidden file in the same folder that it
    is until it is whole, `cache` where hashes are remembered.  For a download `target` is only where it goes when nothing else
    is said, `part` a hidden folder that outlives the process, and `public_only` forbids links into private networks.
    """

    request: Request
    files: Mapping[str, Path]
    target: Path
    part: Path
    cache: Path
    public_only: bool = False

    def discard(self) -> None:
        """Remove what is half-made, except of a download, which goes on there.  Raises OSError."""
        if not isinstance(self.request, GetModel):
            self.part.unlink(missing_ok=True)

    def as_json(self) -> str:
        return json.dumps(
            {
                "request": self.request.model_dump_json(),
                "files": {name: os.fspath(path) for name, path in self.files.items()},
                **{name: os.fspath(getattr(self, name)) for name in ("target", "part", "cache")},
                "public_only": self.public_only,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Order:
        data = json.loads(text)
        files = {name: Path(path) for name, path in data["files"].items()}
        target, part, cache = (Path(data[name]) for name in ("target", "part", "cache"))
        return cls(load(data["request"]), files, target, part, cache, data["public_only"])

    def loras(self) -> list[Path]:
        found = [name for name in self.files if name.startswith("loras.")]
        return [self.files[f"loras.{number}"] for number in range(len(found))]


def part_of(target: Path, run: str, request: ToolRequest) -> Path:
    """The hidden file that a run writes before it is whole.  A download's is its source's own: the next run goes on with it."""
    if isinstance(request, GetModel):
        what = json.dumps([request.source.strip(), request.file, request.fp16])
        run = "get-" + hashlib.sha256(what.encode()).hexdigest()[:16]
    return target.with_name(f".{run}{PART_SUFFIX}")


@dataclass
class Work:
    """An order that is carried out.  `say` is called with what is done ("hashing") and how far the whole is, 0 to 1."""

    order: Order
    say: Callable[[str, float], None] = lambda doing, progress: None
    notes: list[str] = field(default_factory=list)
    """What the user should know of the result."""
    made: str = ""
    """The new file by its path below the target's folder, where it is another than the target."""
    _hashes: dict[Path, str] = field(default_factory=dict)
    _said: float = -1.0

    HASHED = 0.1
    """Share of the progress that is the sources' hashes."""

    def step(self, doing: str, done: int, total: int) -> None:
        progress = self.HASHED + (1 - self.HASHED) * done / max(1, total)
        now = time.monotonic()
        if done == total or now - self._said > 0.1:
            self._said = now
            self.say(doing, progress)

    def hash_sources(self) -> None:
        """Read the sources' sha256, remembered where they were read before."""
        paths = list(dict.fromkeys(self.order.files.values()))
        for number, path in enumerate(paths):
            self.say(f"hashing {path.name}", self.HASHED * number / len(paths))
            self._hashes[path] = file_sha256(path, self.order.cache)

    def sha256(self, path: Path) -> str:
        return self._hashes[path]

    def named(self) -> dict[str, Any]:
        """Name and sha256 of each source by field."""
        return {name: {"file": path.name, "sha256": self._hashes[path]} for name, path in self.order.files.items()}
