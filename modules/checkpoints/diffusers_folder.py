"""Checkpoints in diffusers' layout: a folder with `model_index.json`, and each network in a folder of its own, in one file or
in shards.

Read as one header whose tensors have the single-file layout's names (`keys`), so that families, checks and loading know
nothing of folders.  Tokenizers and safety checkers are not read.  No torch: the web process lists with it.
Source: diffusers' `utils/hub_utils.py` and `pipelines/pipeline_loading_utils.py` for names of files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from modules.checkpoints import keys
from modules.checkpoints.folders import listing
from modules.checkpoints.header import Header, TensorEntry, header_of, open_model
from modules.checkpoints.nf4 import reader, with_nf4
from modules.checkpoints.transformer_names import kind_of, single_file
from modules.errors import CheckpointError

INDEX = "model_index.json"
MAX_JSON = 16 * 2**20
"""Bytes of an index or a configuration that are read."""

NETWORKS = {
    "unet": ("diffusion_pytorch_model", "U-Net"),
    "vae": ("diffusion_pytorch_model", "VAE"),
    "text_encoder": ("model", "text encoder"),
    "text_encoder_2": ("model", "second text encoder"),
    "text_encoder_3": ("model", "third text encoder"),
    "transformer": ("diffusion_pytorch_model", "transformer"),
}
"""The folders that are read: how their files are called, and what messages call the network."""
_READ = (*NETWORKS, "scheduler")
_BESIDE = frozenset(
    (
        *("tokenizer", "tokenizer_2", "tokenizer_3", "scheduler", "low_res_scheduler", "safety_checker", "feature_extractor"),
        *("image_encoder", "watermark", "watermarker", *NETWORKS),
    )
)
"""Components without which, or with all of which, the same picture is painted."""

_RELATIVES = {"depth_estimator": "DEPTH", "image_normalizer": "UNCLIP", "image_noising_scheduler": "UNCLIP"}
"""Components by which relatives of SD 2.x are known: their names in `families.foreign`."""

VARIANTS = ("", "fp16", "bf16")
"""Of a network that is there several times the first counts: full precision, as diffusers takes it; others follow by name."""
_VARIANT = re.compile(r"\.([A-Za-z0-9_]+)\.safetensors$|\.index\.([A-Za-z0-9_]+)\.json$|\.([A-Za-z0-9_]+)\.index\.json$")

Content = tuple[tuple[str, int, int, int], ...]
"""Path below the folder, size, time of change and inode of each file that may be read."""


class Entries(NamedTuple):
    """The tensors of a network by their names in its files."""

    tensors: Mapping[str, TensorEntry]
    config: Mapping[str, Any]


def is_folder_model(path: Path) -> bool:
    """Whether `path` is a checkpoint in diffusers' layout."""
    return INDEX in listing(path).files


def content(folder: Path) -> Content:
    """What identifies the folder's content: its index, its configurations and all files of weights.

    Raises:
        OSError: a file cannot be looked at.
    """
    names = [INDEX]
    for part in _READ:
        names += [f"{part}/{name}" for name in listing(folder / part).files if name.endswith((".safetensors", ".json", ".bin"))]
    stats = [(name, (folder / name).stat()) for name in names]
    return tuple((name, status.st_size, status.st_mtime_ns, status.st_ino) for name, status in stats)


def stamp(of: Content) -> tuple[int, int, int]:
    """As a file's size, time of change and inode: the sum of sizes, the latest time, and a number of all of it."""
    number = int.from_bytes(blake2b(repr(of).encode("utf-8", "backslashreplace"), digest_size=7).digest(), "big")
    return sum(entry[1] for entry in of), max(entry[2] for entry in of), number


