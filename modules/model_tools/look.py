"""A look into a repository before something of it is chosen, by a process of its own, as all that goes to the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from modules.errors import AtelierError, RequestError
from modules.model_tools.origins import Link, parse_source, shown
from modules.settings import ROOT

SECONDS = 60
MAX_SOURCE = 2000


def look(source: str) -> dict[str, Any]:
    """`name`, `files` (name, size, pickle) and `pipeline` (size, fp16; None without one) of a repository, `file` if the source
    names one.  Of a link, `link` is true and nothing is asked.

    Raises:
        RequestError: the source makes no sense or is not to be had, or the hub cannot be reached.
    """
    try:
        if len(source) > MAX_SOURCE:
            raise ValueError(f"must have at most {MAX_SOURCE} characters")
        parsed = parse_source(source)
    except ValueError as error:
        raise RequestError(f"source: {error}") from None
    if isinstance(parsed, Link):
        return {"name": shown(parsed.url), "files": [], "pipeline": None, "file": "", "link": True}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "modules.model_tools.look"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input=source.encode(),
            capture_output=True,
            timeout=SECONDS,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise RequestError(f"the repository did not answer within {SECONDS} seconds; try again") from None
    except (OSError, ValueError):
        raise RequestError("the repository could not be looked into; the server's log has more") from None
    if "error" in answer:
        raise RequestError(str(answer["error"]))
    return {**answer, "file": parsed.file, "link": False}


def main() -> int:
    said = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    from modules.model_tools.hub import contents, described

    source = parse_source(sys.stdin.buffer.read().decode())
    assert not isinstance(source, Link), "links are not looked into"
    try:
        answer = described(contents(source))
    except AtelierError as error:
        answer = {"error": str(error)}
    with said:
        json.dump(answer, said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
