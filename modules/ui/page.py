"""The page: puts header, tabs and results together and mounts them on the HTTP application.

All tabs are in the document from the beginning, so that each keeps its state and scripts find everything; which one is seen is
decided by the style sheet and `static/tabs.js`.  Where things stand is decided by the style sheet, by element ids and classes;
what they do, by the tabs and the results.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from html import escape
from pathlib import Path

from fastapi import FastAPI
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from modules import __version__
from modules.app import App
from modules.hooks import HOOKS, error_text, hookimpl
from modules.languages import files as languages
from modules.ui.files import STATIC, imported
from modules.ui.first_script import FirstScript
from modules.ui.form_sync import FormSync
from modules.ui.gradio import gr, keep_signatures
from modules.ui.results import Results
from modules.ui.tabs.base import Tab
from modules.ui.tabs.extensions import ExtensionsTab
from modules.ui.tabs.extras import ExtrasTab
from modules.ui.tabs.gallery import GalleryTab
from modules.ui.tabs.img2img import Img2ImgTab
from modules.ui.tabs.inpaint import InpaintTab
from modules.ui.tabs.models import ModelsTab
from modules.ui.tabs.png_info import PngInfoTab
from modules.ui.tabs.settings import SettingsTab
from modules.ui.tabs.txt2img import Txt2ImgTab
from modules.ui.theme import theme

log = logging.getLogger("atelier")


def mount_page(server: FastAPI, app: App) -> FastAPI:
    """Serve the page at "/" and its scripts and styles below "/ui/<version>/".  Routes added after this are not reached."""
    os.environ["GRADIO_TEMP_DIR"] = str(app.settings.data_dir / "gradio")  # its default is shared by all users of the machine
    version = _version(STATIC, languages.digest())
    server.mount(f"/ui/{version}/languages", languages.language_files(), name="languages")
    server.mount(f"/ui/{version}", StaticFiles(directory=STATIC), name="ui")
    sync = FormSync(app)
    shown = tabs(app, sync, version)
    page = build_page(sync, shown, version)
    # Only then does Gradio check that a file whose path a callback gets was uploaded; else it would copy any into its cache.
    page.has_launched = True
    # No event of ours is queued, but Gradio looks into its queue a thousand times a second, 6 % of a processor for ever.
    page._queue.sleep_when_free = page._queue.progress_update_sleep_when_free = 1.0
    mounted = gr.mount_gradio_app(
        server,
        page,
        path="/",
        theme=theme(),
        head=_head(version, shown),
        favicon_path=str(STATIC / "favicon.png"),
        footer_links=[],
        show_error=False,
        run_history=False,
        enable_monitoring=False,
        allowed_paths=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
    )
    for route in mounted.routes:
        if isinstance(route, Mount) and isinstance(route.app, FastAPI):
            route.app.add_middleware(FirstScript, tag=f'<script src="ui/{version}/languages/translate.js"></script>')
    return mounted


class _BuiltIn:
    others = (ExtrasTab, PngInfoTab, GalleryTab, ModelsTab, ExtensionsTab, SettingsTab)
    names = frozenset(kind.name for kind in (Txt2ImgTab, Img2ImgTab, InpaintTab, *others))

    @hookimpl
    def tabs(self, app: App, sync: FormSync, version: str) -> tuple[Tab, ...]:
        """Those that are hidden are not made at all: forms that are never built would be filled."""
        painting: dict[str, Callable[[], Tab]] = {
            Txt2ImgTab.name: lambda: Txt2ImgTab(app, sync),
            Img2ImgTab.name: lambda: Img2ImgTab(app, sync, version),
            InpaintTab.name: lambda: InpaintTab(app, sync, version),
        }
        makers = {**painting, **{kind.name: kind for kind in self.others}}
        return tuple(make() for name, make in makers.items() if name not in app.settings.hidden_tabs)


HOOKS.register(_BuiltIn(), "atelier.tabs", built_in=True)


def tabs(app: App, sync: FormSync, version: str) -> list[Tab]:
    """The tabs in the order of the bar, those of extensions last, without those that the settings hide."""
    found = HOOKS.collect("tabs", "tab", lambda tab: (_checked(tab).name,), app=app, sync=sync, version=version)
    known = {*_BuiltIn.names, *(one.entry.name for one in found)}
    for name in app.settings.hidden_tabs:
        if name not in known:
            log.warning("there is no tab %s to hide; there are %s", name, ", ".join(sorted(known)))
    found = [one for one in found if one.entry.name not in app.settings.hidden_tabs]
    return [one.entry if HOOKS.is_built_in(one.owner) else Guarded(one.entry, one.owner) for one in found]


def _checked(tab: Tab) -> Tab:
    """`tab` with a name that may stand in ids, selectors and addresses.

    Raises:
        ValueError: it has none, or shows what there is not.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", tab.name):
        raise ValueError(f"a tab's name is made of small letters, digits and _, not {tab.name!r}")
    if tab.shows not in ("pictures", "canvas", "nothing"):
        raise ValueError(f"the tab {tab.name!r} shows pictures, canvas or nothing, not {tab.shows!r}")
    return tab


