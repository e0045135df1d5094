"""The file of a trained adapter: kohya's names, which every program reads, and the metadata that tells of its training."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from modules.checkpoints.lora_names import diffusers_name
from modules.training.lora.data import tag_frequency
from modules.training.lora.files import write_whole
from modules.training.lora.network import TEXT, TrainedAdapter
from modules.training.lora.training import Trainer

Metadata = dict[str, str]


@dataclass(frozen=True)
class Card:
    """What people are told of a file: see `modelspec.*` of Stability AI's model metadata standard."""

    title: str
    trigger: str = ""
    usage: str = ""
    description: str = ""
    license: str = ""


def tensors(adapter: TrainedAdapter, levels: int, res_blocks: int) -> dict[str, Tensor]:
    """The tensors of the file, fp16, by kohya's names: diffusers' names of the layers with underscores.

    Args:
        levels, res_blocks: of the U-Net (`lora_names.unet_aliases`).
    """
    found = {}
    for path in adapter.paths:
        if path.part == TEXT:
            stem = "lora_te_text_model_" + path.place.replace(".", "_")
        else:
            stem = "lora_unet_" + diffusers_name(path.place, levels, res_blocks).replace(".", "_")
        found[f"{stem}.lora_down.weight"] = path.delta.down.detach()
        found[f"{stem}.lora_up.weight"] = path.delta.up.detach()
        found[f"{stem}.alpha"] = torch.tensor(path.alpha)
    return {name: tensor.half().cpu().contiguous() for name, tensor in found.items()}


def metadata(trainer: Trainer, name: str, card: Card, finished: datetime | None = None) -> Metadata:
    """kohya's `ss_*` and `modelspec.*` for the file `name`, values as those programs write them."""
    recipe, shape, data = trainer.recipe, trainer.adapter.shape, trainer.data
    finished = finished or datetime.now(timezone.utc)
    info, per_epoch = trainer.model.info, data.batches_per_epoch(recipe.batch)
    resolution = f"{info.defaults.width}x{info.defaults.height}"
    sizes = Counter(data.sizes)
    dirs: dict[str, dict[str, int]] = {}
    for example in data.examples:
        entry = dirs.setdefault(example.path.parent.name, {"n_repeats": example.repeats, "img_count": 0})
        entry["img_count"] += 1
    said: dict[str, object] = {
        "ss_base_model_version": "sd_v1",
        "ss_v2": False,
        "ss_output_name": name,
        "ss_sd_model_name": info.path.name,
        "ss_new_sd_model_hash": trainer.facts.get("model"),
        "ss_network_module": "networks.lora",
        "ss_network_dim": shape.rank,
        "ss_network_alpha": shape.alpha,
        "ss_network_args": json.dumps({"conv_dim": shape.conv_rank, "conv_alpha": shape.conv_alpha} if shape.conv_rank else {}),
        "ss_tag_frequency": json.dumps(tag_frequency(data.examples)),
        "ss_dataset_dirs": json.dumps(dirs),
        "ss_bucket_info": json.dumps(
            {"buckets": {str(n): {"resolution": list(size), "count": sizes[size]} for n, size in enumerate(sizes)}}
        ),
        "ss_enable_bucket": len(sizes) > 1,
        "ss_resolution": f"({info.defaults.width}, {info.defaults.height})",
        "ss_num_train_images": sum(example.repeats for example in data.examples),
        "ss_num_reg_images": 0,
        "ss_num_batches_per_epoch": per_epoch,
        "ss_num_epochs": -(-recipe.steps // per_epoch),
        "ss_epoch": -(-trainer.step // per_epoch),
        "ss_steps": trainer.step,
        "ss_max_train_steps": recipe.steps,
        "ss_total_batch_size": recipe.batch,
        "ss_learning_rate": recipe.rate,
        "ss_unet_lr": recipe.rate,
        "ss_text_encoder_lr": recipe.text_rate if shape.text else None,
        "ss_optimizer": "torch.optim.adamw.AdamW",
        "ss_lr_scheduler": "cosine",
        "ss_lr_warmup_steps": recipe.warmup,
        "ss_mixed_precision": "bf16" if recipe.bf16 else "no",
        "ss_min_snr_gamma": recipe.min_snr or None,
        "ss_noise_offset": recipe.noise_offset or None,
        "ss_caption_dropout_rate": recipe.dropout,
        "ss_seed": recipe.seed,
        "ss_training_started_at": finished.timestamp() - trainer.seconds,
        "ss_training_finished_at": finished.timestamp(),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": card.title,
        "modelspec.date": finished.isoformat(timespec="seconds"),
        "modelspec.resolution": resolution,
        "modelspec.prediction_type": "v" if trainer.objective.v else "epsilon",
        "modelspec.trigger_phrase": card.trigger,
        "modelspec.usage_hint": card.usage,
        "modelspec.description": card.description,
        "modelspec.license": card.license,
    }
    return {key: str(value) for key, value in said.items() if not key.startswith("modelspec.") or value}


def file_bytes(state: Mapping[str, Tensor], said: Metadata) -> bytes:
    """The file, with the hash of its tensors by which A1111 and kohya know it (`sshs_model_hash`)."""
    plain = save(dict(state))
    (length,) = struct.unpack("<Q", plain[:8])
    digest = hashlib.sha256(plain[8 + length :]).hexdigest()
    return save(dict(state), {**said, "sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"})


def write(trainer: Trainer, file: Path, card: Card) -> int:
    """Write the adapter as it is now; its bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    config = trainer.unet.config
    state = tensors(trainer.adapter, len(config.channels), config.res_blocks)
    data = file_bytes(state, metadata(trainer, file.stem, card))
    write_whole(file, data)
    return len(data)


def expected_size(adapter: TrainedAdapter) -> int:
    """Bytes of the file and of the state beside it, roughly."""
    numbers = sum(tensor.numel() for tensor in adapter.state().values())
    return numbers * (2 + 3 * 4) + (1 << 20)
