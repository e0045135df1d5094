"""Authorization: one table of routes with the least role for each.  What is not in it is for administrators.

The guard asks here before anything else sees a request, so a new route that is forgotten here is shut, not open.  On a
local instance everybody is the administrator of it, and only what nobody may call is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Least = Literal["anybody", "viewer", "user", "administrator", "nobody"]
ORDER: tuple[str, ...] = ("", "viewer", "user", "administrator")
"""Roles from the one who may least; "" is who has not said who they are."""

_GET, _POST = ("GET",), ("POST",)


@dataclass(frozen=True)
class Rule:
    """Of a route: `pattern` has {} for one segment of the path and {*} for all the rest, even an empty one.

    `in_person`: only for a user who logged in with a browser, not for a token.
    `acts_from`: who is below this role gets in, but the endpoint gets no user to act for.
    """

    methods: tuple[str, ...]
    pattern: str
    least: Least
    in_person: bool = False
    acts_from: Least = "viewer"


def _rules(methods: tuple[str, ...], least: Least, *patterns: str, in_person: bool = False) -> list[Rule]:
    return [Rule(methods, pattern, least, in_person) for pattern in patterns]


RULES: tuple[Rule, ...] = (
    # Gradio can relay addresses of the whole internet, keeps statistics of who does what, and logs in by its own rules; its
    # upload answers with paths of this machine, and pictures come by /internal/sources.
    *_rules(("*",), "nobody", "/gradio_api/file=http{*}", "/file=http{*}", "/gradio_api/proxy={*}", "/proxy={*}"),
    *_rules(("*",), "nobody", "/gradio_api/file/{*}", "/file/{*}", "/gradio_api/dev/{*}", "/gradio_api/vibe-{*}"),
    *_rules(("*",), "nobody", "/gradio_api/upload{*}", "/upload{*}"),
    *_rules(("*",), "nobody", "/monitoring{*}", "/gradio_api/monitoring{*}", "/gradio_api/deep_link", "/gradio_api/runs{*}"),
    # the login pages
    *_rules(_GET, "anybody", "/health", "/door/{}/{*}"),
    *_rules(("GET", "POST"), "anybody", "/login", "/setup", "/invite"),
    *_rules(_POST, "viewer", "/logout"),
    *_rules(_GET, "viewer", "/internal/account"),
    *_rules(_GET, "viewer", "/account", in_person=True),
    *_rules(_POST, "viewer", "/account/password", "/account/sessions/end", "/account/sessions/{}/end", in_person=True),
    *_rules(_POST, "viewer", "/account/tokens", "/account/tokens/{}/revoke", in_person=True),
    *_rules(_POST, "administrator", "/account/invitations", "/account/invitations/{}/withdraw", in_person=True),
    *_rules(_POST, "administrator", "/account/people/{}/role", "/account/people/{}/disable", in_person=True),
    *_rules(_POST, "administrator", "/account/people/{}/enable", "/account/people/{}/remove", in_person=True),
    *_rules(_POST, "administrator", "/account/people/{}/reset", "/account/people/{}/end", in_person=True),
    # the page
    *_rules(_GET, "viewer", "/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *_rules(_GET, "viewer", "/assets/{*}", "/static/{*}", "/svelte/{*}", "/ui/{}/{*}"),
    *_rules(_GET, "viewer", "/gradio_api/heartbeat/{}", "/gradio_api/startup-events", "/gradio_api/queue/data"),
    *_rules(_POST, "viewer", "/gradio_api/reset", "/gradio_api/cancel"),
    # Which callback is meant is in the body, so a viewer gets in, and then nothing can be done in their name.
    Rule(_POST, "/gradio_api/run/{}", "viewer", acts_from="user"),
    Rule(_POST, "/gradio_api/queue/join", "viewer", acts_from="user"),
    # what the page lives on
    *_rules(_GET, "viewer", "/internal/engine", "/internal/checkpoints", "/internal/queue", "/internal/events"),
    *_rules(_GET, "viewer", "/internal/jobs", "/internal/jobs/{}", "/internal/jobs/{}/preview", "/internal/jobs/{}/zip"),
    *_rules(_GET, "viewer", "/internal/jobs/{}/events", "/internal/pictures/{}/{}", "/internal/pictures/{}/{}/thumbnail"),
    *_rules(_GET, "viewer", "/internal/sources/{}", "/internal/prompt/names"),
    *_rules(_GET, "viewer", "/internal/models", "/internal/models/{}", "/internal/models/{}/preview"),
    *_rules(_POST, "administrator", "/internal/models/refresh", "/internal/models/{}/preview{*}"),
    *_rules(_POST, "viewer", "/internal/models/{}"),  # favourites; the endpoint refuses the rest
    *_rules(_POST, "user", "/internal/models/{}/hash"),
    *_rules(_GET, "viewer", "/internal/gallery", "/internal/gallery/count", "/internal/gallery/ids"),
    *_rules(_GET, "viewer", "/internal/gallery/facets", "/internal/gallery/state", "/internal/gallery/zips/{}"),
    *_rules(_GET, "viewer", "/internal/gallery/pictures/{}", "/internal/gallery/pictures/{}/thumbnail"),
    *_rules(_GET, "viewer", "/internal/gallery/pictures/{}/recipe"),
    *_rules(_POST, "viewer", "/internal/gallery/zips"),
    *_rules(_POST, "user", "/internal/gallery/edit", "/internal/gallery/trash", "/internal/gallery/restore"),
    *_rules(_POST, "user", "/internal/gallery/empty", "/internal/gallery/rescan"),
    *_rules(_POST, "viewer", "/internal/prompt/check", "/internal/read", "/internal/quote"),
    *_rules(_POST, "user", "/internal/jobs", "/internal/jobs/{}/cancel", "/internal/jobs/{}/retry"),
    *_rules(_POST, "user", "/internal/jobs/{}/skip", "/internal/jobs/{}/interrupt"),
    *_rules(_POST, "user", "/internal/jobs/{}/remove", "/internal/jobs/{}/move", "/internal/queue/pause"),
    *_rules(_POST, "user", "/internal/jobs/{}/delete", "/internal/pictures/{}/{}/delete"),
    *_rules(_POST, "user", "/internal/sources"),
    *_rules(_GET, "viewer", "/internal/scripts", "/internal/scripts/{}", "/internal/scripts/{}/sheets/{}"),
    *_rules(_POST, "user", "/internal/scripts/{}/cancel", "/internal/scripts/{}/again", "/internal/scripts/{}/remove"),
    *_rules(_GET, "administrator", "/internal/model-tools", "/internal/model-tools/sources"),
    *_rules(_POST, "administrator", "/internal/model-tools", "/internal/model-tools/look"),
    *_rules(_POST, "administrator", "/internal/model-tools/{}/cancel", "/internal/model-tools/{}/forget"),
    *_rules(_GET, "viewer", "/internal/extensions"),
    *_rules(_POST, "administrator", "/internal/extensions/proposals", "/internal/extensions/{}/update", in_person=True),
    *_rules(_POST, "administrator", "/internal/extensions/proposals/{}/accept", in_person=True),
    *_rules(_POST, "administrator", "/internal/extensions/proposals/{}/discard", in_person=True),
    *_rules(_POST, "administrator", "/internal/extensions/{}/enable", "/internal/extensions/{}/disable", in_person=True),
    *_rules(_POST, "administrator", "/internal/extensions/{}/remove", in_person=True),
    *_rules(_GET, "viewer", "/internal/settings", "/internal/preferences", "/internal/presets", "/internal/presets/{}/file"),
    *_rules(_POST, "administrator", "/internal/settings"),
    *_rules(_POST, "viewer", "/internal/preferences"),
    *_rules(
        _POST, "user", "/internal/presets", "/internal/presets/read", "/internal/presets/{}", "/internal/presets/{}/delete"
    ),
    *_rules(_GET, "viewer", "/internal/styles", "/internal/wildcards"),
    *_rules(_POST, "viewer", "/internal/wildcards/read", "/internal/wildcards/draw"),
    *_rules(_POST, "administrator", "/internal/styles", "/internal/styles/delete"),
    *_rules(_POST, "administrator", "/internal/wildcards", "/internal/wildcards/delete"),
    # extensions': what they have elsewhere is for administrators
    *_rules(_GET, "viewer", "/extensions/{}", "/extensions/{}/{*}"),
    *_rules(_POST, "user", "/extensions/{}", "/extensions/{}/{*}"),
    # the API of our own
    *_rules(_GET, "viewer", "/api/v1", "/api/v1/{*}", "/openapi.json", "/docs"),
    *_rules(("POST", "PUT", "PATCH", "DELETE"), "user", "/api/v1/{*}"),
    # A1111's
    *_rules(_POST, "administrator", "/sdapi/v1/unload-checkpoint", "/sdapi/v1/reload-checkpoint"),
    *_rules(_GET, "viewer", "/sdapi/v1/{*}", "/controlnet/{*}", "/internal/pending-tasks", "/internal/ping"),
    *_rules(_GET, "viewer", "/queue/status"),
    *_rules(_POST, "viewer", "/sdapi/v1/png-info", "/internal/progress"),
    *_rules(_POST, "user", "/sdapi/v1/txt2img", "/sdapi/v1/img2img", "/sdapi/v1/interrogate", "/sdapi/v1/options"),
    *_rules(_POST, "user", "/sdapi/v1/extra-single-image", "/sdapi/v1/extra-batch-images"),
    *_rules(_POST, "user", "/sdapi/v1/interrupt", "/sdapi/v1/skip", "/sdapi/v1/refresh-{*}", "/controlnet/{*}"),
)
"""The first that fits counts."""

OTHERS = Rule(("*",), "{*}", "administrator")


def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (re.escape(part) for part in re.split(r"(\{\*?\})", pattern))
    return re.compile("".join(parts).replace(r"\{\*\}", ".*").replace(r"\{\}", "[^/]+"), re.DOTALL)


_COMPILED = tuple((rule, _compiled(rule.pattern)) for rule in RULES)


def rule_for(method: str, path: str) -> Rule:
    """The rule for this request.  `path` is compared as it is: a spelling that some router might tidy up fits none.

    Nothing is remembered by it: paths come from people who have not said who they are, and may be 60 kB long.
    """
    method = "GET" if method == "HEAD" else method
    fits = (rule for rule, pattern in _COMPILED if pattern.fullmatch(path) and (method in rule.methods or "*" in rule.methods))
    return next(fits, OTHERS)


def methods_for(path: str, role: str) -> tuple[str, ...]:
    """The methods by which this role may ask for `path`; none where no rule names the whole of it."""
    named = [(rule, pattern) for rule, pattern in _COMPILED if rule.least != "nobody" and not rule.pattern.endswith("{*}")]
    rules = [rule for rule, pattern in named if pattern.fullmatch(path)]
    allowed = {method for rule in rules if reaches(role, rule.least) for method in rule.methods if method != "*"}
    return tuple(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))


def reaches(role: str, least: Least) -> bool:
    """Whether this role may do what needs at least that one.

    >>> reaches("user", "viewer"), reaches("viewer", "user"), reaches("", "anybody"), reaches("administrator", "nobody")
    (True, False, True, False)
    """
    if least == "nobody":
        return False
    return least == "anybody" or ORDER.index(role) >= ORDER.index(least)
