"""Pictures as other programs write them, made from the formats that those programs document or show in their sources."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modules.images import exif

A1111 = (
    "a cat, <lora:fur:0.8>\nNegative prompt: dog, bad_hands\nSteps: 25, Sampler: DPM++ 2M, Schedule type: Karras, "
    "CFG scale: 6.5, Seed: 123, Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned, Clip skip: 2, "
    'Lora hashes: "fur: 0123456789ab", TI hashes: "bad_hands: abcdef012345", Version: v1.10.1'
)
FORGE = A1111.replace("v1.10.1", "f2.0.1v1.10.1-previous-659-gc055f2d4").replace("Seed: 123", "Seed: 321")
SDNEXT = "a cat\nSteps: 20, Size: 512x512, Sampler: Euler a, Seed: 5, CFG scale: 6, App: SD.Next, Version: 1a2b3c4"


def picture(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    noise = np.random.default_rng(11).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    noise[..., 3] = 255
    return Image.fromarray(noise, "RGBA").convert(mode)


def png(image: Image.Image | None = None, **texts: str) -> bytes:
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword.replace("_dash_", "-"), text)
    buffer = io.BytesIO()
    (image or picture()).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def with_exif(kind: str, tags: dict[int, bytes], xmp: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, kind, exif=exif.write_tags(tags), xmp=xmp)
    return buffer.getvalue()


def commented(kind: str, text: str, code: bytes = b"UNICODE\0", encoding: str = "utf-16-be") -> bytes:
    return with_exif(kind, {exif.USER_COMMENT: code + text.encode(encoding)})


# ---- ComfyUI

COMFY: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 156680208,
            "steps": 20,
            "cfg": 8.0,
            "sampler_name": "dpmpp_2m_sde_gpu",
            "scheduler": "karras",
            "denoise": 1.0,
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sub\\dream.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640, "height": 512, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a glass (bottle:1.2)", "clip": ["9", 0]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text, watermark", "clip": ["9", 0]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "fur.safetensors", "model": ["4", 0], "clip": ["4", 1]}},
    "11": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}},
}

COMFY_CUSTOM: dict[str, Any] = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-dev.safetensors"}},
    "2": {"class_type": "SamplerCustomAdvanced", "inputs": {
        "noise": ["3", 0], "guider": ["4", 0], "sampler": ["5", 0], "sigmas": ["6", 0], "latent_image": ["12", 0]}},
    "3": {"class_type": "RandomNoise", "inputs": {"noise_seed": ["30", 0]}},
    "30": {"class_type": "PrimitiveInt", "inputs": {"value": 42}},
    "4": {"class_type": "CFGGuider", "inputs": {"cfg": 4.5, "model": ["1", 0], "positive": ["7:1", 0], "negative": ["8", 0]}},
    "5": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler_ancestral"}},
    "6": {"class_type": "BasicScheduler", "inputs": {"scheduler": "sgm_uniform", "steps": 12, "denoise": 0.6}},
    "7:1": {"class_type": "SomebodysBox", "inputs": {"conditioning": ["9", 0], "strength": 3}},
    "8": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["9", 0]}},
    "9": {"class_type": "ConditioningConcat", "inputs": {"conditioning_to": ["10", 0], "conditioning_from": ["11", 0]}},
    "10": {"class_type": "CLIPTextEncode", "inputs": {"text": ["13", 0], "clip": ["1", 0]}},
    "11": {"class_type": "CLIPTextEncode", "inputs": {"text": "at night", "clip": ["1", 0]}},
    "12": {"class_type": "VAEEncode", "inputs": {"pixels": ["14", 0], "vae": ["1", 0]}},
    "13": {"class_type": "String Literal", "inputs": {"string": "a lighthouse"}},
    "14": {"class_type": "ImageScale", "inputs": {"width": 768, "height": 768, "image": ["15", 0]}},
    "15": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "16": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 1], "vae": ["1", 0]}},
    "17": {"class_type": "PreviewImage", "inputs": {"images": ["16", 0]}},
}  # fmt: skip


def comfy_workflow(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph as the page draws it, with values in lists."""
    nodes: list[dict[str, Any]] = []
    links: list[list[Any]] = []
    for name, node in graph.items():
        slots: list[dict[str, Any]] = []
        values = [value for value in node["inputs"].values() if not isinstance(value, list)]
        if node["class_type"] == "KSampler":
            values.insert(1, "randomize")  # what becomes of the seed
        for kind, value in node["inputs"].items():
            if isinstance(value, list):
                slots.append({"name": kind, "type": kind.upper(), "link": len(links) + 1})
                links.append([len(links) + 1, int(value[0]), value[1], int(name), len(slots) - 1, kind.upper()])
        nodes.append({"id": int(name), "type": node["class_type"], "mode": 0, "inputs": slots, "widgets_values": values})
    return {"last_node_id": 20, "nodes": nodes, "links": links, "version": 0.4}


