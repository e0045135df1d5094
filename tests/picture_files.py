"""The pixels of a picture file, as the program itself reads them."""

from __future__ import annotations

from pathlib import Path

from modules.images.decode import decode


def read_pixels(source: Path | bytes) -> tuple[bytes, int, int]:
    """RGB8 as bytes, width, height.

    Raises:
        RequestError: torn, damaged, too large, or no picture.
    """
    data, name = (source, "the picture") if isinstance(source, bytes) else (source.read_bytes(), source.name)
    image = decode(data, name).convert("RGB")
    return image.tobytes(), image.width, image.height
