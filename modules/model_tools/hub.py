"""Hugging Face repositories: what is in one, and which of it makes a model.  Through `huggingface_hub`; no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from modules.errors import RequestError
from modules.model_tools.connections import Unreachable, gated
from modules.model_tools.disk import human
from modules.model_tools.fetch import Item
from modules.model_tools.origins import PICKLES, PIPELINE, SAFE, WEIGHTS, Repository, endpoint, is_inside

TIMEOUT = 20.0
MAX_FILES, SHOWN = 20_000, 12
MAX_TEXT = 20 << 20
"""Bytes of a pipeline's configuration or vocabulary."""
_TEXTS = (".json", ".txt", ".model")
_FP16 = re.compile(r"\.fp16(?=[.-])")
_VARIANT = re.compile(r"\.(?:fp16|fp32|bf16|non_ema|ema|int8|fp8\w*)(?=[.-])")
_SKIPPED = ("safety_checker", "feature_extractor", "image_encoder")
"""Components of pipelines whose weights nothing here uses."""


@dataclass(frozen=True)
class RepoFile:
    """`sha256` of large files; `blob` is git's id."""

    path: str
    size: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Contents:
    """A repository at one commit."""

    name: str
    commit: str
    files: tuple[RepoFile, ...]

    def item(self, file: RepoFile) -> Item:
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(self.name, file.path, revision=self.commit, endpoint=endpoint())
        return Item(url, file.path, file.size, file.sha256, "" if file.sha256 else file.blob)

    @property
    def weights(self) -> list[RepoFile]:
        """Files of weights to choose from, without those of a pipeline's components, which are nothing by themselves."""
        folders = self._components()
        return [f for f in self.files if f.path.lower().endswith(WEIGHTS) and f.path.partition("/")[0] not in folders]

    @property
    def is_pipeline(self) -> bool:
        return any(file.path == PIPELINE for file in self.files)

    def _components(self) -> set[str]:
        """Folders of a pipeline: those with a configuration of their own."""
        if not self.is_pipeline:
            return set()
        configured = ("config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json")
        return {f.path.split("/")[0] for f in self.files if f.path.count("/") == 1 and f.path.split("/")[1] in configured}

    def pipeline(self, fp16: bool) -> list[RepoFile]:
        """The files of the diffusers pipeline: configurations, vocabularies, and one variant of the weights.

        Raises:
            RequestError: a component has only pickles.
        """
        taken = [file for file in self.files if file.path == PIPELINE]
        for folder in sorted(self._components()):
            inside = [file for file in self.files if file.path.startswith(folder + "/")]
            taken += [
                f for f in inside if f.path.endswith(_TEXTS) and f.size <= MAX_TEXT and not f.path.endswith(".index.json")
            ]
            if folder in _SKIPPED:
                continue
            safe = [file for file in inside if file.path.endswith(SAFE)]
            chosen = _variant(safe, fp16)
            if not chosen and any(file.path.endswith(PICKLES) for file in inside):
                raise RequestError(
                    f"{folder} of {self.name} is there only as a pickle; choose a repository with .safetensors files"
                )
            taken += chosen
            half = any(_FP16.search(file.path) for file in chosen)
            taken += [f for f in inside if f.path.endswith(f"{SAFE}.index{'.fp16' if half else ''}.json")]
            taken += [f for f in inside if half and f.path.endswith(f"{SAFE}.index.fp16.json") and f not in taken]
        return list(dict.fromkeys(taken))

    def chosen(self, file: str, fp16: bool) -> list[RepoFile]:
        """The file that `file` names; without a name the only one there can be.  Several are a pipeline.

        Raises:
            RequestError: there is none such, or several; says which.
        """
        if file == PIPELINE:
            return self.pipeline(fp16)
        if file:
            found = [each for each in self.files if each.path == file]
            if not found or not file.lower().endswith(WEIGHTS):
                raise RequestError(f"file: {self.name} has no model file {file}; {self._choices()}")
            return found
        safe = [each for each in self.weights if each.path.lower().endswith(SAFE)]
        for some in ([each for each in safe if "/" not in each.path], safe):
            some = _variant(some, fp16) if len(some) > 1 else some
            if len(some) == 1:
                return some
            if some:
                raise RequestError(f"file: {self.name} has several models; {self._choices()}")
            if self.is_pipeline:
                return self.pipeline(fp16)
        if len(self.weights) == 1:
            return self.weights
        raise RequestError(f"file: {self.name} has {'several models' if self.weights else 'no model file'}; {self._choices()}")

    def _choices(self) -> str:
        found = [f"{each.path} ({human(each.size)})" for each in self.weights]
        if self.is_pipeline:
            found.append(f"{PIPELINE} (the whole pipeline)")
        more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return f"choose one: {', '.join(found[:SHOWN])}{more}" if found else "a .safetensors file is needed"