def comfyui(graph: dict[str, Any] | None = None) -> bytes:
    graph = COMFY if graph is None else graph
    return png(prompt=json.dumps(graph), workflow=json.dumps(comfy_workflow(graph)) if graph is COMFY else "{}")


def comfyui_webp(graph: dict[str, Any]) -> bytes:
    return with_exif("WEBP", {exif.MODEL: b"prompt:" + json.dumps(graph).encode(), exif.MAKE: b"workflow:{}"})


# ---- InvokeAI

INVOKE = {
    "app_version": "4.2.9",
    "generation_mode": "txt2img",
    "positive_prompt": "a landscape",
    "negative_prompt": "low quality",
    "width": 768,
    "height": 432,
    "seed": 356120443,
    "rand_device": "cpu",
    "cfg_scale": 7.5,
    "cfg_rescale_multiplier": 0.5,
    "steps": 50,
    "scheduler": "dpmpp_2m_sde_k",
    "clip_skip": 1,
    "model": {"key": "1", "hash": "blake3:01", "name": "amixx", "base": "sd-1", "type": "main"},
    "loras": [{"model": {"name": "fur", "base": "sd-1"}, "weight": 0.75}],
}
INVOKE_2 = {
    "model": "stable diffusion",
    "model_weights": "stable-diffusion-1.5",
    "model_hash": "cc6cb27103417325ff94f52b7a5d2dde45a7515b25c255d8e396c90014281516",
    "app_version": "2.3.5",
    "image": {
        "prompt": [{"prompt": "a castle [ugly, grey]", "weight": 1.0}],
        "steps": 30,
        "cfg_scale": 7.5,
        "height": 512,
        "width": 640,
        "seed": 99,
        "type": "txt2img",
        "sampler": "k_lms",
    },
}
DREAM = '"a castle [ugly]" -s 50 -S 4178962880 -W 512 -H 640 -C 7.5 -A k_euler_a -F'


def invokeai() -> bytes:
    return png(invokeai_metadata=json.dumps(INVOKE))


def invokeai_2() -> bytes:
    return png(sd_dash_metadata=json.dumps(INVOKE_2))


def invokeai_1() -> bytes:
    return png(Dream=DREAM)


# ---- Fooocus

FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)",
    "base_model": "juggernautXL",
    "base_model_hash": "aeb7e9e689",
    "clip_skip": 2,
    "full_negative_prompt": ["blur", "noise"],
    "full_prompt": ["cinematic still a fox", "a fox, sharp"],
    "guidance_scale": 4,
    "loras": [["sd_xl_offset", 0.1, "4852686128ffffff"]],
    "metadata_scheme": "fooocus",
    "negative_prompt": "",
    "prompt": "a fox",
    "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "6245",
    "steps": 30,
    "version": "Fooocus v2.5.5",
}
FOOOCUS_A1111 = (
    "cinematic a fox\nNegative prompt: blur\nSteps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 6245, Size: 1152x896, "
    'CFG scale: 4, Sharpness: 2, ADM Guidance: "(1.5, 0.8, 0.3)", Model: juggernautXL, Model hash: aeb7e9e689, '
    'Performance: Speed, Scheduler: karras, VAE: none, Lora hashes: "off: 4852686128", Version: Fooocus v2.5.5'
)


