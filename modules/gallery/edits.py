"""What people write down about pictures, changed: favourites, ratings, tags and albums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modules.errors import RequestError
from modules.gallery.schema import Written
from modules.gallery.words import folded
from modules.request import clean_text

MAX_LABEL = 60
"""Characters of a tag or an album's name."""
MAX_LABELS = 50
"""Tags of a picture, and albums that it is in."""


@dataclass(frozen=True)
class Change:
    """What is written down about pictures; None leaves as it is."""

    favourite: bool | None = None
    rating: int | None = None
    add_tags: tuple[str, ...] = ()
    remove_tags: tuple[str, ...] = ()
    add_albums: tuple[str, ...] = ()
    remove_albums: tuple[str, ...] = ()


def changed(written: Written, change: Change) -> Written:
    """`written` with the change.

    Raises:
        RequestError: a tag or an album makes no sense, or there would be too many.
    """
    tags = _labels("tag", written.tags, change.add_tags, change.remove_tags)
    albums = _labels("album", written.albums, change.add_albums, change.remove_albums)
    favourite = written.favourite if change.favourite is None else change.favourite
    return Written(favourite, written.rating if change.rating is None else change.rating, tags, albums)


def _labels(kind: str, labels: Sequence[str], add: Sequence[str], remove: Sequence[str]) -> tuple[str, ...]:
    kept = {folded(label): label for label in labels}
    for label in remove:
        kept.pop(folded(label), None)
    for label in add:
        clean = " ".join(clean_text(label).split())
        if not clean or len(clean) > MAX_LABEL or '"' in clean:
            raise RequestError(f"{kind}: must have 1 to {MAX_LABEL} characters and no quotation marks")
        kept.setdefault(folded(clean), clean)
    if len(kept) > MAX_LABELS:
        raise RequestError(f"{kind}: a picture can have {MAX_LABELS} of them, and this would be {len(kept)}")
    return tuple(sorted(kept.values(), key=str.casefold))
