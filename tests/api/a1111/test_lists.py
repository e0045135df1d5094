"""What clients read when they start, and what only administrators may do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from modules.api.a1111.models import find_checkpoint
from modules.app import App
from modules.checkpoints.hashes import file_sha256
from modules.diffusion.samplers import SAMPLERS
from modules.diffusion.vae import AutoencoderKL
from modules.errors import UnknownName
from tests.api.a1111.conftest import SMALL, Visitor, detail
from tests.scripted import ScriptedLink
from tests.tiny import TINY_VAE, randomised, write


def get(client: TestClient, path: str) -> Any:
    answer = client.get(path if path.startswith("/") else f"/sdapi/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_models_have_a1111_s_names_and_no_paths(visitor: Visitor, real_app: App, models: Path) -> None:
    client = visitor()
    file_sha256(models / "tiny.safetensors", real_app.settings.data_dir / "hashes.json")
    found = {model["model_name"]: model for model in get(client, "sd-models")}
    tiny = found["tiny"]
    assert tiny["title"] == f"tiny.safetensors [{tiny['sha256'][:10]}]"
    assert tiny["hash"] == tiny["sha256"][:10]
    assert (tiny["filename"], tiny["config"]) == ("tiny.safetensors", None)
    assert (found["sub_other"]["title"], found["sub_other"]["hash"]) == ("sub/other.safetensors", None)
    assert str(models) not in client.get("/sdapi/v1/sd-models").text


@pytest.mark.parametrize(
    "name",
    [
        "sub/other.safetensors",
        "sub/other",
        "sub_other",
        "other",
        "other.safetensors",
        "OTHER",
        "sub/other.safetensors [0123456789]",
    ],
)
def test_a_checkpoint_is_found_by_any_of_its_names(real_app: App, name: str) -> None:
    assert find_checkpoint(real_app, name).name == "sub/other"


def test_a_checkpoint_is_found_by_its_hash(real_app: App, models: Path) -> None:
    sha256 = file_sha256(models / "sub" / "other.safetensors", real_app.settings.data_dir / "hashes.json")
    for name in (sha256, sha256[:10], f"x [{sha256[:10]}]"[3:-1]):
        assert find_checkpoint(real_app, name).name == "sub/other"
    for name in ("gone", "", "[0123456789]"):
        with pytest.raises(UnknownName):
            find_checkpoint(real_app, name)


def test_samplers_and_schedulers(visitor: Visitor) -> None:
    client = visitor()
    samplers = {sampler["name"]: sampler for sampler in get(client, "samplers")}
    assert list(samplers) == list(SAMPLERS)
    assert samplers["DPM++ 2M"] == {
        "name": "DPM++ 2M", "aliases": ["k_dpmpp_2m", "dpmpp_2m"], "options": {"scheduler": "karras"},
    }  # fmt: skip
    assert samplers["DPM++ 3M SDE"]["options"] == {
        "scheduler": "exponential", "discard_next_to_last_sigma": True, "brownian_noise": True,
    }  # fmt: skip
    schedulers = {scheduler["name"]: scheduler for scheduler in get(client, "schedulers")}
    assert schedulers["karras"] == {
        "name": "karras", "label": "Karras", "aliases": None, "default_rho": 7.0, "need_inner_model": False,
    }  # fmt: skip
    assert schedulers["sgm_uniform"]["aliases"] == ["SGMUniform"]
    assert schedulers["sgm_uniform"]["need_inner_model"] is True


def test_embeddings_are_those_that_fit_the_default_checkpoint(visitor: Visitor, models: Path) -> None:
    """The tiny checkpoint's text encoder is 32 wide; a pickle is in neither list."""
    (models / "embeddings").mkdir()
    try:
        write(models / "embeddings" / "ink.safetensors", {"emb_params": torch.zeros(2, 32)})
        write(models / "embeddings" / "wash.safetensors", {"emb_params": torch.zeros(4, 768)})
        (models / "embeddings" / "old.pt").write_bytes(b"")
        found = get(visitor(), "embeddings")
    finally:
        shutil.rmtree(models / "embeddings")
    unknown = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None}
    assert found["skipped"] == {"wash": {**unknown, "shape": 768, "vectors": 4}}
    assert found["loaded"] == {"ink": {**unknown, "shape": 32, "vectors": 2}}


