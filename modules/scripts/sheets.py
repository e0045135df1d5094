"""The grid pictures: cells in columns and rows with their headings, and the grids of several values of Z side by side.

Drawn with Pillow and a font that has the letters (`fonts`).  Cells are read one after the other, so that a grid takes the
memory of itself and of one picture.

Source of the proportions: AUTOMATIC1111 v1.10.1, `modules/images.draw_grid_annotations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from modules.scripts.fonts import font_for
from modules.scripts.plan import MAX_SHEET_PIXELS, Heading

_PAPER, _INK, _FAINT, _EMPTY = "white", "black", (153, 153, 153), (236, 236, 236)
_MIN_FONT = 10
_MIN_LINES = 8
"""Lines that a heading may have beside a small cell; beside a large one as many as the cell is high.  A prompt of thousands of
characters would otherwise make a grid of gigabytes."""
_MAX_HEADING = 4000
"""Characters of a heading that are measured."""
_BESIDE = 0.75
"""Width of the headings of rows, of a cell's."""

Size = tuple[int, int]
Pictures = Callable[[int], list[Image.Image] | str]
"""The pictures of a cell, or why there are none."""


@dataclass(frozen=True)
class Grid:
    """Headings and margin of a grid; `cell` is the size of a cell in pixels."""

    columns: Sequence[Heading]
    rows: Sequence[Heading]
    cell: Size
    legend: bool = True
    margin: int = 0

    def size(self) -> Size:
        """Of the cells and margins, in pixels."""
        (width, height), gap = self.cell, self.margin
        across, down = len(self.columns), len(self.rows)
        return across * width + (across - 1) * gap, down * height + (down - 1) * gap


def fitted(columns: int, rows: int, cell: Size) -> Size:
    """The size of a cell with which the grid is within `MAX_SHEET_PIXELS`: its own, or less."""
    pixels = columns * rows * cell[0] * cell[1]
    factor = math.sqrt(min(1.0, MAX_SHEET_PIXELS / pixels))
    return max(1, int(cell[0] * factor)), max(1, int(cell[1] * factor))


def draw_grid(grid: Grid, pictures: Pictures) -> Image.Image:
    """The grid with its headings; cell (column, row) is number row * columns + column."""
    (width, height), gap = grid.cell, grid.margin
    plane = Image.new("RGB", grid.size(), _PAPER)
    for number in range(len(grid.columns) * len(grid.rows)):
        row, column = divmod(number, len(grid.columns))
        found = pictures(number)
        cell = _empty(grid.cell, found) if isinstance(found, str) else _collage(found, grid.cell)
        plane.paste(cell, (column * (width + gap), row * (height + gap)))
    return annotated(plane, grid) if grid.legend else plane


def annotated(plane: Image.Image, grid: Grid) -> Image.Image:
    """`plane` with the headings of its columns above and of its rows beside it; nothing is added where there are none."""
    (width, height), gap = grid.cell, grid.margin
    written = "".join(text for heading in (*grid.columns, *grid.rows) for text, _ in heading)
    font = font_for(written, max(_MIN_FONT, (width + height) // 25))
    beside = int(width * _BESIDE) if any(grid.rows) else 0
    line = int(font.size * 1.5)
    most = max(_MIN_LINES, height // line)
    across = [_wrapped(heading, font, width, most) for heading in grid.columns]
    down = [_wrapped(heading, font, max(1, beside - int(font.size) // 2), most) for heading in grid.rows]
    above = max(len(lines) for lines in across) * line + (line if any(across) else 0)
    needed = max(len(lines) for lines in down) * line  # a heading that is higher than its row moves the rows apart
    step = max(height, needed) + gap
    sheet = Image.new("RGB", (plane.width + beside, above + step * len(grid.rows) - gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for row in range(len(grid.rows)):
        top = above + row * step
        sheet.paste(plane.crop((0, row * (height + gap), plane.width, row * (height + gap) + height)), (beside, top))
        _write(draw, down[row], (beside // 2, top + height // 2), font, line)
    for column, lines in enumerate(across):
        _write(draw, lines, (beside + column * (width + gap) + width // 2, above // 2), font, line)
    return sheet


Line = tuple[str, bool]


def _wrapped(heading: Heading, font: ImageFont.FreeTypeFont, width: int, most: int) -> list[Line]:
    """The heading's texts in lines of at most `width` pixels, broken at blanks, a longer word where it has to be; of more than
    `most` lines the last one says that some are left out."""
    texts = ((text[:_MAX_HEADING], holds) for text, holds in heading if text)
    lines = [(line, holds) for text, holds in texts for line in _lines(text, font, width)]
    return lines if len(lines) <= most else [*lines[: most - 1], ("...", True)]


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if font.getlength(longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            *whole, line = _broken(word, font, width)
            lines += whole
        lines.append(line)
    return lines


def _broken(word: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    parts = [""]
    for mark in word:
        if parts[-1] and font.getlength(parts[-1] + mark) > width:
            parts.append("")
        parts[-1] += mark
    return parts


def _write(draw: ImageDraw.ImageDraw, lines: list[Line], middle: Size, font: ImageFont.FreeTypeFont, line: int) -> None:
    """Lines around a point; what does not hold is grey and struck out."""
    x, top = middle[0], middle[1] - len(lines) * line // 2
    for place, (text, holds) in enumerate(lines):
        y = top + place * line + line // 2
        draw.text((x, y), text, font=font, fill=_INK if holds else _FAINT, anchor="mm")
        if not holds:
            half = font.getlength(text) / 2
            draw.line((x - half, y, x + half, y), fill=_FAINT, width=max(1, int(font.size) // 12))


def _collage(pictures: list[Image.Image], cell: Size) -> Image.Image:
    """Several pictures of a cell beside and below one another; one fills it."""
    across = math.ceil(math.sqrt(len(pictures)))
    down = math.ceil(len(pictures) / across)
    place = Image.new("RGB", cell, _EMPTY)
    width, height = cell[0] // across, cell[1] // down
    for number, picture in enumerate(pictures):
        small = picture.convert("RGB")
        if small.width > width or small.height > height:
            small.thumbnail((max(1, width), max(1, height)), Image.Resampling.LANCZOS)
        place.paste(small, (number % across * width, number // across * height))
    return place


def cell_size(sizes: Sequence[Size]) -> Size:
    """The size of a cell that holds as many pictures of these sizes."""
    across = max(1, math.ceil(math.sqrt(len(sizes))))
    down = max(1, math.ceil(len(sizes) / across))
    return across * max((one[0] for one in sizes), default=1), down * max((one[1] for one in sizes), default=1)


def _empty(cell: Size, words: str) -> Image.Image:
    place = Image.new("RGB", cell, _EMPTY)
    font = font_for(words, max(_MIN_FONT, (cell[0] + cell[1]) // 50))
    lines = [(line, True) for line in _lines(words, font, max(1, cell[0] - int(font.size)))][
        : max(1, int(cell[1] / font.size / 1.5))
    ]
    _write(ImageDraw.Draw(place), lines, (cell[0] // 2, cell[1] // 2), font, int(font.size * 1.5))
    return place