def weight_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each network, as they are chosen (`VARIANTS`).

    Raises:
        CheckpointError: one is missing, or only there as a pickle.
    """
    said = _json(folder, INDEX)
    _check_pipeline(folder, said)
    there = [part for part in NETWORKS if _present(said.get(part))]
    for part in ("transformer" if "transformer" in there else "unet", "vae"):
        if part not in there:
            raise CheckpointError(f"{folder.name} has no {NETWORKS[part][1]} by its {INDEX}; use a full checkpoint")
    if not {"text_encoder", "text_encoder_2", "text_encoder_3"} & set(there):
        raise CheckpointError(f"{folder.name} has no text encoder by its {INDEX}; use a full checkpoint")
    return {part: _files_of(folder, part) for part in there}


def header_of_folder(folder: Path) -> Header:
    """The joint header of the folder's networks; its tensors' places are counted from the beginning of `Header.files`.

    Raises:
        CheckpointError: a part is missing, damaged or of a kind that is not read; the message begins with the folder's name.
    """
    files: list[Path] = []
    networks: dict[str, Entries] = {}
    for part, paths in weight_files(folder).items():
        tensors: dict[str, TensorEntry] = {}
        for path in paths:
            for name, entry in _header(folder, path, len(files)).items():
                if name in tensors:
                    raise CheckpointError(
                        f"{folder.name} has the tensor {name[:80]!r} in two shards of its {NETWORKS[part][1]}"
                    )
                tensors[name] = entry
            files.append(path)
        networks[part] = Entries(tensors, _json(folder, f"{part}/config.json", optional=True))
    scheduler = _json(folder, "scheduler/scheduler_config.json", optional=True)
    try:
        return Header(metadata_of(networks, scheduler), joint(networks, scheduler), 0, tuple(files))
    except CheckpointError as error:
        raise CheckpointError(f"{folder.name} {error}") from None


def joint(networks: Mapping[str, Entries], scheduler: Mapping[str, Any]) -> dict[str, TensorEntry]:
    """The tensors of all networks under the names of a single file.

    Raises:
        CheckpointError: the denoiser has tensors that none of ours has; the message is the rest of a sentence.
    """
    if "transformer" in networks:
        return _with_transformer(networks)
    unet, unknown = keys.unet_layout(networks["unet"].tensors)
    if unknown:
        raise CheckpointError(
            f"has a U-Net with tensors that this version does not know ({unknown[0][:80]!r}); use another one"
        )
    found = {keys.UNET + ours: networks["unet"].tensors[name] for ours, name in unet.items()}
    vae = networks["vae"]
    found |= {keys.VAE + ours: vae.tensors[keys.stored_name(name)] for ours, name in keys.vae_layout(vae.tensors).items()}
    first = networks.get("text_encoder")
    if first is not None and _is_open_clip(first):  # SD 2.x
        found |= {keys.TEXT + name: entry for name, entry in _open_clip(_with_last_layer(_text(first))).items()}
    elif first is not None:
        found |= {keys.TEXT + name: entry for name, entry in _text(first).items()}
    if (second := networks.get("text_encoder_2")) is not None:
        alone = first is None  # the refiner's, which is the first in its single file
        named = _open_clip(_text(second)) if alone else _text(second)
        found |= {(keys.TEXT if alone else keys.TEXT_2) + name: entry for name, entry in named.items()}
    return found | {mark: TensorEntry("F32", (0,), 0, 0) for mark in _marks(networks, scheduler)}


def _with_transformer(networks: Mapping[str, Entries]) -> dict[str, TensorEntry]:
    """As `joint`, of SD 3 and Flux.  Which of CLIP's encoders one is, or T5's, its tensors and its place tell."""
    of_transformer = networks["transformer"].tensors
    if not kind_of(of_transformer)[0]:
        raise CheckpointError("has a transformer that is neither SD 3's nor Flux's; use another one")
    found = single_file(of_transformer)
    if unknown := next((name for name in found if not name.startswith(keys.UNET)), ""):
        raise CheckpointError(
            f"has a transformer with tensors that this version does not know ({unknown[:80]!r}); use another one"
        )
    vae = networks["vae"]
    found |= {keys.VAE + ours: vae.tensors[keys.stored_name(name)] for ours, name in keys.vae_layout(vae.tensors).items()}
    for part, prefix in (("text_encoder", keys.TEXT), ("text_encoder_2", keys.TEXT_2), ("text_encoder_3", keys.TEXT_3)):
        if (encoder := networks.get(part)) is None:
            continue
        if any(name.startswith("encoder.block.") for name in encoder.tensors):
            found |= {keys.TEXT_3 + name: entry for name, entry in encoder.tensors.items()}
        else:
            found |= {prefix + name: entry for name, entry in _text(encoder).items()}
    return found


def metadata_of(networks: Mapping[str, Entries], scheduler: Mapping[str, Any]) -> dict[str, str]:
    """What the configurations say of training, under the keys of single files (`training.training_of`).

    Raises:
        CheckpointError: the network predicts what no network of ours does.
    """
    said = {}
    if (prediction := scheduler.get("prediction_type")) and "transformer" not in networks:
        if prediction not in ("epsilon", "v_prediction"):
            raise CheckpointError(
                f"has a scheduler_config.json with prediction_type {str(prediction)[:40]!r}; epsilon and v_prediction are known"
            )
        said["modelspec.prediction_type"] = prediction
    if scheduler.get("rescale_betas_zero_snr") is True:
        said["ss_zero_terminal_snr"] = "true"
    if isinstance(scale := networks["vae"].config.get("scaling_factor"), (int, float)):
        said[keys.SCALING_FACTOR] = repr(float(scale))
    return said


def _marks(networks: Mapping[str, Entries], scheduler: Mapping[str, Any]) -> Iterator[str]:
    """Names by which single files say that they were trained at continuous noise levels."""
    if str(scheduler.get("_class_name")).startswith("EDM"):
        yield "edm_vpred.sigma_max" if scheduler.get("prediction_type") == "v_prediction" else "edm_mean"


def _is_open_clip(encoder: Entries) -> bool:
    activation = encoder.config.get("hidden_act")
    if isinstance(activation, str):
        return activation == "gelu"
    return any(entry.shape[1:] == (1024,) for name, entry in encoder.tensors.items() if "token_embedding" in name)


def _text(encoder: Entries) -> dict[str, TensorEntry]:
    """Under transformers' names from `embeddings.` on."""
    named = {name.removeprefix("text_model."): entry for name, entry in encoder.tensors.items()}
    return {name: entry for name, entry in named.items() if name != "embeddings.position_ids"}