def test_loras_have_the_names_and_the_metadata_of_their_files(visitor: Visitor, models: Path) -> None:
    (models / "Lora").mkdir()
    try:
        metadata = {"ss_output_name": "Ink wash", "ss_network_dim": "8"}
        write(models / "Lora" / "ink.safetensors", {"lora_unet_x.lora_down.weight": torch.zeros(4, 4)}, metadata)
        (models / "Lora" / "torn.safetensors").write_bytes(b"torn")
        found = get(visitor(), "loras")
    finally:
        shutil.rmtree(models / "Lora")
    assert found == [{"name": "ink", "alias": "Ink wash", "path": "ink.safetensors", "metadata": metadata}]
    assert get(visitor(), "loras") == []


def test_vaes_are_listed_chosen_by_option_and_said(api: TestClient, models: Path) -> None:
    """`sd_vae` in a call takes the file; one that is not here is passed over with a note (see the tests of tolerance)."""
    assert get(api, "sd-vae") == []
    (models / "VAE").mkdir()
    try:
        state = randomised(AutoencoderKL(TINY_VAE), seed=9).state_dict()
        write(models / "VAE" / "nice.safetensors", state)
        (models / "VAE" / "torn.safetensors").write_bytes(b"torn")
        found = get(api, "sd-vae")
        assert found == [{"model_name": "nice.safetensors", "filename": "nice.safetensors"}]
        plain = api.post("/sdapi/v1/txt2img", json={**SMALL, "seed": 1}).json()
        chosen = api.post("/sdapi/v1/txt2img", json={**SMALL, "seed": 1, "override_settings": {"sd_vae": "nice"}}).json()
    finally:
        shutil.rmtree(models / "VAE")
    info = json.loads(chosen["info"])
    assert (info["sd_vae_name"], len(info["sd_vae_hash"])) == ("nice.safetensors", 10)
    assert ", VAE: nice.safetensors" in info["infotexts"][0]
    assert chosen["images"] != plain["images"]
    assert json.loads(plain["info"])["sd_vae_name"] is None


def test_hypernetworks_that_can_be_used_are_listed(visitor: Visitor, models: Path) -> None:
    (models / "hypernetworks").mkdir()
    try:
        layer = {"768.0.linear.0.weight": torch.zeros(4, 4), "768.0.linear.0.bias": torch.zeros(4)}
        write(models / "hypernetworks" / "anime.safetensors", layer)
        (models / "hypernetworks" / "old.pt").write_bytes(b"")
        found = get(visitor(), "hypernetworks")
    finally:
        shutil.rmtree(models / "hypernetworks")
    assert found == [{"name": "anime", "path": "anime.safetensors"}]
    assert get(visitor(), "hypernetworks") == []


def test_what_is_not_built_is_an_empty_list(visitor: Visitor) -> None:
    client = visitor()
    assert get(client, "face-restorers") == []
    assert get(client, "embeddings") == {"loaded": {}, "skipped": {}}
    assert get(client, "/controlnet/version") == {"version": 2}
    assert get(client, "/controlnet/model_list") == {"model_list": []}
    assert get(client, "/controlnet/module_list")["module_list"] == []
    assert get(client, "/controlnet/control_types") == {"control_types": {}}
    assert get(client, "/controlnet/settings") == {"control_net_unit_count": 0}
    assert "no preprocessors" in detail(client.post("/controlnet/detect", json={}))


def test_upscalers_are_filters_and_files(visitor: Visitor) -> None:
    found = get(visitor(), "upscalers")
    assert [upscaler["name"] for upscaler in found] == ["None", "Lanczos", "Nearest", "RealESRGAN_x4plus", "Sharp 2x"]
    assert found[4] == {
        "name": "Sharp 2x",
        "model_name": "Sharp 2x",
        "model_path": "Sharp 2x.safetensors",
        "model_url": None,
        "scale": 2.0,
    }
    assert [one["name"] for one in get(visitor(), "realesrgan-models")] == ["RealESRGAN_x4plus", "Sharp 2x"]
    modes = [mode["name"] for mode in get(visitor(), "latent-upscale-modes")]
    assert (modes[0], len(modes)) == ("Latent", 6)


