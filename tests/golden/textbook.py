"""Plain loops after the papers, in NumPy and double precision, for samplers that k-diffusion does not have.

Written from the equations and apart from `modules`: integrals by SciPy's quadrature, the variance-preserving form where the
paper has it, nothing shared between samplers.  `model(x, sigma)` is the denoised x, `draw()` the next unit noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.integrate import quad

Array = Any
Model = Callable[[Array, float], Array]


def alpha_bar(sigma: float) -> float:
    return 1.0 / (1.0 + sigma**2)


def eps_of(model: Model, x: Array, sigma: float) -> Array:
    return (x - model(x, sigma)) / sigma


def ddim_steps(model: Model, x: Array, s: list[float], draw: Any, eta: float, pair: bool = False) -> Array:
    """Song et al. (2021), equations 12 and 16, on y = sqrt(alpha_bar) x."""
    y = x * math.sqrt(alpha_bar(s[0]))
    for a, b in itertools.pairwise(s):
        now, then = alpha_bar(a), alpha_bar(b)
        x0 = model(y / math.sqrt(now), a)
        eps = (y - math.sqrt(now) * x0) / math.sqrt(1 - now)
        sd = eta * math.sqrt((1 - then) / (1 - now)) * math.sqrt(1 - now / then)
        y = math.sqrt(then) * x0 + math.sqrt(max(0.0, 1 - then - sd**2)) * eps
        if sd > 0:
            y = y + sd * draw()
    return y


def ddim(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    return ddim_steps(model, x, s, draw, 0.0)


def ddpm(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    """Ho et al. (2020), equations 6, 7 and 11, for a chain of these levels only."""
    y = x * math.sqrt(alpha_bar(s[0]))
    for a, b in itertools.pairwise(s):
        now, then = alpha_bar(a), alpha_bar(b)
        alpha = now / then
        x0 = model(y / math.sqrt(now), a)
        mean = math.sqrt(then) * (1 - alpha) / (1 - now) * x0 + math.sqrt(alpha) * (1 - then) / (1 - now) * y
        variance = (1 - then) / (1 - now) * (1 - alpha)
        y = mean + math.sqrt(variance) * draw() if b > 0 else mean
    return y / math.sqrt(alpha_bar(s[-1]))


def plms(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    """Liu et al. (2022), equation 12 and 13, with CompVis' start."""
    y = x * math.sqrt(alpha_bar(s[0]))
    old: list[Array] = []

    def eps(y: Array, a: float) -> Array:
        return eps_of(model, y / math.sqrt(alpha_bar(a)), a)

    def phi(y: Array, e: Array, a: float, b: float) -> Array:
        now, then = alpha_bar(a), alpha_bar(b)
        x0 = (y - math.sqrt(1 - now) * e) / math.sqrt(now)
        return math.sqrt(then) * x0 + math.sqrt(1 - then) * e

    for a, b in itertools.pairwise(s):
        e = eps(y, a)
        if not old:
            prime = (e + eps(phi(y, e, a, b), b)) / 2
        elif len(old) == 1:
            prime = (3 * e - old[-1]) / 2
        elif len(old) == 2:
            prime = (23 * e - 16 * old[-1] + 5 * old[-2]) / 12
        else:
            prime = (55 * e - 59 * old[-1] + 37 * old[-2] - 9 * old[-3]) / 24
        y = phi(y, prime, a, b)
        old.append(e)
    return y


def unipc(model: Model, x: Array, s: list[float], draw: Any, bh2: bool = False) -> Array:
    """Zhao et al. (2023), algorithms 7 and 8 of the appendix, B(h) = h or 1 - exp(-h), on y with its own alphas."""
    n = len(s) - 1
    lam = [-math.log(level) if level else math.inf for level in s]
    al = [math.sqrt(alpha_bar(level)) for level in s]
    si = [level * a for level, a in zip(s, al, strict=True)]

    def weights(ratios: list[float], h: float) -> Array:
        big = 1 - math.exp(-h) if bh2 else h
        if len(ratios) == 1:
            return np.array([0.5 * big])
        # h * phi_{k+1}(-h) * k!, by quadrature: the integral of exp(-(1 - u) h) u^k over [0, 1], times h
        right = [quad(lambda u, k=k: math.exp(-(1 - u) * h) * u**k, 0, 1)[0] for k in range(1, len(ratios) + 1)]
        # Theirs divide by B(h) and multiply by it again
        solved = np.linalg.solve(np.array([[r**k for r in ratios] for k in range(len(ratios))]), np.array(right) * h / big)
        return solved * big

    def update(y: Array, i: int, order: int, at: int, extra: Array | None) -> Array:
        """From level i to level `at` with models m[i], m[i-1], ..."""
        h = lam[at] - lam[i]
        ratios = [(lam[i - k] - lam[i]) / h for k in range(1, order)]
        d = [(m[i - k] - m[i]) / r for k, r in enumerate(ratios, 1)]
        if extra is not None:
            ratios, d = [*ratios, 1.0], [*d, extra - m[i]]
        out = si[at] / si[i] * y - al[at] * math.expm1(-h) * m[i]
        if d:
            # B(h) carries the sign of -h in the data prediction form
            out = out + al[at] * sum(w * one for w, one in zip(weights(ratios, h), d, strict=True))
        return out

    y = x * al[0]
    m = [model(x, s[0])]
    for i in range(n):
        order = min(i + 1, 3, n - i)
        predicted = update(y, i, order, i + 1, None)
        if i == n - 1:
            return predicted
        m.append(model(predicted / al[i + 1], s[i + 1]))
        y = update(y, i, order, i + 1, m[-1])
    raise AssertionError


