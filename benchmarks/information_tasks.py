"""Tasks with a known mutual information, to judge estimators by: Gaussians, Student-t, additive noise, mixtures, transforms.

    Gaussian    I = 1/2 log(det Sx det Sy / det S)
    Student-t   the Gaussian part + f(v) + f(v + m + n) - f(v + m) - f(v + n),  f(a) = lgamma(a/2) - (a/2) psi(a/2)
                (the entropy of t_v in d dimensions is f(v) - f(v + d) + d times a constant that cancels)
    x + uniform(-e, e), x uniform(0, 1)    e - log(2e) for e <= 1/2, 1/(4e) above
    cos(2 pi m x) + normal noise           h(y) - h(noise), h(y) by quadrature; the same for every number m of periods
    a sign known from x                    log 2
    mixtures    the mean of log p(x, y) / (p(x) p(y)) over many exact samples; `truth_error` is its standard error

Independent copies add up; maps of x alone and of y alone that can be undone change nothing. All information in nats.
The kinds of tasks follow Czyz et al., "Beyond normal" (NeurIPS 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch

Rows = np.ndarray
Draw = Callable[[int, np.random.Generator], tuple[Rows, Rows]]
Map = Callable[[Rows], Rows]


class Task(NamedTuple):
    name: str
    family: str
    dx: int
    dy: int
    truth: float
    draw: Draw
    truth_error: float = 0.0

    def sample(self, n: int, seed: int) -> tuple[Rows, Rows]:
        """x (n, dx), y (n, dy), float64: the same for the same seed."""
        return self.draw(n, np.random.default_rng(seed))


# ---- Gaussian and Student-t ------------------------------------------------------------------------------


def log_det(matrix: Rows) -> float:
    return float(np.linalg.slogdet(matrix)[1])


def gaussian_information(covariance: Rows, dx: int) -> float:
    return (log_det(covariance[:dx, :dx]) + log_det(covariance[dx:, dx:]) - log_det(covariance)) / 2


def student_excess(df: float, dx: int, dy: int) -> float:
    """What a Student-t has beyond the Gaussian of the same dispersion."""

    def f(a: float) -> float:
        return math.lgamma(a / 2) - a / 2 * float(torch.special.digamma(torch.tensor(a / 2, dtype=torch.float64)))

    return f(df) + f(df + dx + dy) - f(df + dx) - f(df + dy)


def paired_covariance(d: int, pairs: int, rho: float) -> Rows:
    """Unit variances; x_i and y_i correlate for i < pairs, everything else is independent."""
    covariance = np.eye(2 * d)
    for i in range(pairs):
        covariance[i, d + i] = covariance[d + i, i] = rho
    return covariance


def dense_covariance(d: int, rho: float) -> Rows:
    """Any two of the 2d variables correlate by rho."""
    return np.full((2 * d, 2 * d), rho) + (1 - rho) * np.eye(2 * d)


def draw_student(covariance: Rows, dx: int, df: float, n: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """df = inf: the Gaussian."""
    z = rng.standard_normal((n, len(covariance))) @ np.linalg.cholesky(covariance).T
    if df < math.inf:
        z /= np.sqrt(rng.chisquare(df, (n, 1)) / df)
    return z[:, :dx], z[:, dx:]


def gaussian(family: str, name: str, covariance: Rows) -> Task:
    d = len(covariance) // 2
    draw = partial(draw_student, covariance, d, math.inf)
    return Task(name, family, d, d, gaussian_information(covariance, d), draw)


def student(df: int, covariance: Rows, dx: int, name: str) -> Task:
    dy = len(covariance) - dx
    truth = gaussian_information(covariance, dx) + student_excess(df, dx, dy)
    return Task(name, "student", dx, dy, truth, partial(draw_student, covariance, dx, df))


# ---- additive noise ---------------------------------------------------------------------------------------


def uniform_information(e: float) -> float:
    return e - math.log(2 * e) if e <= 0.5 else 1 / (4 * e)


def draw_uniform(d: int, e: float, n: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    x = rng.random((n, d))
    return x, x + rng.uniform(-e, e, (n, d))


@cache
def wave_information(noise: float) -> float:
    """cos(2 pi x) + noise times a normal: the density of y is an average over x, both integrals by fine sums."""
    x = (np.arange(2000) + 0.5) / 2000
    y = np.linspace(-1 - 8 * noise, 1 + 8 * noise, 4001)
    exponent = -(((y[:, None] - np.cos(2 * np.pi * x)) / noise) ** 2) / 2
    density = np.exp(exponent).mean(1) / (noise * math.sqrt(2 * math.pi))
    terms = np.where(density > 0, -density * np.log(np.maximum(density, 1e-300)), 0.0)
    return float(terms.sum() * (y[1] - y[0])) - math.log(noise * math.sqrt(2 * math.pi * math.e))


def draw_wave(periods: int, d: int, noise: float, n: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """x and y do not correlate: no straight line sees the dependence."""
    x = rng.random((n, d))
    return x, np.cos(2 * np.pi * periods * x) + noise * rng.standard_normal((n, d))


def wave(periods: int, d: int, noise: float) -> Task:
    name = f"{periods} waves {d}+{d} noise {noise}"
    return Task(name, "wave", d, d, d * wave_information(noise), partial(draw_wave, periods, d, noise))


def draw_parity(d: int, n: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """y has the sign of the product of x: no d - 1 columns of x know anything."""
    x = rng.standard_normal((n, d))
    return x, np.sign(x.prod(1, keepdims=True)) * np.abs(rng.standard_normal((n, 1)))


# ---- mixtures -----------------------------------------------------------------------------------------------


class Mixture(NamedTuple):
    """Equal shares of Gaussians: means (c, dx + dy), covariances (c, dx + dy, dx + dy)."""

    means: Rows
    covariances: Rows
    dx: int

    def draw(self, n: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        component = rng.integers(len(self.means), size=n)
        z = rng.standard_normal((n, self.means.shape[1]))
        roots = np.linalg.cholesky(self.covariances)
        for c, root in enumerate(roots):
            z[component == c] = z[component == c] @ root.T + self.means[c]
        return z[:, : self.dx], z[:, self.dx :]

    def log_density(self, z: Rows, columns: slice) -> Rows:
        """(n,) of the marginal of those columns; z holds only them."""
        parts = []
        for mean, covariance in zip(self.means[:, columns], self.covariances[:, columns, columns], strict=True):
            root = np.linalg.cholesky(covariance)
            white = np.linalg.solve(root, (z - mean).T)
            parts.append(-(white**2).sum(0) / 2 - np.log(np.diag(root)).sum() - len(mean) / 2 * math.log(2 * math.pi))
        return np.logaddexp.reduce(parts) - math.log(len(self.means))

    def information(self, n: int, seed: int) -> tuple[float, float]:
        """(mean, standard error) of the log density ratio over n samples."""
        x, y = self.draw(n, np.random.default_rng(seed))
        both = self.log_density(np.hstack([x, y]), slice(None))
        ratio = both - self.log_density(x, slice(0, self.dx)) - self.log_density(y, slice(self.dx, None))
        return float(ratio.mean()), float(ratio.std() / math.sqrt(n))


def mixture(name: str, means: Rows, covariances: Rows, dx: int) -> Task:
    model = Mixture(np.asarray(means, dtype=float), np.asarray(covariances, dtype=float), dx)
    truth, error = model.information(100_000, seed=0)
    return Task(name, "mixture", dx, model.means.shape[1] - dx, truth, model.draw, error)


def crossed(d: int, rho: float) -> Task:
    """Half of the rows correlate by rho, half by -rho: no correlation in all."""
    covariances = np.stack([paired_covariance(d, d, sign * rho) for sign in (1, -1)])
    return mixture(f"crossed {d}+{d} rho {rho}", np.zeros((2, 2 * d)), covariances, d)


def clusters(d: int, count: int, spread: float) -> Task:
    """`count` round clusters with centres at random: x tells the cluster, and so does y."""
    means = spread * np.random.default_rng(count).standard_normal((count, 2 * d))
    return mixture(f"{count} clusters {d}+{d}", means, np.stack([np.eye(2 * d)] * count), d)


# ---- maps that keep the information ---------------------------------------------------------------------


def normal_cdf(x: Rows) -> Rows:
    return torch.special.ndtr(torch.from_numpy(x)).numpy()


def heavy(x: Rows) -> Rows:
    """Normal to Cauchy."""
    return np.tan(np.pi * (normal_cdf(x) - 0.5))


def swiss_roll(x: Rows) -> Rows:
    """(n, 1) -> (n, 2): one and a half turns of a spiral line."""
    angle = 1.5 * np.pi * (1 + 2 * normal_cdf(x))
    return np.hstack([angle * np.cos(angle), angle * np.sin(angle)]) / 21


def whirl(x: Rows) -> Rows:
    """Turns the plane of the first two columns by an angle that grows with the row's length (which stays)."""
    angle = (x**2).sum(1) / x.shape[1]
    turned = x.copy()
    turned[:, 0] = np.cos(angle) * x[:, 0] - np.sin(angle) * x[:, 1]
    turned[:, 1] = np.sin(angle) * x[:, 0] + np.cos(angle) * x[:, 1]
    return turned