def test_styles_are_those_of_the_instance(visitor: Visitor, real_app: App) -> None:
    client = visitor()
    assert get(client, "prompt-styles") == []
    (real_app.settings.data_dir / "styles.csv").write_text('name,prompt,negative_prompt\nPhoto,"photo of {prompt}",blurry\n')
    assert get(client, "prompt-styles") == [{"name": "Photo", "prompt": "photo of {prompt}", "negative_prompt": "blurry"}]
    (real_app.settings.data_dir / "styles.csv").write_text("nothing,of,this\n1,2,3\n")
    assert "no column 'name'" in detail(client.get("/sdapi/v1/prompt-styles"))


def test_scripts_are_those_that_a_call_may_name(visitor: Visitor) -> None:
    client = visitor()
    scripts = get(client, "scripts")
    assert "soft inpainting" in scripts["img2img"]
    assert "soft inpainting" not in scripts["txt2img"]
    [soft] = [script for script in get(client, "script-info") if script["name"] == "soft inpainting"]
    assert [argument["label"] for argument in soft["args"]][:2] == ["Soft inpainting", "Schedule bias"]
    assert soft["args"][1] == {"label": "Schedule bias", "value": 1, "minimum": 0, "maximum": 8, "step": 0.1, "choices": None}


def test_flags_and_memory_tell_no_folders_and_no_secrets(visitor: Visitor, real_app: App) -> None:
    client = visitor()
    flags = client.get("/sdapi/v1/cmd-flags")
    assert flags.json()["api"] is True
    assert not [value for value in flags.json().values() if isinstance(value, str)]
    memory = get(client, "memory")
    assert set(memory) == {"ram", "cuda"}
    assert memory["ram"].get("error") or memory["ram"]["total"] > memory["ram"]["used"] > 0


def test_limits_are_those_that_are_enforced(visitor: Visitor) -> None:
    limits = get(visitor(), "limits")
    assert (limits["prompt_characters"], limits["steps"], limits["batch_size"], limits["n_iter"]) == (32_768, 150, 100, 100)
    assert (limits["jobs_per_user"], limits["count"], limits["most_side"]) == (4, 100, 2048)
    assert limits["most_side_tiled"] == 8192


def test_administrators_load_and_unload(visitor: Visitor, link: ScriptedLink) -> None:
    client = visitor()
    assert client.post("/sdapi/v1/unload-checkpoint").json() == {}
    assert client.post("/sdapi/v1/reload-checkpoint").json() == {}
    assert [message.kind for message in link.sent[-2:]] == ["unload", "load"]
    for what in ("checkpoints", "vae", "embeddings", "loras"):
        assert client.post(f"/sdapi/v1/refresh-{what}").json() is None


@pytest.mark.parametrize("path", ["server-kill", "server-restart", "server-stop", "create/embedding", "train/x", "x"])
def test_what_is_not_there_says_so_in_a1111_s_shape(visitor: Visitor, path: str) -> None:
    detail(visitor().post(f"/sdapi/v1/{path}", json={}), 404)


def test_wrong_methods_and_queries_have_the_shape_too(visitor: Visitor) -> None:
    client = visitor()
    detail(client.get("/sdapi/v1/txt2img"), 405)
    assert "skip_current_image" in detail(client.get("/sdapi/v1/progress?skip_current_image=perhaps"))


def test_a1111_s_pings(visitor: Visitor) -> None:
    assert get(visitor(), "/internal/ping") == {}


def test_answers_say_how_long_they_took(visitor: Visitor) -> None:
    client = visitor()
    for path in ("/sdapi/v1/options", "/controlnet/version", "/sdapi/v1/progress"):
        assert float(client.get(path).headers["x-process-time"]) >= 0
