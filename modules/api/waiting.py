"""Waiting for a job or a script on no thread; a client that disconnects leaves it as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from modules.app import App
from modules.errors import EngineError
from modules.jobs.views import JobView
from modules.scripts.views import RunView


async def until_over(app: App, job_id: str, user: str) -> JobView | None:
    """One's own job as soon as it is over; None when it was removed from the list meanwhile.

    Raises:
        EngineError: the server stops before that.
    """
    await _until(app.listen, lambda: not app.unfinished(job_id), f"job {job_id}")
    return app.job(job_id, user)


async def until_script_over(app: App, run_id: str, user: str) -> RunView | None:
    """One's own script as soon as it is over, its grid drawn.

    Raises:
        EngineError: the server stops before that.
    """
    await _until(app.scripts.listen, lambda: not app.scripts.unfinished(run_id), f"script {run_id}")
    return app.scripts.run(run_id, user)


async def _until(listen: Callable[[Callable[[], None]], Callable[[], None]], over: Callable[[], bool], what: str) -> None:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop ends with the server
            loop.call_soon_threadsafe(woken.set)

    end = listen(wake)
    try:
        while not over():
            await woken.wait()
            woken.clear()
    except asyncio.CancelledError:  # only a server that stops cancels a request; who waits gets an error
        raise EngineError(f"the server is stopping; {what} stays in the queue and goes on at the next start") from None
    finally:
        end()
