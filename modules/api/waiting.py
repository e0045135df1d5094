"""Waiting for a job on no thread; a client that disconnects leaves the job as it is."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from modules.app import App
from modules.errors import EngineError
from modules.jobs.views import JobView


async def until_over(app: App, job_id: str, user: str) -> JobView | None:
    """One's own job as soon as it is over; None when it was removed from the list meanwhile.

    Raises:
        EngineError: the server stops before that.
    """
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop ends with the server
            loop.call_soon_threadsafe(woken.set)

    end = app.listen(wake)
    try:
        while app.unfinished(job_id):
            await woken.wait()
            woken.clear()
        return app.job(job_id, user)
    except asyncio.CancelledError:  # only a server that stops cancels a request; who waits gets an error
        raise EngineError(f"the server is stopping; job {job_id} stays in the queue and goes on at the next start") from None
    finally:
        end()
