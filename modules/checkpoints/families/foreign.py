"""Files that are recognised and not painted with: what goes with a checkpoint, and models of other kinds.

Each is known by parts of tensor names, as ComfyUI's and InvokeAI's detection know them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Foreign:
    """A kind of file that is known by any of `marks` (parts of tensor names) and not painted with."""

    what: str
    marks: tuple[str, ...]
    advice: str


_OTHER_MODEL = "this version paints with SD 1.x, SD 2.x, SDXL, SD 3 and Flux.1; choose another file"

_OTHER_FORM = "it lacks tensors by which those that are painted with are known; use another file"

COMPANIONS = (
    Foreign(
        "a LoRA",
        (
            ".lora_down.weight\n",
            ".lora_up.weight\n",
            ".lora_A.",
            ".lora_B.",
            ".lora.down.",
            ".hada_w1_a\n",
            ".lokr_w1",
            ".oft_blocks\n",
            "\nlora_",
        ),
        "put it in the Lora folder of your models",
    ),
    Foreign(
        "a ControlNet",
        (
            "\ncontrol_model.",
            "\ninput_hint_block.",
            "\ncontrolnet_cond_embedding.",
            "\nzero_convs.",
            "\nlora_controlnet\n",
            "\ncontrolnet_blocks.",
        ),
        "put it in the ControlNet folder of your models",
    ),
    Foreign("an IP-Adapter", ("\nip_adapter.", "\nimage_proj."), "put it in the ControlNet folder of your models"),
    Foreign(
        "a textual-inversion embedding",
        ("\nemb_params\n", "\nstring_to_param", "\n<"),
        "put it in the embeddings folder of your models",
    ),
    Foreign("a motion module (AnimateDiff)", (".motion_modules.",), "it is not a checkpoint"),
    Foreign(
        "an upscaler",
        ("\nmodel.0.weight\n", "\nconv_first.weight\n", "\nbody.0.rdb1.", "\nbody.0.weight\n"),
        "put it in the ESRGAN folder of your models",
    ),
    Foreign("a small preview decoder (TAESD)", ("\ntaesd_decoder.", "\n1.conv.0.weight\n"), "it is not a checkpoint"),
)
"""Files that go with a checkpoint and are none."""

UNCLIP = Foreign(
    "an unCLIP checkpoint",
    ("\nembedder.model.visual.",),
    "it varies a picture by its CLIP embedding, which this version does not make; choose another SD 2.x checkpoint",
)
UNCLIP_WIDTHS = (1536, 2048)
"""Numbers of its U-Net's vector, of CLIP ViT-L's embedding and of ViT-H's."""
DEPTH = Foreign(
    "an SD 2.x depth checkpoint",
    ("\ndepth_model.",),
    "it paints along a depth map, which this version does not make; choose another SD 2.x checkpoint",
)

OTHER_MODELS = (
    Foreign("a Stable Video Diffusion checkpoint", (".time_stack.",), _OTHER_MODEL),
    UNCLIP,
    DEPTH,
    Foreign("a Chroma checkpoint", ("distilled_guidance_layer.",), _OTHER_MODEL),
    Foreign("a Flux.2 checkpoint", ("double_stream_modulation_img.",), _OTHER_MODEL),
    Foreign("an SD 3 checkpoint", ("joint_blocks.0.",), _OTHER_FORM),
    Foreign("a Flux checkpoint", ("double_blocks.0.img_attn.",), _OTHER_FORM),
    Foreign("a Stable Cascade checkpoint", ("clip_txt_mapper.", "clip_mapper."), _OTHER_MODEL),
    Foreign("an AuraFlow checkpoint", ("double_layers.0.attn.w1q.",), _OTHER_MODEL),
    Foreign("a HunyuanDiT checkpoint", ("mlp_t5.0.",), _OTHER_MODEL),
    Foreign("a Hunyuan video checkpoint", ("txt_in.individual_token_refiner.",), _OTHER_MODEL),
    Foreign("a PixArt checkpoint", ("t_block.1.weight\n",), _OTHER_MODEL),
    Foreign("an LTX video checkpoint", ("adaln_single.emb.timestep_embedder.",), _OTHER_MODEL),
    Foreign("a Mochi checkpoint", ("t5_yproj.",), _OTHER_MODEL),
    Foreign("a Lumina 2 or Z-Image checkpoint", ("cap_embedder.1.",), _OTHER_MODEL),
    Foreign("a Qwen-Image checkpoint", ("txt_norm.weight\n", "transformer_blocks.0.img_mod."), _OTHER_MODEL),
    Foreign("a Wan checkpoint", ("head.modulation\n",), _OTHER_MODEL),
    Foreign("a HiDream checkpoint", ("caption_projection.0.linear.",), _OTHER_MODEL),
    Foreign("a Cosmos checkpoint", ("blocks.block0.blocks.0.", "blocks.0.mlp.layer1."), _OTHER_MODEL),
    Foreign(
        "one part of a model in diffusers' layout",
        ("\ndown_blocks.0.", "\nunet.down_blocks.0.", "\nencoder.down_blocks.0."),
        "download the single-file version, or convert the folder with diffusers",
    ),
)
"""Models that this version cannot run."""
