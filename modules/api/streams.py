"""Server-sent events: a user's jobs as they change, for as long as the client is connected.

A stream wakes with the App, looks at most a few times a second, and sends what has changed since it looked last.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import anyio.to_thread
from fastapi.responses import Response, StreamingResponse

from modules.api.json_writer import json_text
from modules.app import App
from modules.errors import LimitError
from modules.jobs.views import EngineState, JobView

MAX_STREAMS = 8
"""Event streams of one user at a time."""
STREAM_SECONDS = 0.2
"""At most one round of events in this time."""
SILENCE_SECONDS = 15.0
"""A comment is sent after this long without an event, so that nobody on the way cuts the line."""


class Streams:
    """The open streams of all users.

    Args:
        job_json: a job as JSON-ready data.
        engine_json: the engine's state as JSON-ready data; None leaves it out.
    """

    def __init__(
        self,
        app: App,
        job_json: Callable[[JobView], dict[str, Any]],
        engine_json: Callable[[EngineState], dict[str, Any]] | None = None,
    ) -> None:
        self.app, self._job_json, self._engine_json = app, job_json, engine_json
        self._open: Counter[str] = Counter()

    def answer(self, user: str, job_id: str = "") -> Response:
        """All of the user's jobs, or one until it is over.

        Raises:
            LimitError: the user listens to too many already.
        """
        if self._open[user] >= MAX_STREAMS:
            raise LimitError(f"you have {MAX_STREAMS} event streams open, which is the most; close one", 5.0)
        headers = {"x-accel-buffering": "no"}
        return StreamingResponse(self._events(user, job_id), media_type="text/event-stream", headers=headers)

    async def _events(self, user: str, job_id: str) -> AsyncIterator[str]:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop ends with the server
                loop.call_soon_threadsafe(woken.set)

        seen: dict[str, object] = {}
        end = self.app.listen(wake)
        self._open[user] += 1
        try:
            while True:
                woken.clear()
                for name, key, mark, data in await anyio.to_thread.run_sync(self._news, user, job_id):
                    if seen.get(key) != mark:
                        seen[key] = mark
                        yield f"event: {name}\ndata: {json_text(data)}\n\n"
                        if job_id and name == "job" and data["state"] in ("done", "failed", "cancelled"):
                            return
                try:
                    await asyncio.wait_for(woken.wait(), SILENCE_SECONDS)
                    await asyncio.sleep(STREAM_SECONDS)
                except asyncio.TimeoutError:
                    yield ": still here\n\n"
        finally:
            end()
            self._open[user] -= 1
            if not self._open[user]:
                del self._open[user]

    def _news(self, user: str, job_id: str) -> list[tuple[str, str, object, dict[str, Any]]]:
        """(event, what it is about, its state, its data)."""
        jobs = self.app.jobs(user) if not job_id else [job for job in [self.app.job(job_id, user)] if job is not None]
        news: list[tuple[str, str, object, dict[str, Any]]] = []
        if self._engine_json is not None:
            state = self.app.engine()
            news.append(("engine", "engine", state, self._engine_json(state)))
        return news + [("job", job.id, _mark(job), self._job_json(job)) for job in reversed(jobs)]


def _mark(job: JobView) -> object:
    return job.state, job.rev, job.done, job.position, job.paused, job.held, job.doing
