"""The font of what is drawn: Pillow's own, or for Chinese, Japanese and Korean letters one of the machine that has them."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path.home() / ".local" / "share" / "fonts",
    Path("/System/Library/Fonts"),
    Path("/Library/Fonts"),
    Path(os.environ.get("WINDIR", "C:\\Windows")) / "Fonts",
)
FILES = (
    *(
        "NotoSansCJK-Regular.ttc",
        "NotoSansCJKsc-Regular.otf",
        "NotoSansCJKjp-Regular.otf",
        "NotoSansSC-Regular.otf",
        "NotoSansJP-Regular.otf",
    ),
    *("SourceHanSans-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "DroidSansFallback.ttf"),
    *(
        "msyh.ttc",
        "YuGothR.ttc",
        "msgothic.ttc",
        "simsun.ttc",
        "PingFang.ttc",
        "Hiragino Sans GB.ttc",
        "Arial Unicode.ttf",
        "arialuni.ttf",
    ),
)
"""Fonts with these letters that systems come with, the better ones first."""

_CJK = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of `size` pixels that has the letters of `text`; where the machine has none with them, they are drawn as boxes."""
    if _CJK.search(text) and (path := _with_cjk(FOLDERS)) is not None:
        try:
            return ImageFont.truetype(str(path), size)
        except OSError:  # damaged: then as without it
            pass
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


@lru_cache(maxsize=8)
def _with_cjk(folders: tuple[Path, ...]) -> Path | None:
    found = {path.name: path for folder in folders if folder.is_dir() for path in folder.rglob("*.[ot]t[cf]")}
    return next((found[name] for name in FILES if name in found), None)
