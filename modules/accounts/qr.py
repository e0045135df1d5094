"""QR codes of links: as SVG for a page, as text for a terminal."""

from __future__ import annotations

import io

import segno

_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def qr_svg(link: str) -> str:
    """An <svg> element, black on white, with the quiet zone that scanners need."""
    buffer = io.BytesIO()
    segno.make(link, error="m", micro=False).save(
        buffer, kind="svg", xmldecl=False, svgns=False, nl=False, omitsize=True, border=3, dark="#000", light="#fff"
    )
    return buffer.getvalue().decode()


def qr_text(link: str) -> str:
    """Two rows of modules per line, black on white whatever the terminal's colours."""
    rows = [[bool(cell) for cell in row] for row in segno.make(link, error="l", micro=False).matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    lines = (
        "".join(_HALVES[pair] for pair in zip(*pair_of_rows, strict=True))
        for pair_of_rows in zip(rows[::2], rows[1::2], strict=True)
    )
    return "\n".join(f"\x1b[30;107m{line}\x1b[0m" for line in lines)
