"""Gradio's theme variables, mapped to the design tokens of `static/atelier.css`, where every colour and size is decided once.

Fonts are served from here, so the page needs no other host.
"""

from __future__ import annotations

from modules.ui.gradio import gr


def theme() -> gr.themes.Base:
    sans = [gr.themes.Font("Instrument Sans"), "system-ui", "sans-serif"]
    mono = [gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace"]
    base = gr.themes.Base(
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_sm,
        font=sans,
        font_mono=mono,
    )
    light = {
        "body_background_fill": "var(--paper)",
        "body_text_color": "var(--ink)",
        "body_text_color_subdued": "var(--ink-soft)",
        "background_fill_primary": "var(--surface)",
        "background_fill_secondary": "var(--paper)",
        "border_color_primary": "var(--rule)",
        "border_color_accent": "var(--accent)",
        "color_accent": "var(--accent)",
        "color_accent_soft": "var(--accent-soft)",
        "block_background_fill": "transparent",
        "block_border_width": "0px",
        "block_shadow": "none",
        "block_padding": "0px",
        "block_label_background_fill": "transparent",
        "block_title_text_color": "var(--ink-soft)",
        "block_title_text_size": "0.75rem",
        "block_title_text_weight": "600",
        "block_title_background_fill": "transparent",
        "block_title_padding": "0px",
        "block_info_text_color": "var(--ink-soft)",
        "form_gap_width": "0px",
        "layout_gap": "14px",
        "panel_background_fill": "transparent",
        "panel_border_width": "0px",
        "input_background_fill": "var(--surface)",
        "input_background_fill_focus": "var(--surface)",
        "input_border_color": "var(--rule)",
        "input_border_color_focus": "var(--accent)",
        "input_border_width": "1px",
        "input_radius": "var(--corner)",
        "input_shadow": "none",
        "input_shadow_focus": "0 0 0 3px var(--accent-soft)",
        "input_placeholder_color": "var(--ink-faint)",
        "input_padding": "8px 10px",
        "input_text_size": "0.875rem",
        "slider_color": "var(--accent)",
        "loader_color": "var(--accent)",
        "error_background_fill": "var(--bad-soft)",
        "error_border_color": "var(--bad)",
        "error_text_color": "var(--bad)",
        "button_border_width": "1px",
        "button_transition": "background-color 120ms, border-color 120ms, color 120ms",
        "button_large_radius": "var(--corner)",
        "button_small_radius": "var(--corner)",
        "button_primary_background_fill": "var(--accent)",
        "button_primary_background_fill_hover": "var(--accent-strong)",
        "button_primary_border_color": "transparent",
        "button_primary_border_color_hover": "transparent",
        "button_primary_text_color": "var(--on-accent)",
        "button_primary_text_color_hover": "var(--on-accent)",
        "button_primary_shadow": "none",
        "button_secondary_background_fill": "var(--surface)",
        "button_secondary_background_fill_hover": "var(--paper)",
        "button_secondary_border_color": "var(--rule)",
        "button_secondary_border_color_hover": "var(--ink-faint)",
        "button_secondary_text_color": "var(--ink)",
        "button_secondary_text_color_hover": "var(--ink)",
        "button_secondary_shadow": "none",
    }
    # The tokens change with the page's mode by themselves, so both modes get the same references.
    names = set(gr.themes.Base.set.__annotations__) | set(gr.themes.Base.set.__code__.co_varnames)
    dark = {f"{name}_dark": value for name, value in light.items() if f"{name}_dark" in names}
    return base.set(**light, **dark)
