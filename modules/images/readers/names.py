"""What other programs call samplers and schedules, in A1111's words.

Names that are A1111's already, and those that nobody here has, pass as they are: the request is judged later, and by a message
that names what there is.
"""

from __future__ import annotations

_SAMPLERS = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "euler_a": "Euler a",
    "euler_cfg_pp": "Euler CFG++",
    "euler_ancestral_cfg_pp": "Euler a CFG++",
    "heun": "Heun",
    "heunpp2": "HeunPP2",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "kdpm_2": "DPM2",
    "kdpm_2_a": "DPM2 a",
    "dpm2": "DPM2",
    "dpm2_a": "DPM2 a",
    "lms": "LMS",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "dpmpp_2s": "DPM++ 2S a",
    "dpmpp_2s_a": "DPM++ 2S a",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_2s_ancestral_cfg_pp": "DPM++ 2S a CFG++",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_cfg_pp": "DPM++ 2M CFG++",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "ddpm": "DDPM",
    "ddim": "DDIM",
    "ddim_v3": "DDIM",
    "lcm": "LCM",
    "ipndm": "IPNDM",
    "ipndm_v": "IPNDM_V",
    "deis": "DEIS",
    "plms": "PLMS",
    "pndm": "PLMS",
    "uni_pc": "UniPC",
    "uni_pc_bh2": "UniPC bh2",
    "unipc": "UniPC",
    "restart": "Restart",
    "res_multistep": "RES multistep",
    "res_multistep_ancestral": "RES multistep a",
    "res_multistep_cfg_pp": "RES multistep CFG++",
    "res_multistep_ancestral_cfg_pp": "RES multistep a CFG++",
    "gradient_estimation": "Gradient estimation",
    "gradient_estimation_cfg_pp": "Gradient estimation CFG++",
    "er_sde": "ER SDE",
    "seeds_2": "SEEDS 2",
    "seeds_3": "SEEDS 3",
    "sa_solver": "SA-Solver",
}
"""ComfyUI's names, which Fooocus and SwarmUI share, InvokeAI's, and those of k-diffusion and NovelAI without their "k_"."""

_SCHEDULES = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "polyexponential": "Polyexponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
    "linear_quadratic": "Linear Quadratic",
    "kl_optimal": "KL Optimal",
    "turbo": "Turbo",
    "align_your_steps": "Align Your Steps",
    "ays": "Align Your Steps",
    "gits": "Align Your Steps GITS",
    "native": "Uniform",
    "uniform": "Uniform",
}


def sampler(name: str) -> tuple[str, str]:
    """A1111's sampler and, where the name holds one, schedule.

    >>> sampler("dpmpp_2m_sde_gpu"), sampler("dpmpp_2m_k"), sampler("k_euler_ancestral"), sampler("Euler a")
    (('DPM++ 2M SDE', ''), ('DPM++ 2M', 'Karras'), ('Euler a', ''), ('Euler a', ''))
    """
    bare = name.strip().casefold().removeprefix("k_").removesuffix("_gpu")
    if bare in _SAMPLERS:
        return _SAMPLERS[bare], ""
    if (short := bare.removesuffix("_k")) != bare and short in _SAMPLERS:
        return _SAMPLERS[short], "Karras"
    return name.strip(), ""


def is_singlestep(name: str) -> bool:
    """Whether it is diffusers' single-step DPM-Solver++, which is "DPM++ 2S a" without its noise.

    >>> is_singlestep("dpmpp_2s_k"), is_singlestep("dpmpp_2s_ancestral")
    (True, False)
    """
    return name.strip().casefold().removeprefix("k_").removesuffix("_k") == "dpmpp_2s"


def schedule(name: str) -> str:
    """A1111's schedule of that name.

    >>> schedule("sgm_uniform"), schedule("Karras")
    ('SGM Uniform', 'Karras')
    """
    return _SCHEDULES.get(name.strip().casefold(), name.strip())
