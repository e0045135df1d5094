"""Answers of the models' routes from a list in memory, given to a browser in the place of the server's: for any number of models."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit


def card(number: int, kind: str = "lora", **more: Any) -> dict[str, Any]:
    name = more.pop("name", f"style {number:04}")
    insert = {"lora": f"<lora:{name}:1>", "hypernetwork": f"<hypernet:{name}:1>", "embedding": name}.get(kind, "")
    plain = {
        "id": f"{kind}-{number}", "kind": kind, "name": name, "file": f"{name}.safetensors", "folder": "loras", "family": "SD 1.x",
        "size": 9_400_000, "modified": 0, "hash": "", "base_model": "", "triggers": [], "preview": "", "fits": "", "problem": "",
        "insert": insert, "weight": None, "loaded": "", "favourite": False,
    }  # fmt: skip
    return plain | more


class FakeRoutes:
    """Answers for `items`; `asked` holds the queries in order.  `read` by id is what only details say, of files that the list
    has not read yet."""

    def __init__(
        self,
        items: list[dict[str, Any]],
        loaded: list[dict[str, Any]] | None = None,
        read: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.items, self.loaded, self.read = items, loaded or [], read or {}
        self.asked: list[dict[str, str]] = []

    def answer_for(self, context: Any) -> FakeRoutes:
        context.route("**/internal/models**", self._route)
        return self

    def _route(self, route: Any) -> None:
        parts = urlsplit(route.request.url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        rest = parts.path.split("/internal/models", 1)[1].strip("/")
        if not rest:
            self.asked.append(query)
            return self._send(route, self._list(query))
        if rest == "loaded":
            return self._send(route, self.loaded)
        found = next((item for item in self.items if item["id"] == rest), None)
        if found is None:
            return route.fulfill(status=404, body="{}")
        details = {"facts": [], "tags": [], "description": "", "notes": "", "negative": "", "defaults": {}, "may_edit": True}
        self._send(route, {**details, **found, **self.read.get(rest, {})})

    def _list(self, query: dict[str, str]) -> dict[str, Any]:
        found = [item for item in self.items if query.get("q", "").lower() in item["name"].lower()]
        kinds: dict[str, int] = {}
        for item in found:
            kinds[item["kind"]] = kinds.get(item["kind"], 0) + 1
        found = [item for item in found if query.get("kind", item["kind"]) == item["kind"]]
        found = [item for item in found if f"{item['folder']}/".startswith(query.get("folder", ""))]
        offset, limit = int(query.get("offset", 0)), int(query.get("limit", 60))
        folders = sorted({item["folder"] for item in found})
        return {
            "total": len(found),
            "kinds": kinds,
            "folders": [{"path": folder, "count": sum(item["folder"] == folder for item in found)} for folder in folders],
            "items": found[offset : offset + limit],
            "unread": len(self.read),
        }

    def _send(self, route: Any, answer: Any) -> None:
        route.fulfill(status=200, content_type="application/json", body=json.dumps(answer))
