"""An extension that failed while a picture was made: the picture is begun anew without it.

What was denoised by then is given up, so that the picture is, to the bit, the one that the request makes without the extension,
and not one that nothing could make again.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NoReturn

from modules.errors import AtelierError
from modules.hooks import HOOKS, Listing, Owned, T


class StartAgain(AtelierError):
    """The picture is to be begun anew without the plugin `owner`; never leaves `pipelines.generate`."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        super().__init__(f"the picture is begun anew without {owner!r}")


def start_again(owner: str) -> NoReturn:
    """
    Raises:
        StartAgain: always.
    """
    raise StartAgain(owner)


def taking_part(listing: Listing[T], without: Collection[str]) -> list[Owned[T]]:
    """The entries of `listing` but those of the plugins that the picture is made without."""
    return [one for one in listing.owned() if one.owner not in without]


def extended(*listings: Listing[Any]) -> bool:
    """Whether an extension has an entry in one of them."""
    return any(not HOOKS.is_built_in(one.owner) for listing in listings for one in listing.owned())
