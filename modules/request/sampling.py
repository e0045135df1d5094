"""The options of noise, sampler and schedule, declared once each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from modules.fields import About
from modules.request.kinds import MAX_SEED, MAX_SIDE, Integer, Real


class NoiseOptions(BaseModel):
    """Where an image's noise comes from.

    `rng` is A1111's random number source; `variation_strength` turns the noise towards that of `variation_seed`, which image k
    raises by k instead of the seed; `seed_resize_width` x `seed_resize_height` (pixels, 0: off) is the size whose noise is put
    into the middle; `ensd` is the eta noise seed delta.
    """

    rng: Annotated[
        Literal["CPU", "GPU", "NV"],
        About(
            "Noise source",
            "CPU paints the same everywhere; GPU and NV paint what A1111 does",
            group="Noise",
            position=-2,
            infotext="RNG",
            section="own",
            a1111_option="randn_source",
        ),
    ] = "CPU"
    variation_seed: Annotated[
        Integer,
        Field(ge=-1, le=MAX_SEED),
        About(
            "Variation seed",
            "the seed towards which the noise is turned; -1 for a random one",
            group="Noise",
            infotext="Variation seed",
            section="own",
            a1111="subseed",
            needs=("variation_strength",),
        ),
    ] = -1
    variation_strength: Annotated[
        Real,
        Field(ge=0.0, le=1.0),
        About(
            "Variation strength",
            "how far it is turned, 0 to 1",
            group="Noise",
            infotext="Variation seed strength",
            section="own",
            a1111="subseed_strength",
        ),
    ] = 0.0
    seed_resize_width: Annotated[
        Integer,
        Field(ge=0, le=MAX_SIDE),
        About(
            "Seed from width",
            "width of the picture whose composition this seed has; 0 is off",
            group="Noise",
            infotext="Seed resize from-1",
            section="own",
            a1111="seed_resize_from_w",
        ),
    ] = 0
    seed_resize_height: Annotated[
        Integer,
        Field(ge=0, le=MAX_SIDE),
        About(
            "Seed from height",
            "height of that picture; 0 is off",
            group="Noise",
            infotext="Seed resize from-2",
            section="own",
            a1111="seed_resize_from_h",
        ),
    ] = 0
    ensd: Annotated[
        Integer,
        Field(ge=0, le=MAX_SEED),
        About(
            "Noise seed delta",
            "added to the seed of noise that comes in later (ENSD); 31337 in NovelAI's recipes",
            group="Noise",
            position=-1,
            infotext="ENSD",
            section="own",
            a1111_option="eta_noise_seed_delta",
        ),
    ] = 0


class SamplerOptions(BaseModel):
    """What may be bent in a sampler and its schedule; 0 (for `eta` None) leaves the sampler's or schedule's own value.

    An `s_tmax` of 0 means no upper limit.  `zero_snr` stretches the noise levels to zero terminal signal-to-noise ratio,
    `ignore_zero_snr` leaves them as they are where the checkpoint's file asks for it and the request does not, and `prediction`
    says what the network predicts, the noise or v, where its file does not say it or says it wrong.  With `exact_steps` UniPC
    runs `steps` steps from words, where A1111 runs more for most numbers.
    """

    eta: Annotated[
        Annotated[Real, Field(ge=0.0, le=1.0)] | None,
        About(
            "Eta",
            "noise that comes in at each step, 0 to 1; each sampler has its own",
            group="Sampler",
            position=-2,
            infotext=("Eta", "Eta DDIM"),
            infotext_position=13,
            a1111="eta",
        ),
    ] = None
    s_churn: Annotated[
        Real,
        Field(ge=0.0, le=100.0),
        About(
            "Churn",
            "noise added before steps, 0 to 100",
            group="Sampler",
            infotext="Sigma churn",
            infotext_position=14,
            a1111="s_churn",
            a1111_option="s_churn",
        ),
    ] = 0.0
    s_tmin: Annotated[
        Real,
        Field(ge=0.0, le=1000.0),
        About(
            "Churn from",
            "lowest noise level at which there is churn",
            group="Sampler",
            infotext="Sigma tmin",
            infotext_position=15,
            a1111="s_tmin",
            a1111_option="s_tmin",
        ),
    ] = 0.0
    s_tmax: Annotated[
        Real,
        Field(ge=0.0, le=1000.0),
        About(
            "Churn up to",
            "highest noise level at which there is churn; 0 is no limit",
            group="Sampler",
            infotext="Sigma tmax",
            infotext_position=16,
            a1111="s_tmax",
            a1111_option="s_tmax",
        ),
    ] = 0.0
    s_noise: Annotated[
        Real,
        Field(ge=0.0, le=2.0),
        About(
            "Noise scale",
            "what that noise is multiplied by, 0 to 2",
            group="Sampler",
            position=-1,
            infotext="Sigma noise",
            infotext_position=17,
            a1111="s_noise",
            a1111_option="s_noise",
        ),
    ] = 1.0
    discard_penultimate: Annotated[
        bool,
        About(
            "Leave out the last step but one",
            "its noise level is skipped",
            group="Sampler",
            infotext="Discard penultimate sigma",
            infotext_position=5,
            a1111_option="always_discard_next_to_last_sigma",
        ),
    ] = False
    exact_steps: Annotated[
        bool,
        About(
            "Exact steps",
            "as many as asked for with UniPC, not 31 for 30 as A1111",
            group="Sampler",
            infotext="Exact steps",
            infotext_position=102,
        ),
    ] = False
    sigma_min: Annotated[
        Real,
        Field(ge=0.0, le=100.0),
        About(
            "Sigma min",
            "the lowest noise level; 0 is the schedule's own",
            group="Schedule",
            infotext="Schedule min sigma",
            infotext_position=6,
            a1111_option="sigma_min",
        ),
    ] = 0.0
    sigma_max: Annotated[
        Real,
        Field(ge=0.0, le=10_000.0),
        About(
            "Sigma max",
            "the highest noise level; 0 is the schedule's own",
            group="Schedule",
            infotext="Schedule max sigma",
            infotext_position=7,
            a1111_option="sigma_max",
        ),
    ] = 0.0
    rho: Annotated[
        Real,
        Field(ge=0.0, le=100.0),
        About(
            "Rho",
            "how much more steps there are at low noise; 0 is the schedule's own",
            group="Schedule",
            infotext="Schedule rho",
            infotext_position=8,
            a1111_option="rho",
        ),
    ] = 0.0
    beta_alpha: Annotated[
        Real,
        Field(ge=0.01, le=10.0),
        About(
            "Beta: alpha",
            "of the schedule Beta, 0.01 to 10",
            group="Schedule",
            infotext="Beta schedule alpha",
            infotext_position=9,
            a1111_option="beta_dist_alpha",
        ),
    ] = 0.6
    beta_beta: Annotated[
        Real,
        Field(ge=0.01, le=10.0),
        About(
            "Beta: beta",
            "of the schedule Beta, 0.01 to 10",
            group="Schedule",
            infotext="Beta schedule beta",
            infotext_position=10,
            a1111_option="beta_dist_beta",
        ),
    ] = 0.6
    zero_snr: Annotated[
        bool,
        About(
            "Zero terminal SNR",
            "begin at pure noise, for networks that were trained so",
            group="Schedule",
            infotext="Noise Schedule",
            infotext_position=1,
            a1111_option="sd_noise_schedule",
        ),
    ] = False
    ignore_zero_snr: Annotated[
        bool,
        About(
            "Ignore zero terminal SNR",
            "keep the schedule's levels though the file says otherwise",
            group="Schedule",
            infotext="Ignore zero terminal SNR",
            infotext_position=2,
        ),
    ] = False
    prediction: Annotated[
        Literal["Automatic", "eps", "v"],
        About(
            "Prediction",
            "what the network predicts, if its file does not say so",
            group="Schedule",
            infotext="Prediction",
            infotext_position=3,
        ),
    ] = "Automatic"
    sgm_noise_multiplier: Annotated[
        bool,
        About(
            "SGM noise",
            "start from noise of the scale that Stability's own code has",
            group="Sampler",
            infotext="SGM noise multiplier",
            infotext_position=11,
            a1111_option="sgm_noise_multiplier",
        ),
    ] = False
