"""The saver: finished pictures to disk, one after the other on a thread of its own; what the disk refuses is tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from modules import __version__
from modules.diffusion.samplers import counted_as
from modules.engine.messages import Done
from modules.errors import AtelierError, OutputError, QueueError
from modules.images.infotext import GenerationInfo
from modules.images.infotext_keys import EXTENSION_VERSIONS
from modules.images.outputs import Outputs, SavedImage
from modules.jobs.dispatch import ImageTask
from modules.jobs.image_hooks import Finished, Saved, after_saving, before_saving
from modules.jobs.input_images import InputImages
from modules.jobs.live import LiveJob, LiveJobs
from modules.jobs.naming import painted_facts
from modules.prompts.library import Finished as Words
from modules.prompts.library import infotext_items
from modules.request.extensions import version_of
from modules.request.kept_extensions import not_used, versions_text

log = logging.getLogger("atelier")

UNSAVED_BYTES = 512 << 20
"""Pixels that are kept in memory at most while they cannot be saved; what is beyond that is painted again, to the same bits."""


class Saver:
    """See the module.

    Args:
        live: the jobs.
        outputs, input_images: where pictures and their init images go.
        durable: keep what the disk refuses; otherwise its job fails at once.
        saved: called on the saver's thread when a picture or a job is over.
        kept: called on it with a picture's path below the outputs and its user, when its row is written.
    """

    def __init__(
        self,
        live: LiveJobs,
        outputs: Outputs,
        input_images: InputImages,
        durable: bool,
        saved: Callable[[], None],
        kept: Callable[[str, str], None] = lambda path, user: None,
    ) -> None:
        self.live, self._changes, self._hold = live, live.changes, live.hold
        self.outputs, self._input_images = outputs, input_images
        self._durable, self._saved, self._kept = durable, saved, kept
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="save")

    def save(self, live: LiveJob, index: int, done: Done) -> None:
        """Save this image, whose pixels are those of `done`, after all those before it."""
        self._thread.submit(self._save, live, index, done)

    def save_kept(self) -> None:
        """Write what could not be written, after all that is to be saved."""
        self._thread.submit(self._save_kept)

    def settle(self, timeout: float | None = None) -> None:
        """Wait until what was handed over by now is dealt with."""
        self._thread.submit(lambda: None).result(timeout)

    def close(self, last_try: bool) -> None:
        """Finish; with `last_try`, also what the disk refused, if it takes it now."""
        self._thread.shutdown(wait=True)
        if last_try:
            self._save_kept()

    def _save(self, live: LiveJob, index: int, done: Done) -> bool:
        """Picture to disk, then its row, then everybody may know.

        False when the disk refused, and the picture was kept to be saved later.
        """
        finished = live.words.get(index)
        if finished is None:  # its job was cancelled and retried meanwhile, and this image was saved or sent anew
            return True
        error, refused = "", ""
        try:
            saved, seed = self._write(live, index, done, finished)
            self._record(live, index, saved, seed)
        except (OutputError, QueueError) as problem:
            refused = str(problem)
        except AtelierError as problem:
            error = str(problem)
        except Exception as problem:
            log.exception("while saving a picture")
            error = f"the picture could not be saved: {problem}"
        if refused and self._durable:
            return self._keep(live, index, done, refused)
        if error := error or refused:
            self._give_up(live, index, error)
        self._saved()
        return True

    def _write(self, live: LiveJob, index: int, done: Done, words: Words) -> tuple[SavedImage, int]:
        """The picture's file, as the image hooks have it.  May be repeated: what is there already stays.

        Raises:
            OutputError: the disk refused it.
            ExtensionFailed: an extension's hook raised, and says that pictures fail then.
        """
        job = live.job
        info = GenerationInfo(
            request=words.request,
            model_name=done.model_name,
            model_hash=done.model_hash,
            schedule_label=done.schedule,
            version=f"Atelier {__version__}",
            **_also_said(words, done),
        )
        painted = np.frombuffer(done.pixels, np.uint8).reshape(done.height, done.width, 3)
        finished = before_saving(Finished(painted, info, job.user))
        info = _noted(info, finished.notes)
        height, width = finished.pixels.shape[:2]
        pixels = done.pixels if finished.pixels is painted else finished.pixels.tobytes()
        facts = painted_facts(job, index, info, lambda: pixels)
        saved = self.outputs.save(pixels, width, height, info, job.id, index, job.created, facts)
        after_saving(Saved(saved, info, job.user, self._input_images))
        return saved, info.request.seed

    def _record(self, live: LiveJob, index: int, saved: SavedImage, seed: int) -> None:
        """The picture's row, and with the last one the job's end.

        Raises:
            QueueError: they cannot be written; nothing has changed.
        """
        job = live.job.id
        with self._changes.recording:
            with self._changes.lock:
                now = self.live.jobs.get(job)  # another one when the owner cancelled and retried in the meantime
                last = now is not None and not now.ending and now.left <= {index}
            self.live.store.picture_done(job, index, saved, seed, last)
            self._kept(saved.name, live.job.user)
            with self._changes.lock:
                if now is None:
                    return
                self.live.dispatcher.finished(job, index)
                now.forget(index)
                if last:
                    self.live.forget(now)
                else:
                    self.live.touch(now)

    def _give_up(self, live: LiveJob, index: int, error: str) -> None:
        self._hold.look_again()
        with self._changes.recording:
            with self._changes.lock:
                if self.live.jobs.get(live.job.id) is not live:
                    return
                self.live.dispatcher.finished(live.job.id, index)
                live.forget(index)
            self.live.conclude(live, "failed", error)

    def _keep(self, live: LiveJob, index: int, done: Done, refused: str) -> bool:
        """Keep a finished picture that cannot be saved yet; beyond the bound it is painted again.  True when it has no job."""
        with self._changes.lock:
            if self.live.jobs.get(live.job.id) is not live:
                return True
            others = (one for each in self.live.jobs.values() for one in each.unsaved.values() if one is not done)
            if sum(len(one.pixels) for one in others) + len(done.pixels) <= UNSAVED_BYTES:
                live.unsaved[index] = done
            else:
                live.unsaved.pop(index, None)
                live.progress.pop(index, None)
                self.live.dispatcher.recall(ImageTask(live.job.id, index))
            self._hold.begin(refused)
            return False

    def _save_kept(self) -> None:
        """In the order of the queue; the first that the disk refuses ends it."""
        with self._changes.lock:
            jobs = list(self.live.jobs.values())
            waiting = [(live, index, done) for live in jobs for index, done in live.unsaved.items()]
        for live, index, done in waiting:
            if live.unsaved.get(index) is done and not self._save(live, index, done):
                return
        with self._changes.recording:
            for live in jobs:
                if live.ending and self.live.jobs.get(live.job.id) is live:
                    self.live.conclude(live, *live.ending)
            if self.live.backlog:
                return
            self._hold.end()
        self._saved()


def _also_said(words: Words, done: Done) -> dict[str, dict[str, str]]:
    """What a picture's record says beside its request: of its prompts, and what the engine found."""
    request = words.request
    sampler = counted_as(request.sampler)
    items = infotext_items(words, sampler.prompt_steps(request.steps))
    made_with = versions_text({name: version_of(name) for name in request.extensions})
    extras = {**done.extras, **items, **({EXTENSION_VERSIONS: made_with} if made_with else {})}
    return {"extras": extras, "facts": with_notes(done.facts, not_used(request.kept_extensions))}


def with_notes(facts: Mapping[str, str], notes: Iterable[str]) -> dict[str, str]:
    """The facts of a record with further sentences for the user."""
    said = [*([facts["notes"]] if facts.get("notes") else []), *notes]
    return {**facts, **({"notes": ". ".join(said)} if said else {})}


def _noted(info: GenerationInfo, notes: tuple[str, ...]) -> GenerationInfo:
    """With further sentences for the user."""
    return replace(info, facts=with_notes(info.facts, notes)) if notes else info