class Guarded:
    """A tab of an extension: where it fails, it says so in its own place, and the page stands."""

    def __init__(self, tab: Tab, owner: str) -> None:
        self._tab, self._owner = tab, owner
        self.name, self.label, self.shows = tab.name, tab.label, tab.shows
        self._built = False

    def build(self) -> None:
        try:
            self._tab.build()
            self._built = True
        except Exception as error:
            self._failed("built", error)
            gr.HTML(f"<p>This tab of {escape(self._owner)} could not be built; the log says why.</p>", js_on_load=None)

    def connect(self, results: Results, page: gr.Blocks) -> None:
        if self._built:
            try:
                self._tab.connect(results, page)
            except Exception as error:
                self._failed("connected", error)

    def _failed(self, what: str, error: Exception) -> None:
        HOOKS.report(self._owner, "tabs", f"its tab {self.name!r} could not be {what}: {error_text(error)}", error)


def build_page(sync: FormSync, shown: list[Tab], version: str) -> gr.Blocks:
    with gr.Blocks(title="Atelier", fill_width=True, analytics_enabled=False, delete_cache=(600, 86400)) as page:
        with gr.Row(elem_id="masthead", elem_classes="plain"):
            gr.HTML((STATIC / "wordmark.html").read_text("utf-8"), elem_id="wordmark", js_on_load=None)
            gr.HTML(_tab_bar(shown), elem_id="tab_bar", js_on_load=None)
            sync.build()
            status = (STATIC / "status.html").read_text("utf-8").replace("VERSION", __version__)
            gr.HTML(status, elem_id="status", js_on_load=None)
        with gr.Column(elem_id="workspace", elem_classes="plain"):
            for tab in shown:
                with gr.Column(elem_id=f"{tab.name}_panel", elem_classes="plain tab-panel"):
                    tab.build()
            gr.HTML('<p id="complaint" role="alert" hidden></p>', elem_id="complaint_area", js_on_load=None)
            results = Results(version)
        sync.connect(results, page)
        for tab in shown:
            tab.connect(results, page)
    keep_signatures(page)
    return page


def _tab_bar(shown: list[Tab]) -> str:
    """Links, so that each tab has an address; `static/tabs.js` makes tabs of them."""
    links = (
        f'<a href="#{tab.name}" id="tab_{tab.name}" data-shows="{tab.shows}" role="tab">{escape(tab.label)}</a>'
        for tab in shown
    )
    return f'<nav class="tabs" role="tablist" aria-label="What to do">{"".join(links)}</nav>'


def _version(folder: Path, further: bytes = b"") -> str:
    """Changes with any served file, so that browsers may keep each version for ever."""
    digest = hashlib.sha256(further)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


_STYLES = (
    "atelier.css",
    "prompt/prompt.css",
    "results/view_switch.css",
    "canvas/canvas.css",
    "forms/options.css",
    "forms/generate.css",
    "forms/script.css",
    "results/script_run.css",
    "png_info.css",
    "gallery/gallery.css",
    "gallery/look.css",
    "extras/extras.css",
    "models/models.css",
    "models/detail.css",
    "models/adapter_panel.css",
    "settings/settings.css",
    "extensions/extensions.css",
    "panes.css",
    "results/viewer.css",
    "help.css",
    "account.css",
    "models/tools.css",
)
"""Later ones win."""


def _head(version: str, shown: list[Tab]) -> str:
    """Everything that the page's scripts import is named, so that it comes while Gradio still builds the page: found one
    import after the other, behind Gradio, it takes most of a second.  At a low priority, for Gradio's own come first."""
    base = f"ui/{version}"
    styles = (f'<link rel="stylesheet" href="{base}/{name}">' for name in _STYLES)
    scripts = (
        f'<link rel="modulepreload" fetchpriority="low" href="{base}/{name}">'
        for name in imported(STATIC, "main.js", "canvas/index.js")
    )
    return (
        "".join(styles)
        + f'<script src="{base}/mode.js"></script><script src="{base}/where.js"></script>'
        + f"<style>{_one_seen(shown)}</style>"
        + '<meta name="color-scheme" content="light dark">'
        + "".join(scripts)
    )


def _one_seen(shown: list[Tab]) -> str:
    """Styles that show the parts of one tab, from the first moment on.  Which one, `static/where.js` has said by then."""
    known = "".join(f":not([data-tab={tab.name}])" for tab in shown)
    rules = [f":root{known} #workspace>#{shown[0].name}_panel{{display:contents}}"]
    for tab in shown:
        rules.append(f":root[data-tab={tab.name}] #workspace>#{tab.name}_panel{{display:contents}}")
        if tab.shows == "nothing":
            rules.append(f":root[data-tab={tab.name}] #results{{display:none}}")
    return "".join(rules)
