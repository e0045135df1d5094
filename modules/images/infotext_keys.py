"""The keys of A1111's text and the request's fields that they tell: tables that writing and reading share.

Keys that A1111 has are spelled as it spells them; what only this program knows has keys in the same style, so that other
programs show and keep them.
"""

from __future__ import annotations

PROMPT = "Prompt"
NEGATIVE = "Negative prompt"
NEGATIVE_LINE = "Negative prompt:"

A1111_RNG = "GPU"
"""The random number source that a text without "RNG" means."""
ZERO_SNR = "Zero Terminal SNR"

OPTIONS = {
    "Noise Schedule": "zero_snr",
    "Ignore zero terminal SNR": "ignore_zero_snr",
    "Prediction": "prediction",
    "Noise multiplier": "noise_multiplier",
    "Discard penultimate sigma": "discard_penultimate",
    "Schedule min sigma": "sigma_min",
    "Schedule max sigma": "sigma_max",
    "Schedule rho": "rho",
    "Beta schedule alpha": "beta_alpha",
    "Beta schedule beta": "beta_beta",
    "SGM noise multiplier": "sgm_noise_multiplier",
    "Extra noise": "extra_noise",
    "Eta": "eta",
    "Eta DDIM": "eta",
    "Sigma churn": "s_churn",
    "Sigma tmin": "s_tmin",
    "Sigma tmax": "s_tmax",
    "Sigma noise": "s_noise",
    "Skip Early CFG": "skip_early_cfg",
    "NGMS": "ngms",
    "NGMS all steps": "ngms_all_steps",
    "CFG rescale": "cfg_rescale",
    "Mimic scale": "mimic_scale",
    "Threshold percentile": "threshold_percentile",
    "APG": "apg",
    "APG eta": "apg_eta",
    "APG norm": "apg_norm",
    "APG momentum": "apg_momentum",
    "PAG scale": "pag_scale",
    "SAG scale": "sag_scale",
    "SAG blur sigma": "sag_blur",
    "CFG Zero star": "cfg_zero",
    "CFG Zero init steps": "cfg_zero_steps",
    "Raw text": "raw_text",
    "Exact steps": "exact_steps",
}
"""The request's fields by their keys, in A1111's order; the last ones are not its own, but some are known from extensions."""

SOFT_INPAINTING = {
    "Soft inpainting enabled": "soft_inpainting",
    "Soft inpainting schedule bias": "soft_bias",
    "Soft inpainting preservation strength": "soft_preservation",
    "Soft inpainting transition contrast boost": "soft_contrast_boost",
    "Soft inpainting mask influence": "soft_mask_influence",
    "Soft inpainting difference threshold": "soft_difference_threshold",
    "Soft inpainting difference contrast": "soft_difference_contrast",
}
"""A1111's script of that name; all of them are said, or none."""

INIT_HASH = "Init image hash"
"""A1111's MD5 of the source's pixels: an extra here, because nothing can be found by it."""

SOURCE = {"Source hash": "source", "Mask hash": "mask"}
"""The 64 digits under which the pictures are kept that it was painted from."""

OURS = {
    "Resize mode": "resize_mode",
    "Fix steps": "fix_steps",
    "Color correction": "color_correction",
    "Round mask": "mask_round",
    "Inpaint box": "box",
    "Differential diffusion": "differential",
    "Outpaint left": "outpaint_left",
    "Outpaint right": "outpaint_right",
    "Outpaint up": "outpaint_up",
    "Outpaint down": "outpaint_down",
}
"""What A1111 does not say of a picture from a picture, or does not have."""

MASK_WEIGHT = "Conditional mask weight"
"""Of models that see the mask.  A1111 says it of every picture of one; as an extra it means that this is one."""

MASK = {
    "Mask mode": "mask_mode",
    "Mask blur": "mask_blur_x",
    "Mask blur X": "mask_blur_x",
    "Mask blur Y": "mask_blur_y",
    "Inpaint area": "inpaint_area",
    "Masked area padding": "masked_padding",
    "Masked content": "masked_content",
}

CORE_KEYS = frozenset(
    {PROMPT, NEGATIVE, "Steps", "Sampler", "Schedule type", "CFG scale", "Image CFG scale", "Seed", "Size", "Size-1", "Size-2"}
    | {"Model hash", "Model", "Clip skip", "Version", "Variation seed", "Variation seed strength", "ENSD", "RNG"}
    | {"Seed resize from", "Seed resize from-1", "Seed resize from-2", "Denoising strength", MASK_WEIGHT}
    | OPTIONS.keys()
    | SOFT_INPAINTING.keys()
    | SOURCE.keys()
    | OURS.keys()
    | MASK.keys()
)
"""Keys that say something of the request; extras cannot take their place."""

EARLY_EXTRAS = ("Lora hashes", "Old prompt editing timelines", "TI hashes", "Emphasis")
"""Extras that A1111 says before the options of noise and sampler."""