def mapped(task: Task, family: str, name: str, of_x: Map, of_y: Map) -> Task:
    def draw(n: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
        x, y = task.draw(n, rng)
        return of_x(x), of_y(y)

    x, y = draw(2, np.random.default_rng(0))
    return Task(f"{name} of {task.name}", family, x.shape[1], y.shape[1], task.truth, draw)


def same(x: Rows) -> Rows:
    return x


# ---- the collection -----------------------------------------------------------------------------------------


def paired(d: int, rho: float) -> Task:
    return gaussian("pairs", f"pairs {d}+{d} rho {rho}", paired_covariance(d, d, rho))


def sparse(d: int, rho: float) -> Task:
    return gaussian("sparse", f"two pairs in {d}+{d} rho {rho}", paired_covariance(d, min(d, 2), rho))


def training_tasks() -> list[Task]:
    """What the thresholds are fitted on."""
    found = [
        gaussian("dense", f"dense {d}+{d} rho {r}", dense_covariance(d, r)) for d in DIMENSIONS for r in (0.2, 0.6)
    ]
    found += [gaussian("independent", f"independent {d}+{d}", np.eye(2 * d)) for d in DIMENSIONS]
    found += [paired(d, r) for d in (1, 2, 5, 10, 25) for r in (0.3, 0.7, 0.95)]
    found.append(gaussian("pairs", "pairs 1+1 rho 0.9999999", paired_covariance(1, 1, 0.9999999)))
    found += [
        student(df, paired_covariance(d, d, r), d, f"student {d}+{d} df {df} rho {r}")
        for d in (1, 2, 5, 10)
        for df, r in ((1, 0.0), (3, 0.0), (3, 0.6))
    ]
    found += [
        Task(f"uniform noise {d}+{d} e {e}", "uniform", d, d, d * uniform_information(e), partial(draw_uniform, d, e))
        for d in (1, 2, 5, 10)
        for e in (0.1, 0.75)
    ]
    found.append(
        Task("uniform noise 1+1 e 1e-6", "uniform", 1, 1, uniform_information(1e-6), partial(draw_uniform, 1, 1e-6))
    )
    found += [wave(1, d, s) for d in (1, 2, 5, 10) for s in (0.2, 1.0)]
    return found


def held_out_tasks() -> list[Task]:
    """Other families, and other dimensions of the Gaussian ones, that no threshold has seen."""
    found = [sparse(d, r) for d in (2, 3, 8, 25) for r in (0.5, 0.8)]
    found += [paired(d, r) for d in (3, 8, 16) for r in (0.2, 0.5, 0.8)]
    found += [gaussian("independent", f"independent {d}+{d}", np.eye(2 * d)) for d in (4, 8, 16)]
    found += [crossed(d, r) for d in (1, 2, 4, 8) for r in (0.7, 0.9)]
    found += [clusters(d, count, 2.0) for d in (1, 2, 4, 8) for count in (3, 8)]
    for name, change in (("cube", lambda x: x**3), ("asinh", np.arcsinh), ("cdf", normal_cdf), ("cauchy", heavy)):
        found += [mapped(paired(d, r), "transformed", name, change, change) for d, r in ((1, 0.8), (3, 0.8), (8, 0.5))]
    found += [
        mapped(paired(1, r), "embedded", "swiss roll", swiss_roll, normal_cdf) for r in (0.5, 0.9, 0.999, 0.9999999)
    ]
    found += [mapped(paired(d, r), "embedded", "whirl", whirl, same) for d in (3, 5, 10) for r in (0.5, 0.8)]
    found += [wave(3, d, s) for d in (1, 2, 5) for s in (0.2, 1.0)]
    found += [Task(f"parity {d}+1", "parity", d, 1, math.log(2), partial(draw_parity, d)) for d in (1, 2, 3, 5)]
    return found


DIMENSIONS = (1, 2, 3, 5, 10, 25)
