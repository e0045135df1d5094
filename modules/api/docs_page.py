"""The documentation page of both APIs: /docs, made from the same description as /openapi.json.

Plain HTML without a script or a word from another host; to try calls out, load /openapi.json into a tool.
"""

from __future__ import annotations

import html
import re
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse

from modules.api.json_writer import json_text

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
details { border-top: 1px solid #8886; padding: .4rem 0 }
summary { cursor: pointer; display: flex; gap: .8rem; align-items: baseline }
summary b { font: 600 .8rem/1 ui-monospace, monospace; min-width: 3rem; letter-spacing: .03em }
summary code { font-size: 1rem } summary span { opacity: .75; margin-left: auto; text-align: right }
table { border-collapse: collapse; width: 100%; font-size: .92rem } th, td { text-align: left; padding: .2rem .8rem .2rem 0;
  vertical-align: top; border-bottom: 1px solid #8883 } th { font-weight: 600 }
pre { background: #8881; padding: .6rem .8rem; border-radius: 6px; overflow-x: auto; font-size: .88rem }
p { margin: .5rem 0 } summary code { white-space: nowrap } td:first-child { white-space: nowrap; width: 16rem }
td:nth-child(2), td:nth-child(3) { width: 11rem }
"""


def docs_endpoint(server: FastAPI) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(server.openapi()))

    return router


def page(description: dict[str, Any]) -> str:
    """The description of an API (OpenAPI 3.1) as one page of HTML."""
    calls: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            calls.setdefault((operation.get("tags") or ["Others"])[0], []).append(_call(method, path, operation))
    parts = [f"<h2>{_e(tag)}</h2>{''.join(entries)}" for tag, entries in calls.items()]
    info = description["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_e(info['title'])}</title><style>{_STYLE}</style></head><body><h1>{_e(info['title'])}</h1>"
        f"{_prose(info.get('description', ''))}"
        '<p>As data: <a href="openapi.json">openapi.json</a>.</p>'
        f"{''.join(parts)}</body></html>"
    )


def _call(method: str, path: str, operation: dict[str, Any]) -> str:
    said = operation.get("description", "")
    first, _, rest = (said or operation.get("summary", "")).partition("\n")
    body = operation.get("requestBody", {}).get("content", {})
    return (
        f"<details><summary><b>{_e(method.upper())}</b> <code>{_e(path)}</code> <span>{_marked(first)}</span></summary>"
        f"{_prose(rest)}{_table(operation.get('parameters', []))}"
        f"{''.join(_content(kind, content) for kind, content in body.items())}</details>"
    )


def _content(kind: str, content: dict[str, Any]) -> str:
    examples = [one["value"] for one in content.get("examples", {}).values()] or [content.get("example")]
    shown = "".join(f"<pre>{_e(json_text(one, indent=2))}</pre>" for one in examples if one is not None)
    schema = content.get("schema", {})
    fields = (schema.get("anyOf") or [schema])[-1].get("properties", {})  # the last kind of request has all fields
    rows = [{"name": name, "schema": field, "description": field.get("description", "")} for name, field in fields.items()]
    return f"<p>Body: <code>{_e(kind)}</code></p>{shown}{_table(rows)}"


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    lines = "".join(
        f"<tr><td><code>{_e(row['name'])}</code></td><td>{_e(_kind(row.get('schema', {})))}</td>"
        f"<td>{_e(_default(row.get('schema', {})))}</td><td>{_marked(row.get('description', ''))}</td></tr>"
        for row in rows
    )
    return f"<table><tr><th>field</th><th>kind</th><th>default</th><th></th></tr>{lines}</table>"


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    bounds = [schema.get("minimum"), schema.get("maximum")]
    kind = {"integer": "whole number", "string": "text", "array": "list"}.get(schema.get("type", ""), schema.get("type", "any"))
    return f"{kind} {bounds[0]:g}–{bounds[1]:g}" if None not in bounds else str(kind)


def _default(schema: dict[str, Any]) -> str:
    return json_text(schema["default"]) if schema.get("default") is not None else ""


def _prose(text: str) -> str:
    return "".join(f"<p>{_marked(part)}</p>" for part in text.split("\n\n") if part.strip())


def _marked(text: str) -> str:
    """With what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", _e(text))


def _e(text: object) -> str:
    return html.escape(str(text))
