"""What a tab of the page is.  The page knows no more of its tabs than this; later tabs are another entry in its list."""

from __future__ import annotations

from typing import Any, Protocol

from modules.ui.gradio import gr
from modules.ui.results import Results

Updates = dict[Any, Any]

NO_COOKIE = "This page needs a cookie to know which pictures are yours. Allow cookies for this address and reload the page."

NO_PAINTING = "Your account may look at pictures, but not paint. An administrator can change that."

AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "show_progress_on": (), "api_visibility": "private"}
"""For events that answer within milliseconds: no queue, no spinner, not offered as an API.

Nothing shows their progress: the browser's side of Gradio looks up each component that does, in the whole tree, at every event
from then on. That took seconds of the page's time where an event writes a whole form.
"""


class Tab(Protocol):
    """One tab: `name` is the address's hash and begins the ids of its elements, `label` stands in the bar.

    `shows` says what stands below it: the results's "pictures", the same in the place of the tab's own "canvas", or "nothing".
    """

    name: str
    label: str
    shows: str

    def build(self) -> None:
        """Make the components, inside the tab's own column; where they stand is for the style sheet."""

    def connect(self, results: Results, page: gr.Blocks) -> None:
        """Tie them to the results, when all tabs are built."""


def no_user(request: gr.Request) -> str:
    """The error for a request without a user who may submit."""
    return NO_PAINTING if getattr(request.request.state, "role", "") == "viewer" else NO_COOKIE