def fooocus() -> bytes:
    return png(parameters=json.dumps(FOOOCUS), fooocus_scheme="fooocus")


def fooocus_jpeg() -> bytes:
    """Its JPEGs hold the comment as plain ASCII, without a code in front."""
    tags = {exif.USER_COMMENT: json.dumps(FOOOCUS).encode(), exif.SOFTWARE: b"Fooocus v2.5.5", exif.MAKER_NOTE: b"fooocus"}
    return with_exif("JPEG", tags)


def fooocus_a1111() -> bytes:
    return png(parameters=FOOOCUS_A1111, fooocus_scheme="a1111")


# ---- SwarmUI

SWARM = {
    "sui_image_params": {
        "prompt": "a lighthouse",
        "negativeprompt": "fog",
        "model": "OfficialStableDiffusion/sd_xl_base_1.0",
        "seed": 2042464333,
        "steps": 25,
        "cfgscale": 7.0,
        "width": 832,
        "height": 1216,
        "sampler": "dpmpp_2m",
        "scheduler": "karras",
        "loras": ["style/fur"],
        "swarm_version": "0.9.1.1",
        "date": "2024-08-07",
    }
}


def swarm() -> bytes:
    return png(parameters=json.dumps(SWARM, indent=2))


# ---- NovelAI

NAI_COMMENT = {
    "prompt": "1girl, {smile}, [[hat]]",
    "steps": 28,
    "height": 1216,
    "width": 832,
    "scale": 5.0,
    "uncond_scale": 0.0,
    "cfg_rescale": 0.2,
    "seed": 2468,
    "n_samples": 1,
    "noise_schedule": "karras",
    "sampler": "k_euler_ancestral",
    "uc": "lowres",
    "request_type": "PromptGenerateRequest",
}
NAI = {
    "Title": "AI generated image",
    "Description": "1girl, {smile}, [[hat]]",
    "Software": "NovelAI",
    "Source": "Stable Diffusion XL C1E1DE52",
    "Generation_time": "3.1",
    "Comment": json.dumps(NAI_COMMENT),
}


def novelai() -> bytes:
    return png(**NAI)


def hide(text: str, place: str = "png", packed: bool = True, size: tuple[int, int] = (160, 120)) -> bytes:
    """A PNG with `text` in the lowest bits, written bit by bit."""
    data = gzip.compress(text.encode()) if packed else text.encode()
    mark = f"stealth_{place}{'comp' if packed else 'info'}".encode()
    stream = mark + (len(data) * 8).to_bytes(4, "big") + data
    bits = [byte >> shift & 1 for byte in stream for shift in range(7, -1, -1)]
    image = picture("RGBA" if place == "png" else "RGB", size)
    pixels = image.load()
    at = 0
    for x in range(image.width):
        for y in range(image.height):
            values = list(pixels[x, y])
            for channel in (3,) if place == "png" else (0, 1, 2):
                if at < len(bits):
                    values[channel] = values[channel] & ~1 | bits[at]
                    at += 1
            pixels[x, y] = tuple(values)
    assert at == len(bits), "the picture is too small for the text"
    return png(image)


# ---- Draw Things

DRAW_THINGS = {
    "c": "a boat & a <sail>",
    "uc": "blurry",
    "model": "realistic_vision_f16.ckpt",
    "sampler": "DPM++ 2M Karras",
    "scale": 4.5,
    "seed": 777,
    "size": "512x640",
    "steps": 24,
    "strength": 1,
    "lora": [{"model": "fur_lora_f16.ckpt", "weight": 0.6}],
}


def draw_things_xmp() -> str:
    comment = json.dumps(DRAW_THINGS).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description>'
        "<xmp:CreatorTool>Draw Things</xmp:CreatorTool>"
        '<dc:description><rdf:Alt><rdf:li xml:lang="x-default">a boat</rdf:li></rdf:Alt></dc:description>'
        f'<exif:UserComment><rdf:Alt><rdf:li xml:lang="x-default">{comment}</rdf:li></rdf:Alt></exif:UserComment>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def draw_things() -> bytes:
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", draw_things_xmp())
    buffer = io.BytesIO()
    picture().save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
