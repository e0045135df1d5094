"""`verify`: are the pictures on disk those that were recorded, and can they still be made?  Reads only, and repairs nothing.

Every picture of the job list is read and its SHA-256 compared.  With `--render N`, the N newest are also made again from their
own metadata, one by one, and compared pixel by pixel.  Both may run beside a server.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modules import __version__
from modules.app import App
from modules.commands.generate import recipe_fields
from modules.errors import AtelierError, GenerationError, RequestError
from modules.images.decode import decode
from modules.images.encoding import KINDS, encode, form_of
from modules.images.outputs import Outputs
from modules.images.reading import read_picture
from modules.images.recipe import read_record
from modules.settings import Settings

USER = "verify"

TOLERANCE = 2
"""Of 255: what other batches, threads or attention kernels may move a pixel by."""
ALIKE_DB = 30.0
"""Peak signal-to-noise ratio from which a picture in a lossy format counts as the same; another one has less than 20."""


@dataclass(frozen=True)
class Indexed:
    """A picture that the job list knows: its file and what its bytes must hash to."""

    path: Path
    sha256: str


def run(values: argparse.Namespace, settings: Settings) -> int:
    """Check, print one line per finding and a summary; 0 when all is as it was recorded, else 1.

    Raises:
        AtelierError: there is no job list to check against, or it cannot be read.
    """
    logging.getLogger("atelier").setLevel(logging.WARNING)
    pictures = indexed(settings.data_dir / "jobs.sqlite", settings.outputs_dir)
    found = Counter[str]()
    for picture in pictures:
        verdict = state_of(picture)
        found[verdict] += 1
        if verdict != "as recorded":
            print(f"{verdict}: {picture.path}", flush=True)
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(found.items()))
    print(f"{len(pictures)} pictures in the job list: {summary or 'nothing to check'}", flush=True)
    good = set(found) <= {"as recorded"}
    count = _count(values.render)
    if count:
        whole = [picture.path for picture in reversed(pictures) if picture.path.is_file()][:count]
        good = render(whole, settings) and good
    return 0 if good else 1


def _count(given: str | None) -> int:
    if given is None:
        return 0
    if not given.isascii() or not given.isdecimal() or not 1 <= int(given[:9]) <= 100_000:
        raise RequestError(f"--render {given[:40]!r} is not understood; write how many pictures to make again, such as 5")
    return int(given)


def indexed(database: Path, outputs: Path) -> list[Indexed]:
    """Every recorded picture, oldest first.  Opens the list for reading alone, also while a server uses it.

    Raises:
        RequestError: there is none, or it cannot be read.
    """
    if not database.is_file():
        raise RequestError(f"there is no job list at {database}; name the folder that it is in with --data-dir")
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
            rows = db.execute(
                "SELECT path, sha256 FROM pictures JOIN jobs ON jobs.id = pictures.job ORDER BY jobs.position, number"
            ).fetchall()
    except sqlite3.Error as error:
        raise RequestError(f"the job list {database} cannot be read: {error}") from None
    return [Indexed(outputs / path, sha256) for path, sha256 in rows]


def state_of(picture: Indexed) -> str:
    """ "as recorded", "missing", "changed" or "unreadable"."""
    digest = hashlib.sha256()
    try:
        with picture.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        return "missing"
    except OSError:
        return "unreadable"
    return "as recorded" if digest.hexdigest() == picture.sha256 else "changed"


# ---- making them again


def render(paths: list[Path], settings: Settings) -> bool:
    """Make each picture again and say how it compares; True when each is the same, or nearly."""
    good = True
    with tempfile.TemporaryDirectory(prefix="atelier-verify-") as folder:
        app = App(replace(settings, workers=1), outputs=Outputs(Path(folder)), durable=False)
        try:
            app.start()
            for path, verdict in _verdicts(app, paths, settings.output_quality):
                good = good and not verdict.startswith("differs")
                print(f"{verdict}: {path}", flush=True)
        finally:
            app.close()
    return good


def _verdicts(app: App, paths: list[Path], quality: int) -> Iterator[tuple[Path, str]]:
    for path in paths:
        try:
            if not read_picture(path.read_bytes(), path.name).fields:
                yield path, "not compared, because it does not say how it was made"
                continue
            yield path, compare(path, again(app, path), quality)
        except AtelierError as error:
            yield path, f"differs because it cannot be made here: {error}"


def again(app: App, path: Path) -> Path:
    """The picture made anew from what its file says.

    Raises:
        AtelierError: the file does not say it, or it cannot be made here.
    """
    fields = recipe_fields(app, path, None)
    app.input_images.adopt(fields, USER, path)
    job = app.submit({**fields, "count": 1}, USER).id
    *_, last = app.events(job, USER)
    if last.state != "done":
        raise GenerationError(last.error)
    return last.pictures[0].path


def compare(path: Path, made: Path, quality: int) -> str:
    """ "identical", "within tolerance ...", "alike ..." for a lossy format, or "differs because ...".

    A picture in a lossy format is compared with the one made anew after that was through the same, at the `quality` of today.
    """
    old, new = decode(path.read_bytes(), path.name), decode(made.read_bytes(), made.name)
    if old.size != new.size:
        return f"differs because it is {old.width}x{old.height} and was made {new.width}x{new.height}"
    kind = KINDS.get(path.suffix.lower(), "png")
    if kind != "png":
        form = form_of(kind, quality)
        new = decode(encode(new.convert("RGB").tobytes(), new.width, new.height, "", "", form).data)
    difference = np.abs(_values(old) - _values(new))
    most = int(difference.max())
    if most == 0:
        return "identical"
    if most <= TOLERANCE:
        return f"within tolerance ({most}/255 at most)"
    ratio = 20 * math.log10(255 / math.sqrt(float((difference.astype(np.float64) ** 2).mean())))
    if kind != "png" and ratio >= ALIKE_DB:
        return f"alike, but for what {kind} loses ({ratio:.0f} dB)"
    return f"differs because {_cause(path, made)} ({most}/255 at most)"


def _values(image: Image.Image) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.asarray(image.convert("RGB")).astype(np.int16)


def _cause(path: Path, made: Path) -> str:
    """The likeliest reason, from what both files say of how they were made."""
    try:
        old, new = (read_record(one).info for one in (path, made))
    except RequestError:
        return "it was made by another program"
    if old.model_hash != new.model_hash:
        return f"its checkpoint had the hash {old.model_hash or '(none)'}, and {new.model_name} has {new.model_hash}"
    if old.version != new.version:
        return f"it was made by {old.version}, and this is Atelier {__version__}"
    changed = sorted(key for key in {*old.facts, *new.facts} if old.facts.get(key) != new.facts.get(key))
    if changed:
        return "it was made with " + ", ".join(f"{key} {old.facts.get(key, '(unknown)')}" for key in changed)
    return "its pixels were changed, or it was made on another device or in another number format"
