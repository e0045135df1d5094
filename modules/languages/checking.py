"""Whether a language file has every text that is shown, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from modules.languages.files import FOLDER


def faults(texts: Mapping[str, str], shown: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the `texts` of a file, in words; `shown` are the English ones with the file in which each stands."""
    yield from (f"missing, of {where}: {key!r}" for key, where in shown.items() if not texts.get(key))
    yield from (f"nothing shows this any more: {key!r}" for key in texts if key not in shown)
    for key, text in texts.items():
        if text and placeholders(key) != placeholders(text):
            yield f"other values than the English: {key!r}: {text!r}"


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{\d+\}", text))


def tidied(texts: Mapping[str, str], shown: Mapping[str, str]) -> dict[str, str]:
    """The texts that are shown, in the order of a file; "" for what is missing."""
    return {key: texts.get(key, "") for key in sorted(shown, key=lambda key: (key.casefold(), key))}


def write(name: str, texts: Mapping[str, str], folder: Path = FOLDER) -> None:
    """Write a language file, a text on each line, so that changes of several people can be merged."""
    (folder / f"{name}.json").write_text(json.dumps(texts, ensure_ascii=False, indent=1) + "\n", "utf-8")
