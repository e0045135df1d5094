"""The options of a request beside what everybody sets, in people's words: one table for the page and the command line.

Names are those of the fields in `modules.request`, which knows kinds, ranges and defaults; here are a label and a line of help
for each, in the groups in which they are shown.  Standard library only: the command line explains itself before anything is
installed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """A field that may be left alone.  `choices` are for those that are one of several words, `switch` marks yes or no."""

    name: str
    label: str
    help: str
    switch: bool = False
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """`s_churn` is --s-churn."""
        return "--" + self.name.replace("_", "-")


def _yes(name: str, label: str, text: str) -> Option:
    return Option(name, label, text, switch=True)


def _one_of(name: str, label: str, text: str, *choices: str) -> Option:
    return Option(name, label, text, choices=choices)


OPTIONS: dict[str, tuple[Option, ...]] = {
    "Noise": (
        _one_of("rng", "Noise source", "CPU paints the same everywhere; GPU and NV paint what A1111 does", "CPU", "GPU", "NV"),
        Option("ensd", "Noise seed delta", "added to the seed of noise that comes in later (ENSD); 31337 in NovelAI's recipes"),
        Option("variation_seed", "Variation seed", "the seed towards which the noise is turned; -1 for a random one"),
        Option("variation_strength", "Variation strength", "how far it is turned, 0 to 1"),
        Option("seed_resize_width", "Seed from width", "width of the picture whose composition this seed has; 0 is off"),
        Option("seed_resize_height", "Seed from height", "height of that picture; 0 is off"),
    ),
    "Sampler": (
        Option("eta", "Eta", "noise that comes in at each step, 0 to 1; each sampler has its own"),
        Option("s_noise", "Noise scale", "what that noise is multiplied by, 0 to 2"),
        Option("s_churn", "Churn", "noise added before steps, 0 to 100"),
        Option("s_tmin", "Churn from", "lowest noise level at which there is churn"),
        Option("s_tmax", "Churn up to", "highest noise level at which there is churn; 0 is no limit"),
        _yes("discard_penultimate", "Leave out the last step but one", "its noise level is skipped"),
        _yes("exact_steps", "Exact steps", "as many as asked for with UniPC, not 31 for 30 as A1111"),
        _yes("sgm_noise_multiplier", "SGM noise", "start from noise of the scale that Stability's own code has"),
    ),
    "Schedule": (
        Option("sigma_min", "Sigma min", "the lowest noise level; 0 is the schedule's own"),
        Option("sigma_max", "Sigma max", "the highest noise level; 0 is the schedule's own"),
        Option("rho", "Rho", "how much more steps there are at low noise; 0 is the schedule's own"),
        Option("beta_alpha", "Beta: alpha", "of the schedule Beta, 0.01 to 10"),
        Option("beta_beta", "Beta: beta", "of the schedule Beta, 0.01 to 10"),
        _yes("zero_snr", "Zero terminal SNR", "begin at pure noise, for networks that were trained so"),
        _yes("ignore_zero_snr", "Ignore zero terminal SNR", "keep the schedule's levels though the file says otherwise"),
        _one_of("prediction", "Prediction", "what the network predicts, if its file does not say so", "Automatic", "eps", "v"),
    ),
    "Guidance": (
        Option("pag_scale", "PAG scale", "away from a picture without structure, 0 to 20; 3 is usual"),
        Option("cfg_rescale", "CFG rescale", "give guidance the contrast of the prompt alone, 0 to 1; 0.7 is usual"),
        Option("sag_scale", "SAG scale", "away from a blurred picture, 0 to 5; 0.75 is usual; costs an evaluation more"),
        Option("sag_blur", "SAG blur", "how blurred, 0.1 to 10"),
        Option("skip_early_cfg", "Skip early", "part of the run that goes without the negative prompt, 0 to 1"),
        Option("ngms", "Skip at low noise", "noise level below which every other step goes without it (NGMS)"),
        _yes("ngms_all_steps", "Skip all steps at low noise", "not only every other one"),
        Option("mimic_scale", "Mimic scale", "keep the range of values of this CFG scale (dynamic thresholding); 0 is off"),
        Option("threshold_percentile", "Mimic percentile", "part of the values that set the range, 0 to 1"),
        _yes("apg", "Adaptive projected guidance", "a high CFG scale without its burnt colours (APG)"),
        Option("apg_eta", "APG eta", "how much of the burning part stays, 0 to 1"),
        Option("apg_norm", "APG norm", "longest difference that is let through; 0 is no limit"),
        Option("apg_momentum", "APG momentum", "weight of earlier steps, -1 to 1; usually negative"),
        Option("cfg_zero_steps", "Zero-init steps", "first steps that wait instead of guessing (CFG-Zero*)"),
        _yes("cfg_zero", "CFG-Zero*", "fit the negative side's length; made for flow models, a small change with SD 1.x"),
    ),
    "Prompt": (
        Option("clip_skip", "Clip skip", "n leaves out the last n - 1 layers of the text encoder, 1 to 12"),
        _one_of("emphasis", "Emphasis", "what (brackets:1.2) do", "Original", "No norm", "Ignore", "None"),
        _yes("comments", "Comments", "leave out what stands behind a #"),
        _yes("old_prompt_editing", "Old prompt editing", "read [a:b:when] as A1111 did before 1.6"),
        _yes("raw_text", "Raw text", "leave curly quotes, full-width letters and &amp; as they are, like ComfyUI"),
    ),
    "File": (_yes("private", "Private", "nothing in the picture's file says how it was made"),),
}
"""By group, in the order in which they are shown."""

FROM_PICTURES: tuple[Option, ...] = (
    _one_of(
        "resize_mode",
        "Resize mode",
        "how the picture becomes the size that is painted",
        "Just resize",
        "Crop and resize",
        "Resize and fill",
        "Just resize (latent upscale)",
    ),
    _one_of("mask_mode", "Mask mode", "which side is repainted", "Inpaint masked", "Inpaint not masked"),
    _one_of(
        "masked_content",
        "Masked content",
        "what stands there before",
        "fill",
        "original",
        "latent noise",
        "latent nothing",
        "blurred",
        "tile",
        "patches",
    ),
    _one_of("inpaint_area", "Inpaint area", "what the network sees", "Whole picture", "Only masked", "Crop and stitch"),
    Option("masked_padding", "Padding", "pixels around the mask that are seen with Only masked"),
    Option("mask_blur_x", "Mask blur, across", "pixels, 0 to 64"),
    Option("mask_blur_y", "Mask blur, down", "pixels, 0 to 64"),
    Option("outpaint_left", "Outpaint left", "pixels by which the picture grows"),
    Option("outpaint_right", "Outpaint right", "pixels by which the picture grows"),
    Option("outpaint_up", "Outpaint up", "pixels by which the picture grows"),
    Option("outpaint_down", "Outpaint down", "pixels by which the picture grows"),
    Option("noise_multiplier", "Noise multiplier", "scale of the noise that is added, 0 to 1.5"),
    Option("extra_noise", "Extra noise", "noise on top of it, 0 to 1"),
    Option("image_cfg_scale", "Image CFG scale", "guidance towards the picture, of editing models"),
    Option("conditioning_mask_strength", "Conditioning mask strength", "how much inpainting models see of the mask, 0 to 1"),
    _yes("fix_steps", "All steps", "run all steps at any strength"),
    _yes("color_correction", "Colour correction", "give the result the colours of the picture"),
    _yes("differential", "Differential", "each grey of the mask begins at its own strength"),
    _yes("soft_inpainting", "Soft inpainting", "blend by what changed, as A1111 does"),
)
"""What the command line also offers with a picture to start from; the page has controls of its own for them."""
