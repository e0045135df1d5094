"""A1111's options by name: defaults, types, and what each of them means for a picture that is painted here.

Three kinds.  Some set a field of our request (`PICTURE`; its declaration names the option).  Some change A1111's picture and
are not built here (`UNBUILT`): they are kept, and a call for which one would matter is refused or, where only faces, seams or
precision differ, answered with a note.  The rest concern its page, its files and its console (`KEPT`): each caller's values are
kept and sent back, and nothing else happens.  `SERVER` options are never set by a caller; their defaults may be sent.

Facts: AUTOMATIC1111 v1.10.1, `modules/shared_options.py` and the settings of its built-in extensions (Lora, canvas-zoom,
hypertile, extra options); the last lines of `UNBUILT` and `KEPT` are options of older versions that clients still send.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from modules.api.a1111.option_calls import (
    Call,
    always,
    brownian,
    emphasised,
    image,
    k_diffusion,
    karras,
    long,
    masked,
    old_emphasis,
    second_order,
    several,
    uneven,
    uni_pc,
)
from modules.api.a1111.option_values import Read, choice, clip_skip, name, real, switch, text, texts, whole
from modules.fields import about, bounds_of, kind_of, shortest
from modules.request import Img2Img

CHECKPOINT = "sd_model_checkpoint"
CHECKPOINT_HASH = "sd_checkpoint_hash"
ZERO_SNR = "Zero Terminal SNR"


@dataclass(frozen=True)
class Unbuilt:
    """What an option away from its default does in A1111 and does not do here.

    `matters` says for which calls.  Those are refused, unless `noted`: then the picture is painted and `what` is said.
    `same`: further values that mean what the default means.
    """

    what: str
    matters: Callable[[Call], bool] = always
    noted: bool = False
    same: tuple[Any, ...] = ()


@dataclass(frozen=True)
class A1111Option:
    """`field` is the request's field that it sets, "" for none; `meaning` turns its value into the field's."""

    default: Any
    read: Read
    field: str = ""
    meaning: Callable[[Any], Any] = lambda value: value
    unbuilt: Unbuilt | None = None


def _of_field(field: str) -> A1111Option:
    """An option that means what the request's field means, with the field's own default, kind and bounds."""
    default, kind, bounds = Img2Img.model_fields[field].default, kind_of(Img2Img, field), bounds_of(Img2Img, field)
    if kind is bool:
        return A1111Option(default, switch, field)
    if get_origin(kind) is Literal:
        return A1111Option(default, choice(*get_args(kind)), field)
    low, high = shortest(bounds.ge or 0), shortest(bounds.le or 0)
    return A1111Option(default, whole(int(low), int(high)) if kind is int else real(low, high), field)


PICTURE: dict[str, A1111Option] = {
    CHECKPOINT: A1111Option("", name),
    "sd_vae": A1111Option("Automatic", text("Automatic"), "vae", lambda value: "Automatic" if value in ("", "auto") else value),
    "samples_format": A1111Option("png", choice("png", "jpg", "jpeg", "webp", "avif")),
    "jpeg_quality": A1111Option(80, whole(1, 100)),
    "webp_lossless": A1111Option(False, switch),
    "return_grid": A1111Option(True, switch),
    "eta_ancestral": A1111Option(1.0, real(0, 1)),
    "eta_ddim": A1111Option(0.0, real(0, 1)),
    **{one.a1111_option: _of_field(field) for field, one in about(Img2Img).items() if one.a1111_option},
    # those that say it in another way than the field
    "sd_hypernetwork": A1111Option("None", text("None")),
    "sd_lora": A1111Option("None", text("None")),
    "extra_networks_default_multiplier": A1111Option(1.0, real(0, 2)),
    "CLIP_stop_at_last_layers": A1111Option(1, clip_skip, "clip_skip"),
    "enable_pnginfo": A1111Option(True, switch, "private", lambda value: not value),
    "sd_noise_schedule": A1111Option("Default", choice("Default", ZERO_SNR), "zero_snr", lambda value: value == ZERO_SNR),
}


def _unbuilt(
    default: Any, read: Read, what: str, matters: Callable[[Call], bool] = always, same: tuple[Any, ...] = ()
) -> A1111Option:
    return A1111Option(default, read, unbuilt=Unbuilt(what, matters, same=same))


def _noted(
    default: Any, read: Read, what: str, matters: Callable[[Call], bool] = always, same: tuple[Any, ...] = ()
) -> A1111Option:
    return A1111Option(default, read, unbuilt=Unbuilt(what, matters, noted=True, same=same))


_NO_UNET = "there are no U-Net files here; the checkpoint's own was used"

UNBUILT: dict[str, A1111Option] = {
    # the picture is another one
    "comma_padding_backtrack": _unbuilt(20, whole(0, 74), "a prompt of more than 75 tokens is cut with 20", long),
    "pad_cond_uncond": _unbuilt(False, switch, "prompts of unequal length are not padded", uneven),
    "pad_cond_uncond_v0": _unbuilt(False, switch, "prompts of unequal length are not padded", uneven),
    "enable_quantization": _unbuilt(False, switch, "noise levels are not quantised", k_diffusion),
    "enable_batch_seeds": _unbuilt(True, switch, "each picture of a batch has a seed of its own", several),
    "overlay_inpaint": _unbuilt(True, switch, "what is not repainted always comes from the source", masked),
    "img2img_background_color": _unbuilt(
        "#ffffff", text("#ffffff"), "transparent parts of a source are filled with white", image, ("#fff", "#FFFFFF", "white")
    ),
    "upscaler_for_img2img": _unbuilt(
        "None", text("None"), "sources are resized by Lanczos", image, ("", "none", "Lanczos", "lanczos")
    ),
    "token_merging_ratio": _unbuilt(0.0, real(0, 0.9), "token merging is not built"),
    "token_merging_ratio_img2img": _unbuilt(0.0, real(0, 0.9), "token merging is not built", image),
    "hypertile_enable_unet": _unbuilt(False, switch, "Hypertile is not built"),
    "hypertile_enable_vae": _unbuilt(False, switch, "Hypertile is not built"),
    "use_old_emphasis_implementation": _unbuilt(False, switch, "the emphasis of 2022 is not built", old_emphasis),
    "use_old_karras_scheduler_sigmas": _unbuilt(False, switch, "Karras runs between the model's own noise levels", karras),
    "no_dpmpp_sde_batch_determinism": _unbuilt(False, switch, "SDE samplers depend on the seed alone", brownian),
    "dont_fix_second_order_samplers_schedule": _unbuilt(False, switch, "prompt editing counts evaluations", second_order),
    "use_downcasted_alpha_bar": _unbuilt(False, switch, "the noise schedule is never rounded to float16"),
    "uni_pc_variant": _unbuilt("bh1", choice("bh1", "bh2", "vary_coeff"), "UniPC is bh1", uni_pc),
    "uni_pc_skip_type": _unbuilt(
        "time_uniform", choice("time_uniform", "time_quadratic", "logSNR"), "UniPC's steps are uniform in time", uni_pc
    ),
    "uni_pc_order": _unbuilt(3, whole(1, 50), "UniPC is of order 3", uni_pc),
    "uni_pc_lower_order_final": _unbuilt(True, switch, "UniPC ends with a lower order", uni_pc),
    # the picture is painted without it, and that is said
    "tiling": _noted(False, switch, "seamless tiling is not built"),
    "face_restoration": _noted(False, switch, "face restoration is not built"),
    "sd_unet": _noted("Automatic", text("Automatic"), _NO_UNET, same=("None", "none", "automatic", "")),
    "upcast_attn": _noted(False, switch, "attention runs in the precision that was chosen for the device"),
    "fp8_storage": _noted(
        "Disable", choice("Disable", "Enable for SDXL", "Enable"), "weights keep their precision", same=("Enable for SDXL",)
    ),
    "samples_save": _noted(True, switch, "every picture is kept in the outputs folder"),
    "return_mask": _noted(False, switch, "masks are not returned", masked),
    "return_mask_composite": _noted(False, switch, "masks are not returned", masked),
    # of versions before 1.9
    "enable_emphasis": _unbuilt(True, switch, "emphasis is switched off by the option emphasis, 'None'", emphasised),
    "k_sched_type": _unbuilt("Automatic", text("Automatic"), "the schedule is chosen by the field scheduler", k_diffusion),
}


def _kept(default: Any, low: float = 0, high: float = 1_000_000) -> A1111Option:
    """An option without effect; `low` and `high` bound numbers."""
    if isinstance(default, bool):
        return A1111Option(default, switch)
    if isinstance(default, int):
        return A1111Option(default, whole(int(low), int(high)))
    if isinstance(default, float):
        return A1111Option(default, real(low, high))
    return A1111Option(default, texts if isinstance(default, list) else text(default))


KEPT: dict[str, A1111Option] = {
    # saving
    **{option: _kept(True) for option in ("save_images_add_number", "grid_only_if_multiple", "export_for_4chan")},
    **{option: _kept(True) for option in ("use_original_name_batch", "save_selected_only", "save_write_log_csv")},
    **{option: _kept(False) for option in ("grid_save", "grid_extended_filename", "grid_prevent_empty_spots", "save_txt")},
    **{option: _kept(False) for option in ("save_images_before_face_restoration", "save_images_before_highres_fix")},
    **{option: _kept(False) for option in ("save_images_before_color_correction", "save_mask", "save_mask_composite")},
    **{option: _kept(False) for option in ("use_upscaler_name_as_suffix", "save_init_img", "save_incomplete_images")},
    "save_images_replace_action": _kept("Replace"),
    "grid_format": _kept("png"),
    "n_rows": _kept(-1, -1, 16),
    "grid_text_active_color": _kept("#000000"),
    "grid_text_inactive_color": _kept("#999999"),
    "grid_background_color": _kept("#ffffff"),
    "img_downscale_threshold": _kept(4.0),
    "target_side_length": _kept(4000),
    "img_max_size_mp": _kept(200),
    "notification_audio": _kept(True),
    "notification_volume": _kept(100, 0, 100),
    # upscaling, faces
    **{option: _kept(192) for option in ("ESRGAN_tile", "DAT_tile", "SWIN_tile")},
    **{option: _kept(8) for option in ("ESRGAN_tile_overlap", "DAT_tile_overlap", "SWIN_tile_overlap", "SCUNET_tile_overlap")},
    "SCUNET_tile": _kept(256),
    "SWIN_torch_compile": _kept(False),
    "ldsr_steps": _kept(100),
    "ldsr_cached": _kept(False),
    "realesrgan_enabled_models": _kept(["R-ESRGAN 4x+", "R-ESRGAN 4x+ Anime6B"]),
    "dat_enabled_models": _kept(["DAT x2", "DAT x3", "DAT x4"]),
    "set_scale_by_when_changing_upscaler": _kept(False),
    "face_restoration_model": _kept("CodeFormer"),
    "code_former_weight": _kept(0.5, 0, 1),
    "face_restoration_unload": _kept(False),
    # console
    **{option: _kept(False) for option in ("enable_console_prompts", "show_warnings", "samples_log_stdout")},
    **{option: _kept(False) for option in ("print_hypernet_extra", "dump_stacks_on_signal", "profiling_enable")},
    **{option: _kept(True) for option in ("show_gradio_deprecation_warnings", "multiple_tqdm", "enable_upscale_progressbar")},
    **{option: _kept(True) for option in ("list_hidden_files", "hide_ldm_prints", "profiling_record_shapes")},
    **{option: _kept(True) for option in ("profiling_profile_memory", "profiling_with_stack")},
    "profiling_activities": _kept(["CPU"]),
    "disable_mmap_load_safetensors": _kept(False),
    "memmon_poll_rate": _kept(8, 0, 40),
    # training
    **{option: _kept(False) for option in ("unload_models_when_training", "pin_memory", "save_optimizer_state")},
    **{option: _kept(False) for option in ("training_xattention_optimizations", "training_enable_tensorboard")},
    "training_tensorboard_save_images": _kept(False),
    "save_training_settings_to_txt": _kept(True),
    "dataset_filename_word_regex": _kept(""),
    "dataset_filename_join_string": _kept(" "),
    "training_image_repeats_per_epoch": _kept(1),
    "training_write_csv_every": _kept(500),
    "training_tensorboard_flush_every": _kept(120),
    # models in memory; SDXL, SD 3 and hires pass, which are refused by other names
    "sd_checkpoints_limit": _kept(1, 1, 10),
    "sd_checkpoints_keep_in_cpu": _kept(True),
    "sd_checkpoint_cache": _kept(0, 0, 10),
    "sd_vae_checkpoint_cache": _kept(0, 0, 10),
    "sd_vae_overrides_per_model_preferences": _kept(True),
    "auto_vae_precision_bfloat16": _kept(False),
    "auto_vae_precision": _kept(True),
    "cross_attention_optimization": _kept("Automatic"),
    "persistent_cond_cache": _kept(True),
    "batch_cond_uncond": _kept(True),
    "cache_fp16_weight": _kept(False),
    "sdxl_clip_l_skip": _kept(False),
    "sd3_enable_t5": _kept(False),
    "token_merging_ratio_hr": _kept(0.0, 0, 0.9),
    "use_old_hires_fix_width_height": _kept(False),
    "hires_fix_use_firstpass_conds": _kept(False),
    "auto_backcompat": _kept(True),
    "ddim_discretize": _kept("uniform"),  # since 1.6 nothing in A1111 reads it
    **{f"hypertile_max_depth_{part}": _kept(3, 0, 3) for part in ("unet", "vae")},
    **{f"hypertile_swap_size_{part}": _kept(3, 0, 64) for part in ("unet", "vae")},
    "hypertile_max_tile_unet": _kept(256, 0, 512),
    "hypertile_max_tile_vae": _kept(128, 0, 512),
    "hypertile_enable_unet_secondpass": _kept(False),
    # the img2img page
    "img2img_editor_height": _kept(720, 80, 1600),
    "img2img_sketch_default_brush_color": _kept("#ffffff"),
    "img2img_inpaint_mask_brush_color": _kept("#ffffff"),
    "img2img_inpaint_sketch_default_brush_color": _kept("#ffffff"),
    "img2img_inpaint_mask_high_contrast": _kept(True),
    "img2img_batch_show_results_limit": _kept(32, -1, 1000),
    "img2img_autosize": _kept(False),
    "img2img_batch_use_original_name": _kept(False),
    # interrogation
    "interrogate_keep_models_in_memory": _kept(False),
    "interrogate_return_ranks": _kept(False),
    "interrogate_clip_num_beams": _kept(1, 1, 16),
    "interrogate_clip_min_length": _kept(24, 1, 128),
    "interrogate_clip_max_length": _kept(48, 1, 256),
    "interrogate_clip_dict_limit": _kept(1500),
    "interrogate_clip_skip_categories": _kept([]),
    "interrogate_deepbooru_score_threshold": _kept(0.5, 0, 1),
    **{option: _kept(True) for option in ("deepbooru_sort_alpha", "deepbooru_use_spaces", "deepbooru_escape")},
    "deepbooru_filter_tags": _kept(""),
    # cards of extra networks
    "extra_networks_show_hidden_directories": _kept(True),
    "extra_networks_dir_button_function": _kept(False),
    "extra_networks_hidden_models": _kept("When searched"),
    "extra_networks_card_width": _kept(0),
    "extra_networks_card_height": _kept(0),
    "extra_networks_card_text_scale": _kept(1.0, 0, 2),
    "extra_networks_card_show_desc": _kept(True),
    "extra_networks_card_description_is_html": _kept(False),
    "extra_networks_card_order_field": _kept("Path"),
    "extra_networks_card_order": _kept("Ascending"),
    "extra_networks_tree_view_style": _kept("Dirs"),
    "extra_networks_tree_view_default_enabled": _kept(True),
    "extra_networks_tree_view_default_width": _kept(180),
    "extra_networks_add_text_separator": _kept(" "),
    "ui_extra_networks_tab_reorder": _kept(""),
    "textual_inversion_print_at_load": _kept(False),
    "textual_inversion_add_hashes_to_infotext": _kept(True),
    "lora_preferred_name": _kept("Alias from file"),
    **{option: _kept(True) for option in ("lora_add_hashes_to_infotext", "lora_bundled_ti_to_infotext")},
    **{option: _kept(False) for option in ("lora_show_all", "lora_functional", "lora_not_found_warning_console")},
    "lora_not_found_gradio_warning": _kept(False),
    "lora_hide_unknown_for_versions": _kept([]),
    "lora_in_memory_limit": _kept(0),
    # the page
    "keyedit_precision_attention": _kept(0.1, 0.01, 0.2),
    "keyedit_precision_extra": _kept(0.05, 0.01, 0.2),
    "keyedit_delimiters": _kept(r".,\/!?%^*;:{}=`~() "),
    "keyedit_delimiters_whitespace": _kept(["Tab", "Carriage Return", "Line Feed"]),
    **{option: _kept(True) for option in ("keyedit_move", "include_styles_into_token_counters", "js_modal_lightbox")},
    **{option: _kept(True) for option in ("js_modal_lightbox_initially_zoomed", "samplers_in_dropdown")},
    **{
        option: _kept(True) for option in ("dimensions_and_batch_together", "interrupt_after_current", "send_seed", "send_size")
    },
    **{option: _kept(True) for option in ("show_progress_in_title", "gradio_themes_cache")},
    **{option: _kept(False) for option in ("disable_token_counters", "do_not_show_images", "js_modal_lightbox_gamepad")},
    **{option: _kept(False) for option in ("hires_button_gallery_insert", "compact_prompt_box", "enable_reloading_ui_scripts")},
    **{option: _kept(False) for option in ("sd_checkpoint_dropdown_use_short", "hires_fix_show_sampler")},
    **{
        option: _kept(False)
        for option in ("hires_fix_show_prompts", "txt2img_settings_accordion", "img2img_settings_accordion")
    },
    "js_modal_lightbox_gamepad_repeat": _kept(250),
    "sd_webui_modal_lightbox_icon_opacity": _kept(1.0, 0, 1),
    "sd_webui_modal_lightbox_toolbar_opacity": _kept(0.9, 0, 1),
    "gallery_height": _kept(""),
    "open_dir_button_choice": _kept("Subdirectory"),
    "quicksettings_list": _kept([CHECKPOINT]),
    **{option: _kept([]) for option in ("ui_tab_order", "hidden_tabs", "ui_reorder_list", "hide_samplers")},
    **{option: _kept([]) for option in ("extra_options_txt2img", "extra_options_img2img")},
    "extra_options_cols": _kept(1, 1, 20),
    "extra_options_accordion": _kept(False),
    "canvas_hotkey_zoom": _kept("Alt"),
    "canvas_hotkey_adjust": _kept("Ctrl"),
    "canvas_hotkey_shrink_brush": _kept("Q"),
    "canvas_hotkey_grow_brush": _kept("W"),
    "canvas_hotkey_move": _kept("F"),
    "canvas_hotkey_fullscreen": _kept("S"),
    "canvas_hotkey_reset": _kept("R"),
    "canvas_hotkey_overlap": _kept("O"),
    "canvas_show_tooltip": _kept(True),
    "canvas_auto_expand": _kept(True),
    "canvas_blur_prompt": _kept(False),
    "canvas_disabled_functions": _kept(["Overlap"]),
    # infotext
    **{f"add_{what}_to_info": _kept(True) for what in ("model_name", "model_hash", "vae_name", "vae_hash")},
    "add_user_name_to_info": _kept(False),
    "add_version_to_infotext": _kept(True),
    "disable_weights_auto_swap": _kept(True),
    "infotext_skip_pasting": _kept([]),
    "infotext_styles": _kept("Apply if any"),
    # previews
    **{option: _kept(True) for option in ("show_progressbar", "live_previews_enable", "show_progress_grid")},
    **{option: _kept(False) for option in ("live_preview_allow_lowvram_full", "live_preview_fast_interrupt")},
    "live_previews_image_format": _kept("png"),
    "show_progress_every_n_steps": _kept(10, -1, 32),
    "show_progress_type": _kept("Approx NN"),
    "live_preview_content": _kept("Prompt"),
    "live_preview_refresh_period": _kept(1000),
    "js_live_preview_in_modal_lightbox": _kept(False),
    "prevent_screen_sleep_during_generation": _kept(True),
    # extras
    **{f"postprocessing_{what}": _kept([]) for what in ("enable_in_main_ui", "disable_in_extras", "operation_order")},
    "upscaling_max_images_in_cache": _kept(5, 0, 10),
    "postprocessing_existing_caption_action": _kept("Ignore"),
    # of versions before 1.9
    "filter_nsfw": _kept(False),
    "sd_vae_as_default": _kept(True),
    "quicksettings": _kept(CHECKPOINT),
    "ui_reorder": _kept(""),
    "extra_networks_default_view": _kept("cards"),
    "lora_apply_to_outputs": _kept(False),
}

SERVER: dict[str, Any] = {
    **dict.fromkeys(("outdir_samples", "outdir_grids", "temp_dir", "font", "api_useragent", "restore_config_state_file"), ""),
    **dict.fromkeys(("samples_filename_pattern", "grid_zip_filename_pattern"), ""),
    "outdir_txt2img_samples": "outputs/txt2img-images",
    "outdir_img2img_samples": "outputs/img2img-images",
    "outdir_extras_samples": "outputs/extras-images",
    "outdir_txt2img_grids": "outputs/txt2img-grids",
    "outdir_img2img_grids": "outputs/img2img-grids",
    "outdir_save": "log/images",
    "outdir_init_images": "outputs/init-images",
    **dict.fromkeys(("save_to_dirs", "grid_save_to_dirs", "api_enable_requests", "api_forbid_local_requests"), True),
    **dict.fromkeys(("use_save_to_dirs_for_ui", "clean_temp_dir_at_start"), False),
    "directories_filename_pattern": "[date]",
    "directories_max_prompt_words": 8,
    "auto_launch_browser": "Local",
    "profiling_filename": "trace.json",
    "localization": "None",
    "gradio_theme": "Default",
    "disabled_extensions": [],
    "disable_all_extensions": "none",
}
"""Files, folders and how the server is run, with A1111's defaults."""

EXPLANATIONS = frozenset(
    {f"{part}_explanation" for part in ("sd_vae", "infotext", "profiling", "hypertile")} | {"settings_in_ui"}
)
"""Paragraphs of A1111's settings page that stand among its options; setting them does nothing there either."""

OPTIONS: dict[str, A1111Option] = {**PICTURE, **UNBUILT, **KEPT}
"""What may be set, by A1111's names."""
