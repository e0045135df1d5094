"""The web half: a tab that opens the slideshow, and the page that it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse

from modules.hooks import hookimpl

FOLDER = Path(__file__).parent
FILES = {"slides.js": "text/javascript", "slides.css": "text/css"}


class Plugin:
    @hookimpl
    def routes(self) -> list[APIRouter]:
        """The page and its files; pictures come by the gallery's own routes, which know whose they are."""
        router = APIRouter(include_in_schema=False)

        @router.get("/extensions/slideshow")
        async def page() -> FileResponse:
            return FileResponse(FOLDER / "slides.html", media_type="text/html; charset=utf-8")

        for name, media_type in FILES.items():
            router.add_api_route(f"/extensions/slideshow/{name}", _file(FOLDER / name, media_type), methods=["GET"])
        return [router]

    @hookimpl
    def tabs(self) -> list[Any]:
        return [SlideshowTab()]


def _file(path: Path, media_type: str) -> Any:
    async def file() -> FileResponse:
        return FileResponse(path, media_type=f"{media_type}; charset=utf-8")

    return file


class SlideshowTab:
    """What to show, and the button that opens it in a window of its own."""

    name = "slideshow"
    label = "Slideshow"
    shows = "nothing"

    def build(self) -> None:
        from modules.ui.gradio import gr  # the page is there when this is asked; the engine and the command line need none

        gr.HTML((FOLDER / "tab.html").read_text("utf-8"), elem_id="slideshow_area", js_on_load=None)

    def connect(self, results: Any, page: Any) -> None:
        """Nothing: it is a form that the browser sends."""
