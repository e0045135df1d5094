"""The folder of scripts, styles and templates that the page is made of."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r"""^(?:import|(?:import|export)\b[^;"'=]*\bfrom)\s*["'](\.{1,2}/[^"']+)["']""", re.MULTILINE)


def imported(folder: Path, *entries: str) -> list[str]:
    """The script modules that these import, and those that they import, themselves included: paths below `folder`, each once.

    Nearest first, as a browser finds them.  What is imported by a call, `import(...)`, is not among them: it is wanted later.
    """
    found = dict.fromkeys(entries)
    waiting = list(entries)
    while waiting:
        name = waiting.pop(0)
        for target in _IMPORT.findall((folder / name).read_text("utf-8")):
            path = normpath(str(PurePosixPath(name).parent / target))
            if path not in found:
                found[path] = None
                waiting.append(path)
    return list(found)
