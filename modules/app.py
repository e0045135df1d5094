"""The façade that the tabs, the API and the command line share: submit, cancel, look, fetch.

The App puts the program together (job list, outputs, catalogue, engines) and answers its users; `modules.jobs` does the
work.  It knows neither HTTP nor tensors, and never imports torch.  All methods may be called from any thread and
return at once, except `events`, `start` and `close`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modules.catalogue import Catalogue, weights_of
from modules.checkpoints.companions import EmbeddingInfo, HypernetworkInfo, LoraInfo
from modules.checkpoints.files import CheckpointInfo
from modules.checkpoints.footprint import footprint_of
from modules.checkpoints.upscalers import UpscalerInfo
from modules.checkpoints.vaes import VaeInfo
from modules.engine.costs import CostModel
from modules.engine.link import EngineLink
from modules.errors import RequestError
from modules.extensions.discovery import folders_of
from modules.extensions.service import Extensions
from modules.gallery.gallery import Gallery
from modules.images.encoding import form_of
from modules.images.names import naming_of
from modules.images.outputs import Outputs
from modules.images.uploads import Upload
from modules.jobs.dispatch import SLOTS
from modules.jobs.estimates import Quote, picture_seconds, quote, upscaling_seconds
from modules.jobs.input_images import InputImages
from modules.jobs.memory import memory_of
from modules.jobs.service import JobService
from modules.jobs.views import EngineState, JobView, PictureView, Preview, QueueView
from modules.jobs.worker import local_engines
from modules.model_library.library import ModelLibrary
from modules.model_tools.runs import ToolRuns
from modules.preferences.server_settings import ServerSettings
from modules.preferences.store import PreferenceStore
from modules.prompts.check import PromptCheck
from modules.prompts.library import Library
from modules.queue.owners import OWNER
from modules.queue.store import JobStore
from modules.request import MAX_SOURCE_SIDE, GenerationRequest, Upscaling
from modules.scripts.forever import Forever
from modules.scripts.runs import ScriptRuns
from modules.settings import Settings


class App:
    """The application of one process.

    Args:
        settings: resolved settings.
        link: how to reach an engine, or several engines that share the queue; None starts a process for each of the settings'
            workers.
        outputs: where pictures go; None takes the outputs folder of the settings.
        durable: keep the job list on disk.  One process at a time can; what runs beside a server keeps its list in memory.
    """

    def __init__(
        self,
        settings: Settings,
        link: EngineLink | Sequence[EngineLink] | None = None,
        outputs: Outputs | None = None,
        durable: bool = True,
    ) -> None:
        self.settings = settings
        self.extensions = Extensions(
            folders_of(settings), settings.data_dir, settings.extensions_off, trusting=not settings.needs_accounts
        )
        """What others added to the program; loaded from here to `close`."""
        self.extensions.start()
        self.outputs = outputs or Outputs(
            settings.outputs_dir,
            form_of(settings.output_format, settings.output_quality),
            naming_of(settings.output_name, settings.output_folder),
        )
        self.store = JobStore(
            settings.data_dir / "jobs.sqlite" if durable else None,
            history=settings.history,
            per_user=settings.jobs_per_user,
            total=settings.jobs_in_total,
        )
        self._passing = None if durable else tempfile.TemporaryDirectory(prefix="atelier-")
        folder = Path(self._passing.name) if self._passing else settings.data_dir
        self.input_images = InputImages(folder / "sources", settings.outputs_dir, self.store, settings.keep_sources)
        if durable and not settings.needs_accounts:
            self.input_images.uploads.merge(self.store.merge_owners(), OWNER)
        self.library = Library(settings.data_dir)
        self.model_library = ModelLibrary(lambda: self.catalogue.folders, folder)
        self.catalogue = Catalogue(settings.models_dirs, self.library, self.store.latest_checkpoint)
        self.model_tools = ToolRuns(
            settings.data_dir / "tools.sqlite" if durable else None,
            settings.models_dirs,
            settings.data_dir / "hashes.json",
            public_only=settings.needs_accounts,
        )
        """What makes model files of model files; carried out between `start` and `close` of a durable App."""
        self.gallery = Gallery(folder, self.outputs.folder, self.store.picture_owners, settings.trash_days)
        """All pictures in the outputs folder; kept up to date between `start` and `close` of a durable App."""
        self._durable = durable
        link = local_engines(settings) if link is None else link
        links = list(link) if isinstance(link, Sequence) else [link]
        self.service = JobService(
            settings, links, self.store, self.outputs, self.input_images, self.library, self.catalogue, durable,
            self.gallery.saved if durable else lambda path, user: None, self.extensions,
        )  # fmt: skip
        self.extensions.engines = self.service

        self.scripts = ScriptRuns(self.store.scripts, self, settings.jobs_per_user)
        """X/Y/Z plots and other scripts, whose cells become jobs between `start` and `close`."""
        self.forever = Forever(self.store.forever, self)
        """Requests that are submitted again and again between `start` and `close`, until their users end that."""

        self.preferences = PreferenceStore(settings.data_dir / "preferences.sqlite" if durable else None)
        """What users chose for themselves, and their presets of forms."""
        self.server_settings = ServerSettings(settings, self._settings_changed)

    def _settings_changed(self, settings: Settings) -> None:
        """What takes effect at once; the rest of `settings` is as it was."""
        self.settings = self.service.settings = settings
        self.outputs.form = form_of(settings.output_format, settings.output_quality)
        self.outputs.naming = naming_of(settings.output_name, settings.output_folder)
        self.input_images.keep, self.gallery.trash_days = settings.keep_sources, settings.trash_days
        self.store.limit(settings.jobs_per_user, settings.jobs_in_total, settings.history)
        self.service.looking.limit(settings.jobs_per_user, settings.jobs_in_total)
        self.scripts.per_user = settings.jobs_per_user

    @property
    def link(self) -> EngineLink:
        """How the (first) engine is reached."""
        return self.service.workers.all[0].link

    def start(self) -> None:
        """Take up the jobs that an earlier run left, and start the engines."""
        self.outputs.sweep()
        self.input_images.uploads.sweep()
        self.service.start()
        self.scripts.begin()
        self.forever.begin()
        if self._durable:
            self.model_tools.begin()
            self.gallery.start()

    def close(self) -> None:
        """Stop the engines.  Unfinished jobs stay in the queue for the next start; what is finished by now is still saved."""
        self.model_tools.close()
        self.scripts.close()
        self.forever.close()
        self.service.close()
        self.model_library.close()
        self.gallery.close()
        self.preferences.close()
        self.store.close()
        self.extensions.close()
        if self._passing:
            self._passing.cleanup()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called, on any thread, whenever a job or the engine changed; it must be quick and not raise.

        Returns how to end that.
        """
        return self.service.changes.listen(listener)

    @property
    def notice(self) -> str:
        """A notice for all users about this start, "" when all is well.  Those about extensions are for administrators."""
        return self.store.notice

    def engine(self) -> EngineState:
        """The engine's state; its message also says why nothing is begun.  Of several, the one that is best off."""
        return self.service.engine()

    # ---- models

    def checkpoints(self) -> list[CheckpointInfo]:
        """All files in the models folders, usable ones first; the others say what their problem is."""
        return self.catalogue.checkpoints()

    def checkpoint(self, name: str | None) -> CheckpointInfo:
        """See `Catalogue.checkpoint`."""
        return self.catalogue.checkpoint(name)

    def default_checkpoint(self) -> CheckpointInfo | None:
        """See `Catalogue.default_checkpoint`."""
        return self.catalogue.default_checkpoint()

    def upscalers(self) -> list[UpscalerInfo]:
        """See `Catalogue.upscalers`."""
        return self.catalogue.upscalers()

    def vaes(self) -> list[VaeInfo]:
        """See `Catalogue.vaes`."""
        return self.catalogue.vaes()

    def recipe_vae(self, fields: dict[str, Any]) -> str:
        """See `Recipes.vae`."""
        return self.catalogue.recipes.vae(fields)

    def recipe_upscaler(self, fields: dict[str, Any]) -> str:
        """See `Recipes.upscaler`."""
        return self.catalogue.recipes.upscaler(fields)

    def recipe_refiner(self, fields: dict[str, Any]) -> str:
        """See `Recipes.refiner`."""
        return self.catalogue.recipes.refiner(fields, Path(self.settings.data_dir) / "hashes.json")

    def recipe_hires(self, fields: dict[str, Any]) -> str:
        """See `Recipes.hires`."""
        return self.catalogue.recipes.hires(fields, Path(self.settings.data_dir) / "hashes.json")

    def complete(self, fields: dict[str, Any]) -> GenerationRequest:
        """See `Catalogue.complete`."""
        return self.catalogue.complete(fields)

    def embeddings(self) -> list[EmbeddingInfo]:
        """See `Catalogue.embeddings`."""
        return self.catalogue.embeddings()

    def hypernetworks(self) -> list[HypernetworkInfo]:
        """See `Catalogue.hypernetworks`."""
        return self.catalogue.hypernetworks()

    def with_local_loras(self, fields: dict[str, Any], hashes: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
        """See `Recipes.loras`."""
        return self.catalogue.recipes.loras(fields, hashes, Path(self.settings.data_dir) / "hashes.json")

    def loras(self) -> list[str]:
        """See `Catalogue.loras`."""
        return self.catalogue.loras()

    def lora_infos(self) -> list[LoraInfo]:
        """See `Catalogue.lora_infos`."""
        return self.catalogue.lora_infos()

    def check_prompt(self, fields: dict[str, Any]) -> PromptCheck:
        """See `PromptChecks.check`."""
        return self.catalogue.prompts.check(fields)

    def quote(self, fields: dict[str, Any]) -> Quote:
        """What a request with these fields would cost; reads a file's header.  Other fields than `COST_FIELDS` are ignored in
        those of a picture that is painted.  What enlarging takes depends on the picture's size, which `picture` among the
        fields says: [width, height].

        Raises:
            RequestError: a field makes no sense.
        """
        picture = fields.get("picture")
        request, info = self.catalogue.to_quote({name: value for name, value in fields.items() if name != "picture"})
        if isinstance(request, Upscaling):
            return self._quote_enlarging(request, picture)
        assert info is not None, "what is painted has a checkpoint"
        dtype = self.engine().dtype.partition(" ")[0]
        needed = (info, *self.catalogue.beside(request))
        keeps_blocks = self.settings.weights_storage != "full"
        weights = sum(weights_of(each, dtype, keeps_blocks) for each in needed)
        footprints = {each.name: footprint_of(each.path, self.catalogue.folders) for each in needed}
        native = (info.defaults.width, info.defaults.height)
        with self.service.changes.lock:
            workers = self.service.workers.ready() or self.service.workers.all
            quotes = [
                quote(
                    *(each.costs, request, each.resident, SLOTS, native, weights),
                    memory_of(each.costs, request, footprints, each.room),
                )
                for each in workers
            ]
        return min(quotes, key=lambda each: math.inf if each.seconds is None else each.seconds)

    def _quote_enlarging(self, request: Upscaling, picture: Any) -> Quote:
        """What enlarging a picture of this size, [width, height], would cost; None says nothing of it.

        Raises:
            RequestError: it is no size, or the result would be too large.
        """
        if picture is None:
            return Quote(picture_seconds(CostModel(), request), False, None)
        sides = picture if isinstance(picture, list) and len(picture) == 2 else [0]
        if not all(isinstance(side, int) and not isinstance(side, bool) and 0 < side <= MAX_SOURCE_SIDE for side in sides):
            raise RequestError(f"picture: must be a width and a height of 1 to {MAX_SOURCE_SIDE}, {picture!r:.60} was given")
        source = (sides[0], sides[1])
        try:
            request.check_size(source)
        except ValueError as error:
            raise RequestError(str(error)) from None
        scales = {each.name: each.scale for each in self.upscalers()}
        with self.service.changes.lock:
            workers = self.service.workers.ready() or self.service.workers.all
            known = [upscaling_seconds(each.costs, request, source, scales) for each in workers]
        return Quote(min((seconds for seconds in known if seconds is not None), default=None), False, None)

    def in_memory(self, seconds: float = 1.0) -> list[Mapping[str, Any]]:
        """The models in the engines' memory (`messages.InMemory`), as of now or, of one that does not answer within `seconds`,
        as it was last."""
        return [model for worker in self.service.workers.all for model in worker.inspect(seconds)]

    def unload(self) -> None:
        """Have all engines let go of their models; what is painted now keeps its own until it is done."""
        for worker in self.service.workers.all:
            worker.unload()

    def preload(self) -> None:
        """Have all engines load the default checkpoint ahead of the first job."""
        default = self.default_checkpoint()
        if default is not None:
            for worker in self.service.workers.all:
                worker.load(default.name)

    def picture_saved(self, name: str, user: str) -> None:
        """Take a picture that was saved for this user, but by no job, into the gallery; `name` is below the outputs folder."""
        if self._durable:
            self.gallery.saved(name, user)

    # ---- one's own pictures to start from

    def keep_upload(self, data: bytes, user: str) -> Upload:
        """Keep a picture file (PNG, JPEG, WebP or AVIF) for requests to start from; they name it by its id.

        Raises:
            RequestError: it is no picture, too large or damaged.
            LimitError: pictures of unfinished jobs fill the place.
            OutputError: it could not be written.
        """
        return self.input_images.uploads.keep(data, user)

    def upload_path(self, upload: str, user: str) -> Path | None:
        """The PNG of one's own picture; None when it is not here (any more)."""
        return self.input_images.path(upload, user)

    # ---- one's own jobs

    def prepared(self, fields: dict[str, Any], user: str) -> GenerationRequest:
        """The request that `submit` would accept for these fields.

        Raises:
            RequestError: they make no sense, or a picture that it starts from is not here.
        """
        return self.service.prepared(fields, user)

    def submit(self, fields: dict[str, Any], user: str, key: str = "", exact: bool = False) -> JobView:
        """Accept a job.  When this returns, the job is on disk and survives anything.

        With a "source" among the fields it is a picture from that picture, which this user kept before (`keep_upload`), with
        "upscaler_1" that picture at another size.
        `key` is the submitter's own name for it: the same key again is the same job, whatever became of the first answer.
        With `exact`, the same key with other fields is refused.

        Raises:
            RequestError: a field makes no sense, or the key was used for something else.
            QueueError: the job list cannot be written; nothing is started.
            LimitError: too many jobs wait already; says in how many seconds to try again.
            OutputError: pictures could not be saved; nothing is started.
            EngineError: the App is closing.
        """
        return self.service.submit(fields, user, key, exact)

    def retry(self, job_id: str, user: str) -> bool:
        """Try one's own failed or cancelled job again, for the pictures that it lacks.  False when it is no such job.

        Raises:
            LimitError, OutputError, EngineError: as for `submit`.
            RequestError: the picture that it starts from is gone.
        """
        return self.service.retry(job_id, user)

    def remove(self, job_id: str, user: str) -> bool:
        """Forget one's own job that is over; its pictures stay on disk.  False when it is no such job."""
        return self.store.remove(job_id, user)

    def delete(self, job_id: str, user: str, index: int | None = None) -> bool:
        """Delete one's own job that is over with its pictures' files, or one picture of it.  False when it is no such thing.

        Files go first: what is stopped in between is seen as a picture whose file is gone, and can be deleted again.  Pictures
        that it was made from stay, as others may have been made from them.

        Raises:
            OutputError: a file cannot be removed; nothing is forgotten of it then.
        """
        job = self.store.get(job_id, user)
        deleted = self.service.delete(job_id, user, index)
        if job is not None and deleted:
            self.gallery.forget(one.path for one in job.pictures if index in (None, one.index))
        return deleted

    def move(self, job_id: str, user: str, to: int) -> bool:
        """Put one's own unfinished job to place `to` (from 0) among one's own.  False when it is no such job."""
        return self.service.move(job_id, user, to)

    def pause(self, user: str, paused: bool) -> None:
        """Begin nothing more of this user, or go on.  What was begun is finished; what waits with the engine comes back."""
        self.service.pause(user, paused)

    def cancel(self, job_id: str, user: str) -> bool:
        """Stop a job of this user; finished pictures stay.  False when there is no such job under way.

        Raises:
            QueueError: it cannot be recorded now; the job goes on.
        """
        return self.service.cancel(job_id, user)

    def skip(self, job_id: str, user: str) -> bool:
        """Finish the picture of one's own job that is painted now with the step that runs, and go on with the others.

        The unfinished picture is kept like any other, with a note.  Of several with the engine it is the one nearest its end.
        False when none is.
        """
        return self.service.skip(job_id, user)

    def interrupt(self, job_id: str, user: str) -> bool:
        """Finish all pictures of one's own job that are painted now with the step that runs, and begin no others.

        A job of which nothing is painted yet is cancelled.  False when there is no such job under way.

        Raises:
            QueueError: it cannot be recorded now; the job goes on.
        """
        return self.service.interrupt(job_id, user)

    # ---- looking

    def unfinished(self, job_id: str) -> bool:
        """Whether a job is not over.  Asks memory alone, so that many may wait for theirs."""
        return self.service.looking.unfinished(job_id)

    def job(self, job_id: str, user: str) -> JobView | None:
        """One's own job; None when there is none of that id."""
        return self.service.looking.job(job_id, user)

    def jobs(self, user: str, limit: int = 50, before: str = "", words: str = "") -> list[JobView]:
        """This user's jobs, newest first; older ones than `before`, where a job of theirs is named, and with all `words` in
        their prompts."""
        return self.service.looking.jobs(user, limit, before, words)

    def queue(self, user: str) -> QueueView:
        """This user's unfinished jobs in the order in which they are made, and how much others have."""
        return self.service.looking.queue(user)

    def picture(self, job_id: str, index: int, user: str) -> PictureView | None:
        view = self.job(job_id, user)
        return next((p for p in view.pictures if p.index == index), None) if view else None

    def preview(self, job_id: str, user: str) -> Preview | None:
        """The newest preview; asking for it keeps previews being made for a few seconds."""
        return self.service.looking.preview(job_id, user)

    def events(self, job_id: str, user: str) -> Iterator[JobView]:
        """Views of a job as it changes, ending with the one in which it is over.  Blocks between them."""
        return self.service.looking.events(job_id, user)