def _open_clip(tensors: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """With the name by which a first text encoder is known as OpenCLIP's."""
    return {re.sub(r"^final_layer_norm\.", "ln_final.", name): entry for name, entry in tensors.items()}


_LAYER = re.compile(r"encoder\.layers\.(\d{1,3})\.")


def _with_last_layer(tensors: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """With a last layer, which transformers' encoder of SD 2.x lacks as its output is never read: the one before it again."""
    last = max((int(found[1]) for name in tensors if (found := _LAYER.match(name))), default=-1)
    more = {
        _LAYER.sub(f"encoder.layers.{last + 1}.", name): entry
        for name, entry in tensors.items()
        if (found := _LAYER.match(name)) and int(found[1]) == last
    }
    return {**tensors, **more}


def _check_pipeline(folder: Path, said: Mapping[str, Any]) -> None:
    kind = str(said.get("_class_name", "pipeline"))[:60]
    strange = sorted(name for name, value in said.items() if name not in _BESIDE and _present(value))
    if known := next((_RELATIVES[name] for name in strange if name in _RELATIVES), ""):
        from modules.checkpoints.families import foreign  # which read folders themselves

        relative: foreign.Foreign = getattr(foreign, known)
        raise CheckpointError(f"{folder.name} is {relative.what} in diffusers' layout; {relative.advice}")
    if strange:
        raise CheckpointError(
            f"{folder.name} is a diffusers folder of a {kind}, with parts that this version does not know ({strange[0][:40]}); "
            "choose an SD 1.x, SD 2.x, SDXL, SD 3 or Flux checkpoint"
        )


def _present(component: Any) -> bool:
    """Whether an entry of the index, [library, class], names a component; options of the pipeline are no lists of two names."""
    return isinstance(component, list) and len(component) == 2 and all(isinstance(name, str) for name in component)


def _files_of(folder: Path, part: str) -> tuple[Path, ...]:
    stem, title = NETWORKS[part]
    names = listing(folder / part).files
    for variant in sorted({"", *_variants(names, stem)}, key=lambda one: (_rank(one), one)):
        dotted = f".{variant}" if variant else ""
        if (whole := f"{stem}{dotted}.safetensors") in names:
            return (folder / part / whole,)
        for index in dict.fromkeys((f"{stem}.safetensors.index{dotted}.json", f"{stem}.safetensors{dotted}.index.json")):
            if index in names:
                return _shards(folder, part, index, names)
    where = f"{folder.name}/{part}"
    if shard := next((name for name in names if re.search(r"-\d{5}-of-\d{5}.*\.safetensors$", name)), ""):
        raise CheckpointError(
            f"{where} has shards such as {shard} without their index; download {stem}.safetensors.index.json too"
        )
    if pickle := next((name for name in names if name.endswith(".bin")), ""):
        raise CheckpointError(
            f"{where} has its weights only as a pickle, which can run programs when it is read, and is not opened; convert it "
            f"with `python3 webui.py models convert {folder.name}/{part}/{pickle}`"
        )
    raise CheckpointError(f"{folder.name} lacks its {title}: there is no {part}/{stem}.safetensors; download the folder again")


def _variants(names: Sequence[str], stem: str) -> Iterator[str]:
    for name in names:
        if name.startswith(stem + ".") and (found := _VARIANT.search(name)):
            variant = next(group for group in found.groups() if group)
            if variant not in ("index", "safetensors"):
                yield variant


def _rank(variant: str) -> int:
    return VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)


def _shards(folder: Path, part: str, index: str, names: Sequence[str]) -> tuple[Path, ...]:
    listed = _json(folder, f"{part}/{index}").get("weight_map")
    if not isinstance(listed, dict) or not listed or not all(isinstance(name, str) for name in listed.values()):
        raise CheckpointError(f"{folder.name}/{part}/{index} has no weight_map of tensors and files; download it again")
    shards = sorted(set(listed.values()))
    for shard in shards:
        if shard not in names:  # names of files in this very folder and no paths
            raise CheckpointError(
                f"{folder.name} lacks the shard {part}/{shard[:120]} of its {NETWORKS[part][1]}; download it again"
            )
    return tuple(folder / part / shard for shard in shards)


def _header(folder: Path, path: Path, number: int) -> dict[str, TensorEntry]:
    """The tensors of one file, their places counted from its beginning."""
    try:
        with open_model(path) as file:
            header = header_of(file, path)
            header = with_nf4(header, reader(file, header.data_start))
    except CheckpointError as error:
        where = f"{folder.name}/{path.parent.name}/"
        raise CheckpointError(
            where + str(error) if str(error).startswith(path.name) else f"{where}{path.name}: {error}"
        ) from None
    start = header.data_start
    return {name: entry.moved(start, number) for name, entry in header.tensors.items()}


def _json(folder: Path, name: str, optional: bool = False) -> dict[str, Any]:
    """A JSON object below the folder; {} for an `optional` one that is not there."""
    path = folder / name
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON + 1)
        found = json.loads(data.decode("utf-8-sig")) if len(data) <= MAX_JSON else None
    except FileNotFoundError:
        if optional:
            return {}
        raise CheckpointError(f"{folder.name}/{name} does not exist any more; refresh the list of checkpoints") from None
    except OSError as error:
        raise CheckpointError(f"{folder.name}/{name} cannot be read ({error.strerror}); check the disk") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder.name}/{name} is not a JSON object; download it again")
    return found
