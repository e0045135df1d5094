"""What clients of A1111's API send: a table of calls by client, in the clients' own order, with what they expect.

Field names, types and values are facts read from each client's source, which is named; sizes and steps are small so that a
replay takes milliseconds, and PICTURE and MASK stand for the pictures.  `test_clients` replays each row, and the README names
no client that is not in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PICTURE, MASK, PAINTED = "<picture>", "<mask>", "<the last picture that was painted>"
URI = "data:image/png;base64,"


@dataclass(frozen=True)
class Call:
    """`expected` keys are taken from the answer, `info` from its info text; a body of None is a GET.

    `status` other than 200 is a refusal that the client shows, with `says` in its detail.
    """

    route: str
    body: Mapping[str, Any] | None = None
    expected: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    pictures: int = 0
    notes: tuple[str, ...] = ()
    status: int = 200
    says: str = ""


def lists(*names: str) -> tuple[Call, ...]:
    return tuple(Call(f"/sdapi/v1/{name}") for name in names)


SIZE = {"width": 64, "height": 64}

AIYA: tuple[Call, ...] = (  # core/settings.py, core/stablecog.py, core/upscalecog.py
    *lists("cmd-flags", "samplers", "prompt-styles", "face-restorers", "sd-models", "hypernetworks", "upscalers", "embeddings"),
    Call("/sdapi/v1/options", {"sd_model_checkpoint": "tiny"}, expected={}),
    Call(
        "/sdapi/v1/txt2img",
        {
            "prompt": "a cat",
            "negative_prompt": "",
            "steps": 2,
            **SIZE,
            "cfg_scale": "7.0",
            "sampler_index": "Euler a",
            "seed": 123456789,
            "seed_resize_from_h": 0,
            "seed_resize_from_w": 0,
            "denoising_strength": None,
            "n_iter": 1,
            "styles": ["None"],
            "override_settings": {"CLIP_stop_at_last_layers": 1},
        },
        pictures=1,
        info={"seed": 123456789, "styles": []},
        notes=("style 'None' is not here",),
    ),
    Call("/sdapi/v1/png-info", {"image": URI + PAINTED}),
    Call(
        "/sdapi/v1/img2img",
        {
            "prompt": "a cat",
            "negative_prompt": "",
            "steps": 2,
            **SIZE,
            "cfg_scale": "7.0",
            "sampler_index": "Euler a",
            "seed": 5,
            "seed_resize_from_h": 0,
            "seed_resize_from_w": 0,
            "denoising_strength": "0.75",
            "n_iter": 2,
            "styles": ["None"],
            "init_images": [URI + PICTURE],
            "override_settings": {"CLIP_stop_at_last_layers": 2},
        },
        pictures=2,
        info={"all_seeds": [5, 6], "clip_skip": 2, "denoising_strength": 0.75},
        notes=("style 'None' is not here",),
    ),
    Call(
        "/sdapi/v1/txt2img",
        {
            "prompt": "a cat",
            "steps": 2,
            **SIZE,
            "styles": ["None"],
            "restore_faces": True,
            "sampler_index": "Euler a",
            "override_settings": {"CLIP_stop_at_last_layers": 1, "face_restoration_model": "GFPGAN"},
        },
        pictures=1,
        notes=(
            "restore_faces: ",
            "style 'None' is not here",
            "options without effect on a picture here: face_restoration_model",
        ),
    ),
    Call(
        "/sdapi/v1/txt2img",
        {"prompt": "a cat", "steps": 2, **SIZE, "enable_hr": True, "hr_upscaler": "Latent", "hr_second_pass_steps": 2.5},
    ),
    Call(
        "/sdapi/v1/extra-single-image",
        {
            "upscaling_resize": 2.0,
            "upscaler_1": "Lanczos",
            "image": URI + PICTURE,
            "gfpgan_visibility": 0.0,
            "codeformer_visibility": 0.0,
            "upscale_first": False,
            "upscaler_2": "None",
            "extras_upscaler_2_visibility": 0.5,
        },
    ),
)

GO_BOT: tuple[Call, ...] = (  # stable_diffusion_api/stable_diffusion.go, imagine_queue/queue.go
    Call(
        "/sdapi/v1/txt2img",
        {
            "prompt": "a cat",
            "negative_prompt": "ugly, tiling",
            **SIZE,
            "restore_faces": True,
            "enable_hr": False,
            "denoising_strength": 0.7,
            "batch_size": 1,
            "seed": -1,
            "subseed": -1,
            "subseed_strength": 0,
            "sampler_name": "Euler a",
            "cfg_scale": 7,
            "steps": 2,
            "n_iter": 4,
        },
        pictures=4,
        info={"all_subseeds": [-1, -1, -1, -1], "restore_faces": False},
        notes=("restore_faces: ",),
    ),
    Call("/sdapi/v1/extra-single-image", {"resize_mode": 0, "upscaling_resize": 4, "upscaler1": "ESRGAN_4x", "image": PAINTED}),
    Call("/sdapi/v1/progress", expected={"progress": 0.0}),
)

KOBOLD: tuple[Call, ...] = (  # KoboldAI Lite, index.html: generate_a1111_image
    *lists("sd-models", "options", "samplers"),
    Call(
        "/sdapi/v1/txt2img",
        {
            "prompt": "a cat",
            "seed": 12345678,
            "sampler_name": "Euler a",
            "batch_size": 1,
            "n_iter": 1,
            "steps": 2,
            "cfg_scale": 7,
            **SIZE,
            "negative_prompt": "",
            "do_not_save_samples": True,
            "do_not_save_grid": True,
            "enable_hr": False,
            "eta": 0,
            "s_churn": 0,
            "s_tmax": 0,
            "s_tmin": 0,
            "s_noise": 1,
            "clip_skip": 1,
            "override_settings": {
                "sd_model_checkpoint": "tiny",
                "eta_noise_seed_delta": 0.0,
                "CLIP_stop_at_last_layers": 1.0,
                "ddim_discretize": "uniform",
                "img2img_fix_steps": False,
                "sd_hypernetwork": "None",
                "inpainting_mask_weight": 1.0,
                "initial_noise_multiplier": 1.0,
                "comma_padding_backtrack": 20.0,
            },
        },
        pictures=1,
        info={"seed": 12345678, "sd_model_name": "tiny"},
    ),
    Call(
        "/sdapi/v1/img2img",
        {
            "prompt": "a cat",
            "seed": 1,
            "sampler_name": "Euler a",
            "batch_size": 1,
            "n_iter": 1,
            "steps": 2,
            "cfg_scale": 7,
            **SIZE,
            "init_images": [PICTURE],
            "denoising_strength": 0.6,
            "eta": 0,
            "save_images": True,
            "override_settings": {"comma_padding_backtrack": 20.0, "ddim_discretize": "uniform", "img2img_fix_steps": False},
        },
        pictures=1,
    ),
)

_CYANIC = {
    "prompt": "a cat",
    "negative_prompt": "",
    **SIZE,
    "cfg_scale": 7.0,
    "seed": -1,
    "batch_size": 1,
    "n_iter": 1,
    "enable_refiner": False,
    "sampler_name": "DPM++ SDE",
    "steps": 2,
    "save_images": True,
    "override_settings_restore_afterwards": False,
}
CYANIC: tuple[Call, ...] = (  # cyanic/sdapi_v1.py and cyanic/widgets
    Call("/queue/status", expected={"msg": "estimation", "queue_size": 0}),
    *lists("sd-models", "sd-vae", "samplers", "upscalers", "face-restorers", "prompt-styles", "scripts", "loras", "embeddings"),
    *lists("hypernetworks", "options", "progress"),
    Call(
        "/sdapi/v1/txt2img",
        {
            **_CYANIC,
            "enable_hr": False,
            "override_settings": {"sd_model_checkpoint": "tiny.safetensors", "sd_vae": "Automatic"},
        },
        pictures=1,
    ),
    Call(
        "/sdapi/v1/img2img",
        {
            **_CYANIC,
            "init_images": [PICTURE],
            "mask": MASK,
            "denoising_strength": 0.8,
            "mask_blur": 4,
            "inpainting_mask_invert": 0,
            "inpainting_fill": 1,
            "inpaint_full_res": 0,
            "inpaint_full_res_padding": 32,
            "override_settings": {"sd_model_checkpoint": "tiny", "sd_vae": "None", "img2img_color_correction": False},
            "alwayson_scripts": {"Soft Inpainting": {"args": [True, 1.0, 0.5, 4.0, 0.0, 0.5, 2.0]}},
        },
        pictures=1,
    ),
    Call("/sdapi/v1/interrupt", {}, expected={}),
)

_OFF = {"enabled": False, "input_image": None, "mask": None, "module": None, "model": None, "weight": 1.0, "resize_mode": 1}
_PHOTOSHOP = {
    "prompt": "a cat",
    "negative_prompt": "",
    "original_prompt": "a cat",
    "original_negative_prompt": "",
    "steps": 2,
    **SIZE,
    "sampler_index": "Euler a",
    "denoising_strength": 0.7,
    "batch_size": 1,
    "cfg_scale": 7,
    "seed": "-1",
    "mask_blur": 4,
    "use_sharp_mask": False,
    "use_prompt_shortcut": True,
    "prompt_shortcut_ui_dict": {},
    "uniqueDocumentId": "x",
    "restore_faces": False,
    "tiling": False,
    "selection_info": {"left": 0},
    "alwayson_scripts": {"controlnet": {"args": [_OFF, _OFF, _OFF]}},
}
PHOTOSHOP: tuple[Call, ...] = (  # Auto-Photoshop-SD: utility/session.js, sdapi_py_re.js
    *lists("sd-models", "samplers", "options", "sd-vae", "upscalers", "loras", "embeddings", "hypernetworks", "script-info"),
    *(Call(f"/controlnet/{name}") for name in ("model_list", "module_list?alias_names=1", "settings", "version")),
    Call("/sdapi/v1/options", {"inpainting_mask_weight": 1}),
    Call("/sdapi/v1/txt2img", {**_PHOTOSHOP, "mode": "txt2img"}, pictures=1, notes=("always on script controlnet",)),
    Call(
        "/sdapi/v1/img2img",
        {**_PHOTOSHOP, "mode": "img2img", "init_images": [PICTURE], "seed": "6687881544318117707", "image_cfg_scale": 1.5},
        pictures=1,
        info={"seed": 6687881544318117707},
        notes=("always on script controlnet",),
    ),
    Call(
        "/sdapi/v1/img2img",
        {
            **_PHOTOSHOP,
            "mode": "inpaint",
            "init_images": [PICTURE],
            "mask": MASK,
            "expanded_mask": MASK,
            "mask_expansion": 0,
            "inpaint_full_res": False,
            "inpaint_full_res_padding": 0,
            "inpainting_fill": 1,
        },
        pictures=1,
        notes=("always on script controlnet",),
    ),
    Call("/sdapi/v1/progress?skip_current_image=false", expected={"progress": 0.0}),
    Call("/sdapi/v1/png-info", {"image": PAINTED}),
    Call("/sdapi/v1/extra-single-image", {"image": PICTURE, "upscaling_resize": 2, "upscaler_1": "Lanczos", "resize_mode": 0}),
    Call(
        "/sdapi/v1/interrogate", {"image": PICTURE, "model": "clip"}, status=422, says="no model here that describes pictures"
    ),
)

_BLENDER = tuple(
    Call(
        "/sdapi/v1/img2img",
        {
            "prompt": "a cat",
            "negative_prompt": "ugly",
            **SIZE,
            "image_similarity": 0.4,
            "seed": 1,
            "cfg_scale": 7.0,
            "steps": 2,
            "sampler": name,
            "sampler_index": name,
            "denoising_strength": 0.6,
            "init_images": [URI + PICTURE],
        },
        pictures=1,
        info={"denoising_strength": 0.6},
    )
    for name in ("LMS", "Euler a", "DPM2 a", "DPM++ 2S a Karras", "DPM++ 2M Karras", "PLMS", "DDIM")
)
BLENDER: tuple[Call, ...] = (  # AI-Render: operators.py, sd_backends/automatic1111_api.py
    *lists("upscalers"),
    Call("/controlnet/model_list"),
    Call("/controlnet/module_list"),
    *_BLENDER,
)

GIMP: tuple[Call, ...] = (  # Stable-Gimpfusion: stable_gimpfusion.py
    Call("/sdapi/v1/options?"),
    Call("/sdapi/v1/sd-models?"),
    Call("/controlnet/model_list?"),
    Call(
        "/sdapi/v1/img2img?",
        {
            "resize_mode": 0,
            "init_images": [PICTURE],
            "prompt": "a cat",
            "negative_prompt": "",
            "denoising_strength": 0.8,
            "steps": 1,
            "cfg_scale": 7.5,
            **SIZE,
            "sampler_index": "Euler a",
            "batch_size": 20,
            "seed": -1,
        },
        pictures=20,
    ),
    Call(
        "/sdapi/v1/img2img?",
        {
            "mask": MASK,
            "inpaint_full_res": True,
            "inpaint_full_res_padding": 10,
            "inpainting_mask_invert": False,
            "resize_mode": 0,
            "init_images": [PICTURE],
            "prompt": "a cat",
            "negative_prompt": "",
            "denoising_strength": 0.8,
            "steps": 2,
            "cfg_scale": 7.5,
            "width": 64.0,
            "height": 64.0,
            "sampler_index": "LMS Karras",
            "batch_size": 1,
            "seed": -1,
        },
        pictures=1,
    ),
)

LIBRECHAT: tuple[Call, ...] = (  # api/app/clients/tools/structured/StableDiffusion.js
    Call("/sdapi/v1/txt2img", {"prompt": "a cat", "negative_prompt": "x", "cfg_scale": 4.5, "steps": 22, **SIZE}, pictures=1),
)

TEXTGEN: tuple[Call, ...] = (  # text-generation-webui: extensions/sd_api_pictures/script.py
    *lists("sd-models", "options", "samplers"),
    Call(
        "/sdapi/v1/txt2img",
        {
            "prompt": "(Masterpiece:1.1), detailed(a cat:1)",
            "seed": -1,
            "sampler_name": "DPM++ 2M",
            "enable_hr": False,
            "hr_scale": "1.0",
            "hr_upscaler": "ESRGAN_4x",
            "denoising_strength": 0.61,
            "steps": 2,
            "cfg_scale": 7,
            **SIZE,
            "restore_faces": False,
            "override_settings_restore_afterwards": True,
            "negative_prompt": "(low quality:1.3)",
        },
        pictures=1,
    ),
)

RUNPOD: tuple[Call, ...] = (  # worker-a1111: the fields of its schema, README
    Call(
        "/sdapi/v1/txt2img",
        {
            "prompt": "a cat",
            "negative_prompt": "",
            "steps": 2,
            "cfg_scale": 7.5,
            **SIZE,
            "sampler_name": "DPM++ 2M SDE",
            "scheduler": "Karras",
            "refiner_switch_at": 0.8,
            "seed": -1,
            "batch_size": 1,
            "override_settings": {"sd_model_checkpoint": "tiny", "sd_vae": "vae-ft-mse-840000.safetensors"},
        },
        pictures=1,
        notes=("the VAE 'vae-ft-mse-840000.safetensors' is not here; the checkpoint's own is used",),
    ),
)

CLIENTS: dict[str, tuple[Call, ...]] = {
    "AIYA": AIYA,
    "stable-diffusion-discord-bot": GO_BOT,
    "KoboldAI Lite": KOBOLD,
    "Cyanic SD": CYANIC,
    "Auto-Photoshop-SD": PHOTOSHOP,
    "AI Render": BLENDER,
    "Stable-Gimpfusion": GIMP,
    "LibreChat": LIBRECHAT,
    "text-generation-webui": TEXTGEN,
    "RunPod": RUNPOD,
}
