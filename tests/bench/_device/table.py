"""`python -m tests.bench._device.table FILE`: the figures that `--save FILE` wrote, as one Markdown table.

A line for what was measured, a column for each program; what only one program has, and what failed, stands below.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(figures: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown."""
    compared = [figure for figure in figures if figure["by"] and not _profile(figure)]
    columns = list(dict.fromkeys(figure["by"] for figure in compared if not math.isnan(figure["value"])))
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for figure in compared:
        if not math.isnan(figure["value"]):
            rows.setdefault((figure["what"].strip(), figure["unit"]), {})[figure["by"]] = figure["value"]
    if columns:
        yield "| what | " + " | ".join(columns) + " |"
        yield "|---" * (len(columns) + 1) + "|"
    for (what, unit), values in rows.items():
        cells = [f"{values[by]:.4g}" if by in values else "" for by in columns]
        yield f"| {what}{f', {unit}' if unit else ''} | " + " | ".join(cells) + " |"
    for figure in figures:
        if math.isnan(figure["value"]):
            by = f", {figure['by']}" if figure["by"] else ""
            yield f"* {figure['what']}{by}: {figure['how']}"
        elif not figure["by"]:
            how = f" ({figure['how']})" if figure["how"] else ""
            yield f"* {figure['what']}: {figure['value']:.4g} {figure['unit']}{how}"


def _profile(figure: dict[str, Any]) -> bool:
    """Kernels have lines of their own where they were printed."""
    return str(figure["what"]).startswith("kernel ")


if __name__ == "__main__":
    print("\n".join(table(read(Path(sys.argv[1])))))