def _variant(files: list[RepoFile], fp16: bool) -> list[RepoFile]:
    """Those of the fp16 variant where it is asked for or nothing else is there, else those of none."""
    half = [file for file in files if _FP16.search(file.path)]
    plain = [file for file in files if not _VARIANT.search(file.path)]
    return (half if half and (fp16 or not plain) else plain) or files


def token() -> str:
    """The user's own token: $HF_TOKEN or that of `hf auth login`."""
    from huggingface_hub import get_token

    return get_token() or ""


def contents(repository: Repository) -> Contents:
    """What is in a repository.

    Raises:
        RequestError: it is not there, or not for everybody.
        Unreachable: the hub does not answer.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # a process of its own, before the library reads it
    from huggingface_hub import HfApi, errors

    where, host = f"{endpoint()}/{repository.name}", urlsplit(endpoint()).hostname
    try:
        info = HfApi(endpoint=endpoint()).model_info(
            repository.name, revision=repository.revision or None, files_metadata=True, timeout=TIMEOUT
        )
    except errors.OfflineModeIsEnabled:
        raise Unreachable("HF_HUB_OFFLINE is set, so nothing is downloaded; unset it to go online") from None
    except errors.GatedRepoError:
        raise RequestError(gated(where)) from None
    except errors.RevisionNotFoundError:
        raise RequestError(f"source: {repository.name} has no revision {repository.revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise RequestError(
            f"source: {where} is not there, or private: check the name, or set HF_TOKEN to a token that may see it"
        ) from None
    except errors.HFValidationError:
        raise RequestError(f"source: {repository.name!r} is no name of a repository") from None
    except errors.HfHubHTTPError as error:
        code = getattr(getattr(error, "response", None), "status_code", "an error")
        raise RequestError(f"{host} answered {code}; start it again later") from None
    except Exception as error:
        if not any(kind.__name__ == "TransportError" for kind in type(error).__mro__):
            raise
        raise Unreachable(
            f"{host} cannot be reached ({str(error)[:100].lower() or 'no answer'}); is this machine online?"
        ) from None
    return Contents(repository.name, info.sha or "main", tuple(_files(info, repository.name)))


def _files(info: Any, name: str) -> list[RepoFile]:
    found = list(info.siblings or [])
    if len(found) > MAX_FILES:
        raise RequestError(f"source: {name} has {len(found):,} files; at most {MAX_FILES:,} are looked through")
    files = []
    for each in found:
        if isinstance(each.rfilename, str) and is_inside(each.rfilename) and isinstance(each.size, int):
            sha256 = str(getattr(each.lfs, "sha256", "") or "") if each.lfs else ""
            files.append(RepoFile(each.rfilename, each.size, sha256, str(each.blob_id or "")))
    return sorted(files, key=lambda file: file.path)


def described(found: Contents) -> dict[str, Any]:
    """For the choice: files with their sizes, and the size of the whole pipeline where there is one."""
    data: dict[str, Any] = {
        "name": found.name,
        "files": [{"name": f.path, "size": f.size, "pickle": not f.path.lower().endswith(SAFE)} for f in found.weights],
        "pipeline": None,
    }
    if found.is_pipeline:
        try:
            data["pipeline"] = {
                "size": sum(f.size for f in found.pipeline(False)),
                "fp16": sum(f.size for f in found.pipeline(True)),
            }
        except RequestError:
            pass
    return data
