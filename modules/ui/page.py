"""The page: puts header, tab and studio together and mounts them on the HTTP application.

Where things stand is decided by the style sheet, by element ids; what they do, by the tab and the studio.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from modules.app import App
from modules.ui.gradio import gr
from modules.ui.job_bar import STATIC, Studio
from modules.ui.tabs.txt2img import Txt2ImgTab
from modules.ui.theme import theme


def mount_page(server: FastAPI, app: App) -> FastAPI:
    """Serve the page at "/" and its scripts and styles below "/ui/<version>/".  Routes added after this are not reached."""
    os.environ["GRADIO_TEMP_DIR"] = str(app.settings.data_dir / "gradio")  # its default is shared by all users of the machine
    version = _version(STATIC)
    server.mount(f"/ui/{version}", StaticFiles(directory=STATIC), name="ui")
    return gr.mount_gradio_app(
        server,
        build_page(app, version),
        path="/",
        theme=theme(),
        head=_head(version),
        favicon_path=str(STATIC / "favicon.png"),
        footer_links=[],
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        allowed_paths=[],
        max_file_size="16mb",
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )


def build_page(app: App, version: str) -> gr.Blocks:
    tab = Txt2ImgTab(app)
    with gr.Blocks(title="Atelier", fill_width=True, analytics_enabled=False, delete_cache=(600, 86400)) as page:
        with gr.Row(elem_id="masthead", elem_classes="plain"):
            gr.HTML((STATIC / "wordmark.html").read_text("utf-8"), elem_id="wordmark", js_on_load=None)
            tab.build_checkpoint()
            gr.HTML((STATIC / "status.html").read_text("utf-8"), elem_id="status", js_on_load=None)
        with gr.Column(elem_id="bench", elem_classes="plain"):
            tab.build_prompt()
            below_prompt = (STATIC / "reading.html").read_text("utf-8") + '<p id="complaint" role="alert" hidden></p>'
            gr.HTML(below_prompt, elem_id="complaint_area", js_on_load=None)
            tab.build_settings()
            studio = Studio(version)
        tab.connect(studio, page)
    return page


def _version(folder: Path) -> str:
    """Changes with any served file, so that browsers may keep each version for ever."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _head(version: str) -> str:
    return (
        f'<link rel="stylesheet" href="ui/{version}/atelier.css">'
        f'<link rel="stylesheet" href="ui/{version}/prompt.css">'
        f'<link rel="modulepreload" href="ui/{version}/main.js">'
        f'<script src="ui/{version}/mode.js"></script>'
        '<meta name="color-scheme" content="light dark">'
    )
