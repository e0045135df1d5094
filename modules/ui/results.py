"""The results area: progress, preview, results and the empty state, as one component outside the tabs that is always there.

The component's page side lives in `static/` as ES modules and polls `/internal/*`; between it and Python go only small
messages.
The template is constant: Gradio evaluates templates as code, so no text of a user ever goes through one.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

from modules.ui.files import STATIC
from modules.ui.gradio import gr

_LOAD = """
const url = new URL("ui/VERSION/main.js", document.baseURI).href;
const events = ["reuse", "more", "choose", "plan"];  // what this component may send, see gr.HTML.__getattr__
// Gradio's load events come when every component is in the document, and what is started there looks for those of all tabs.
const built = window.atelierForms ? null : new Promise((go) => document.addEventListener("atelier:form", go, { once: true }));
Promise.all([import(url), built]).then(([page]) => page.start(element, {
  send: (name, data) => events.includes(name) && trigger(name, data),
  receive: (listen) => { watch("value", () => listen(props.value)); listen(props.value); },
}));
"""

_serial = itertools.count(1)


class Results(gr.HTML):
    """Shows the user's jobs and pictures.  Its value is the last message to the page, see `message`.

    Event `reuse`: the user wants settings in the form of a tab; `data` is `{"tab": ..., "fields": {...}}`.  Event `more`: the
    page goes on with a batch or a loop; `data` is `{"what": ..., "requests": [{"fields": {...}, "key": ...}]}`.
    Event `choose`: the user wants another checkpoint; `data` is `{"checkpoint": name}`,
        another VAE for the form of a tab, `{"vae": name, "tab": tab}`, values that fit the checkpoint,
        `{"fields": {...}, "tab": tab}`, or the styles that are there now, `{"styles": true}`.
    Event `plan`: what the script of a tab would make; `data` is `{"tab", "number", "values", "script", "size"}`, of which the
        values are those of the tab's form.
    """

    def __init__(self, version: str) -> None:
        super().__init__(
            html_template=(STATIC / "results" / "results.html").read_text("utf-8"),
            js_on_load=_LOAD.replace("VERSION", version),
            apply_default_css=False,
            elem_id="results",
        )

    def preprocess(self, payload: Any) -> Any:
        return payload

    def postprocess(self, value: Any) -> Any:
        return value

    def get_block_name(self) -> str:
        return "html"


def message(kind: str, **data: Any) -> str:
    """A message to the page.  The serial number makes two equal messages two messages.

    JSON text, so that Gradio does not look through it for files to fetch.
    """
    return json.dumps({"kind": kind, "serial": next(_serial), **data})
