"""The OpenAPI description taken at its word: calls made from it by schemathesis are answered as it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import CheckFunction
from schemathesis.python.asgi import HOST
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from modules.api.guard.middleware import AccessConfig
from modules.api.server import build_api
from modules.app import App
from modules.settings import Settings
from tests.scripted import EagerLink

CASES = 8
"""Of each route; each run draws the same ones."""
CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder, link = tmp_path_factory.mktemp("schema"), EagerLink()
    app = App(Settings(data_dir=folder / "data", models_dirs=(models,), outputs_dir=folder / "out"), link)
    app.start()
    link.hello()
    yield build_api(app, AccessConfig(hosts=frozenset({HOST}), folder=app.settings.data_dir))
    app.close()


def test_every_route_answers_as_it_is_described(server: FastAPI) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", server)
    routes = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith("/events") or operation.label == "POST /api/v1/forever":  # does not end by itself
            continue
        routes.append(operation.label)

        @settings(max_examples=CASES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def call(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        call()
    assert len(routes) > 50, "the description names the routes of both APIs"
