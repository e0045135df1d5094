"""A new extension to begin with: both halves, an option, something to see, a README and a test that passes."""

from __future__ import annotations

import re
from pathlib import Path

from modules.errors import ExtensionError
from modules.extensions.manifest import NAME

FILES = Path(__file__).parent / "files"
"""Each file of the template, with .txt behind its name so that it is nobody's code yet."""


def write(name: str, folder: Path) -> Path:
    """Write the extension `name` into `folder`, which is made and should be called so too; returns it.

    Raises:
        ExtensionError: the folder is there, it is no name for an extension, or it cannot be written.
    """
    if not NAME.fullmatch(name):
        raise ExtensionError(
            f"an extension cannot be called {name[:60]!r}; take lower-case letters, digits and _, at most 40, a letter first"
        )
    try:
        folder.mkdir(parents=True)
        for source in sorted(path for path in FILES.rglob("*.txt") if path.is_file()):
            place = folder / source.relative_to(FILES).with_suffix("").as_posix().replace("NAME", name)
            place.parent.mkdir(exist_ok=True)
            place.write_text(filled(source.read_text("utf-8"), name), "utf-8")
    except FileExistsError:
        raise ExtensionError(f"{folder} is there already; take another name, or remove it") from None
    except OSError as error:
        raise ExtensionError(f"{folder} cannot be written: {error.strerror or error}") from None
    return folder


def filled(text: str, name: str) -> str:
    """`text` of the template with the extension's name in it.

    >>> filled("@CLASS@Options of @NAME@, @TITLE@", "more_light")
    'MoreLightOptions of more_light, More light'
    """
    words = {
        "NAME": name,
        "TITLE": name.replace("_", " ").capitalize(),
        "CLASS": name.replace("_", " ").title().replace(" ", ""),
    }
    return re.sub("@([A-Z]+)@", lambda found: words[found[1]], text)