def lcm(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    for a, b in itertools.pairwise(s):
        x = model(x, a)
        if b > 0:
            x = x + b * draw()
    return x


def restart(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    """Xu et al. (2023), algorithm 1, for 24 steps: 15 of Karras', and 9 once more from near 2 to near 0.1."""

    def spread(n: int, high: float, low: float) -> Array:
        return np.linspace(high ** (1 / 7), low ** (1 / 7), n) ** 7

    def heun(x: Array, a: float, b: float) -> Array:
        d = eps_of(model, x, a)
        if b == 0:
            return x - a * d
        return x + (b - a) * (d + eps_of(model, x + (b - a) * d, b)) / 2

    n = len(s) - 1
    if n < 20:
        for a, b in itertools.pairwise(s):
            x = heun(x, a, b)
        return x
    main = [*spread(n - 9, s[0], s[-2]), 0.0]
    high, low = (min(main, key=lambda level, to=to: abs(level - to)) for to in (2.0, 0.1))
    for a, b in itertools.pairwise(main):
        x = heun(x, a, b)
        if b == low:
            x = x + math.sqrt(high**2 - low**2) * draw()
            again = spread(10, high, low)
            for c, d in itertools.pairwise(again):
                x = heun(x, c, d)
    return x


def heunpp2(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    for i in range(len(s) - 1):
        d1 = eps_of(model, x, s[i])
        left = len(s) - 2 - i
        slopes = [d1]
        y = x
        for k in range(1, min(left, 2) + 1):
            y = y + slopes[-1] * (s[i + k] - s[i + k - 1])
            slopes.append(eps_of(model, y, s[i + k]))
        weights = [s[i + k] / (len(slopes) * s[0]) for k in range(1, len(slopes))]
        weights = [1 - sum(weights), *weights]
        x = x + (s[i + 1] - s[i]) * sum(w * d for w, d in zip(weights, slopes, strict=True))
    return x


def adams(model: Model, x: Array, s: list[float], weights: Callable[[int, int], list[float]], most: int) -> Array:
    """x + sum of weights * slopes; `weights(i, k)` of k slopes at step i."""
    slopes: list[Array] = []
    for i in range(len(s) - 1):
        x0 = model(x, s[i])
        slopes = [(x - x0) / s[i], *slopes][:most]
        if s[i + 1] == 0:
            return x0
        x = x + sum(w * d for w, d in zip(weights(i, len(slopes)), slopes, strict=True))
    return x


def ipndm(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    def weights(i: int, k: int) -> list[float]:
        """The integral over [0, 1] of the polynomial through values at 0, -1, -2, ..."""
        basis = [np.poly1d(np.polyfit([-float(m) for m in range(k)], np.eye(k)[j], k - 1)) for j in range(k)]
        return [float(np.polyint(p)(1.0)) * (s[i + 1] - s[i]) for p in basis]

    return adams(model, x, s, weights, 4)


def ipndm_v(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    """diff-sampler's published weights, term by term."""

    def weights(i: int, k: int) -> list[float]:
        a = s[i + 1] - s[i]
        if k == 1:
            return [a]
        b = s[i] - s[i - 1]
        if k == 2:
            return [a * (2 + a / b) / 2, -a * (a / b) / 2]
        c = s[i - 1] - s[i - 2]
        t = (1 - a / (3 * (a + b)) * (a * (a + b)) / (b * (b + c))) / 2
        first = [(2 + a / b) / 2 + t, -(a / b) / 2 - (1 + b / c) * t, t * b / c]
        if k == 3:
            return [a * w for w in first]
        e = s[i - 2] - s[i - 3]
        u = (1 - a / (3 * (a + b))) / 2 + (1 - a / (2 * (a + b))) * a / (6 * (a + b + c))
        u *= a * (a + b) * (a + b + c) / (b * (b + c) * (b + c + e))
        v = b * (b + c) / (c * (c + e))
        more = [u, -(1 + b / c + v) * u, (b / c + v * (1 + c / e)) * u, -u * v * b / c]
        return [a * (w + m) for w, m in zip([*first, 0.0], more, strict=True)]

    return adams(model, x, s, weights, 4)


def deis(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    """Zhang & Chen (2022), equation 15: integrals over the time of a VP process with sigma .002 at t = .001 and 80 at 1."""
    low, high = math.log(1 + 0.002**2), math.log(1 + 80.0**2)
    # log(1 + sigma^2) = beta_d t^2 / 2 + beta_min t
    beta_d, beta_min = np.linalg.solve([[0.001**2 / 2, 0.001], [0.5, 1.0]], [low, high])

    def time(sigma: float) -> float:
        return float(max(np.roots([beta_d / 2, beta_min, -math.log1p(sigma**2)]).real))

    def rate(t: float) -> float:
        """d sigma / d t."""
        grown = math.exp(beta_d * t**2 / 2 + beta_min * t)
        return grown * (beta_d * t + beta_min) / (2 * math.sqrt(grown - 1))

    def weights(i: int, k: int) -> list[float]:
        nodes = [time(s[i - m]) for m in range(k)]

        def basis(t: float, j: int) -> float:
            return float(np.prod([(t - nodes[m]) / (nodes[j] - nodes[m]) for m in range(k) if m != j]))

        return [quad(lambda t, j=j: rate(t) * basis(t, j), nodes[0], time(s[i + 1]))[0] for j in range(k)]

    return adams(model, x, s, weights, 3)


def res(model: Model, x: Array, s: list[float], draw: Any, eta: float, pair: bool) -> Array:
    """The answer is a line in lambda through the last two; its exponential integral by quadrature."""
    last: Array | None = None
    span = 0.0
    for a, b in itertools.pairwise(s):
        x0 = model(x, a)
        up = min(b, eta * b * math.sqrt(a**2 - b**2) / a)
        down = math.sqrt(b**2 - up**2)
        if down == 0 or last is None:
            x = x0 + (x - x0) * down / a
        else:
            h = math.log(a / down)

            def weigh(at_start: float, rise: float, h: float = h) -> float:
                return quad(lambda u: math.exp(-(h - u)) * (at_start + rise * u), 0, h)[0]

            x = down / a * x + weigh(1, 1 / span) * x0 + weigh(0, -1 / span) * last
        if down > 0:
            span = math.log(a / down)
        last = x0
        if up > 0:
            x = x + up * draw()
    return x


def res_multistep(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    return res(model, x, s, draw, 0.0, False)


def res_multistep_ancestral(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    return res(model, x, s, draw, 1.0, False)


def gradient_estimation(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    """Permenter & Yuan (2023), algorithm 2 with gamma 2, in their form: eps_bar = gamma eps + (1 - gamma) eps_last."""
    before: Array | None = None
    for a, b in itertools.pairwise(s):
        eps = eps_of(model, x, a)
        if b == 0:
            return x - a * eps
        bar = eps if before is None else 2 * eps - before
        x, before = x - (a - b) * bar, eps
    return x


def er_sde(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    """Cui et al. (2023), proposition 4 (VE), 200 points per integral."""

    def phi(t: Array) -> Array:
        return t * (np.exp(t**0.3) + 10)

    answers: list[Array] = []
    for i in range(len(s) - 1):
        answers.append(model(x, s[i]))
        a, b = s[i], s[i + 1]
        if b == 0:
            return answers[-1]
        r = phi(b) / phi(a)
        points = np.linspace(b, a, 200, endpoint=False)
        width = (a - b) / 200
        y = r * x + (1 - r) * answers[i]
        if i >= 1:
            d1 = (answers[i] - answers[i - 1]) / (s[i] - s[i - 1])
            y = y + (b - a + phi(b) * np.sum(width / phi(points))) * d1
        if i >= 2:
            before = (answers[i - 1] - answers[i - 2]) / (s[i - 1] - s[i - 2])
            d2 = 2 * (d1 - before) / (s[i] - s[i - 2])
            y = y + ((b - a) ** 2 / 2 + phi(b) * np.sum((points - a) * width / phi(points))) * d2
        x = y + math.sqrt(b**2 - a**2 * r**2) * draw()
    return x


def seeds(model: Model, x: Array, s: list[float], draw: Any, stages: int) -> Array:
    """Gonzalez et al. (2023): dx = 2 (x - x0) dlambda-form of the SDE with eta 1, noise from one path through the stages."""
    for a, b in itertools.pairwise(s):
        m0 = model(x, a)
        if b == 0:
            return m0
        h = math.log(a / b)
        marks = [h * k / stages for k in range(1, stages + 1)]
        noises = [draw() for _ in marks]

        def path(k: int, a: float = a, marks: list[float] = marks, noises: list[Array] = noises) -> Array:
            """The stochastic integral up to mark k: each part has the variance that the SDE adds and then forgets."""
            total, start = 0.0, 0.0
            for mark, noise in zip(marks[:k], noises[:k], strict=True):
                end = a * math.exp(-marks[k - 1])
                variance = quad(lambda u: 2 * math.exp(-2 * (marks[k - 1] - u)), start, mark)[0]
                total = total + end * math.sqrt(variance) * noise
                start = mark
            return total

        def mean(u: float, slope: Array, x: Array = x, m0: Array = m0) -> Array:
            """x0 along the line m0 + slope * time."""
            line = quad(lambda v: 2 * math.exp(-2 * (u - v)) * v, 0, u)[0]
            return math.exp(-2 * u) * x + (1 - math.exp(-2 * u)) * m0 + line * slope

        if stages == 2:
            m1 = model(mean(marks[0], 0.0) + path(1), a * math.exp(-marks[0]))
            x = math.exp(-2 * h) * x + (1 - math.exp(-2 * h)) * m1 + path(2)
        else:
            m1 = model(mean(marks[0], 0.0) + path(1), a * math.exp(-marks[0]))
            m2 = model(mean(marks[1], (m1 - m0) / marks[0]) + path(2), a * math.exp(-marks[1]))
            x = mean(h, (m2 - m0) / marks[1]) + path(3)
    return x


def seeds_2(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    return seeds(model, x, s, draw, 2)


def seeds_3(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    return seeds(model, x, s, draw, 3)


def unipc_bh2(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    return unipc(model, x, s, draw, bh2=True) / math.sqrt(alpha_bar(s[-1]))


def sa_solver_pece(model: Model, x: Array, s: list[float], draw: Any) -> Array:
    """The same, with the corrected x evaluated once more."""
    return sa_solver(model, x, s, draw, pece=True)


def sa_solver(model: Model, x: Array, s: list[float], draw: Any, pece: bool = False) -> Array:
    """Xue et al. (2023), equations 14 and 17, predictor 3, corrector 4; tau 1 between timesteps 199.8 and 799.2."""
    answers: list[Array] = []
    n = len(s) - 1
    noise, y = None, x

    def move(x: Array, i: int, at: int, used: list[int], tau: float, noise: Array | None) -> Array:
        h = math.log(s[i] / s[at])
        places = [math.log(s[i] / s[j]) for j in used]

        def weight(j: int) -> float:
            def f(u: float) -> float:
                basis = np.prod([(u - p) / (places[j] - p) for k, p in enumerate(places) if k != j])
                return float((1 + tau**2) * math.exp(-(1 + tau**2) * (h - u)) * basis)

            return quad(f, 0, h)[0]

        out = s[at] / s[i] * math.exp(-(tau**2) * h) * x + sum(weight(j) * answers[k] for j, k in enumerate(used))
        return out if noise is None else out + noise

    tau = 0.0
    for i in range(n):
        answers.append(model(y, s[i]))
        if s[i + 1] == 0 and not (pece and i):
            return answers[-1]
        if i > 0:
            x = move(x, i - 1, i, list(range(i, max(-1, i - min(4, n - i if s[-1] == 0 else 4)), -1)), tau, noise)
            if pece:
                answers[-1] = model(x, s[i])
            if s[i + 1] == 0:
                return answers[-1]
        tau = 1.0 if 0.57118 <= s[i + 1] <= 5.09241 else 0.0
        h = math.log(s[i] / s[i + 1])
        noise = s[i + 1] * math.sqrt(1 - math.exp(-2 * h)) * draw() if tau else None
        y = move(x, i, i + 1, list(range(i, max(-1, i - max(1, min(3, n - 1 - i if s[-1] == 0 else 3))), -1)), tau, noise)
    return y


SAMPLERS: dict[str, Callable[..., Array]] = {
    "DDIM": ddim,
    "PLMS": plms,
    "UniPC": unipc,
    "LCM": lcm,
    "Restart": restart,
    "HeunPP2": heunpp2,
    "IPNDM": ipndm,
    "IPNDM_V": ipndm_v,
    "DEIS": deis,
    "DDPM": ddpm,
    "RES multistep": res_multistep,
    "RES multistep a": res_multistep_ancestral,
    "Gradient estimation": gradient_estimation,
    "ER SDE": er_sde,
    "SEEDS 2": seeds_2,
    "SEEDS 3": seeds_3,
    "SA-Solver": sa_solver,
    "SA-Solver PECE": sa_solver_pece,
    "UniPC bh2": unipc_bh2,
}
UNIT_START = {"DDIM", "PLMS", "UniPC"}
