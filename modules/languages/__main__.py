"""`python -m modules.languages`: what the language files lack or have too much.  `--write` puts the files in order.

Writing removes what nothing shows any more and adds what is missing with an empty translation, to be filled in; until then the
page shows the English.
"""

from __future__ import annotations

import sys

from modules.languages.checking import faults, tidied, write
from modules.languages.files import LANGUAGES, read
from modules.languages.texts import all_texts


def main(arguments: list[str]) -> int:
    shown, found = all_texts(), 0
    for name in LANGUAGES:
        texts = read(name)
        for fault in faults(texts, shown):
            found += 1
            print(f"{name}.json: {fault}")
        if "--write" in arguments:
            write(name, tidied(texts, shown))
    print(f"{len(shown)} texts; {found} faults in {len(LANGUAGES)} languages")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
