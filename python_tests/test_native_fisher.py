"""The compiled Fisher metric of a token head against numpy float64: odd shapes, peaked distributions, common offsets, large
logits, half-precision weights, layouts, threads, every instruction set (in subprocesses), no worse than float32 torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from subprocesses import printed

from msma_fast.backends import native

pytestmark = pytest.mark.skipif(not native.available()[0], reason=native.available()[1])

if native.available()[0]:
    from msma_fast.backends import native_fisher

Array = np.ndarray[Any, Any]
SETS = ["scalar", "avx2", "avx512"]
SHAPES = [(1, 2, 1), (3, 1, 4), (1, 50, 3), (5, 37, 7), (17, 120, 16), (33, 997, 65), (70, 1500, 48), (200, 300, 193)]


class Case:
    """h (n, d), weight (V, d), bias (V,), v (n, 2, d), shares (n,), other (4, d), float32."""

    def __init__(self, n: int, V: int, d: int, *, seed: int = 0, offset: float = 0.0, spread: float = 1.0) -> None:
        random = np.random.default_rng([seed, n, V, d])
        self.h = (spread * random.standard_normal((n, d))).astype(np.float32)
        self.weight = (random.standard_normal((V, d)) * 2 / np.sqrt(d) + offset).astype(np.float32)
        self.bias = random.standard_normal(V).astype(np.float32)
        self.v = random.standard_normal((n, 2, d)).astype(np.float32)
        self.shares = random.random(n).astype(np.float32)
        self.other = (self.h[0] + random.standard_normal((4, d))).astype(np.float32)

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.h), torch.from_numpy(self.weight), torch.from_numpy(self.bias)


def logits(case: Case, h: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return h.astype(np.float64) @ case.weight.astype(np.float64).T + case.bias.astype(np.float64)


def probabilities(case: Case, h: Array) -> Array:
    values = logits(case, h)
    p = np.exp(values - values.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def roots_apart(case: Case, h: Array, other: Array) -> Array:
    """(n, m): the Fisher-Rao distances, from differences of logits for every pair."""
    out = np.zeros((len(h), len(other)))
    for j, y in enumerate(other):
        q = probabilities(case, y[None])[0]
        for i, x in enumerate(h):
            away = case.weight.astype(np.float64) @ (x.astype(np.float64) - y.astype(np.float64))
            middle = (q * away).sum()
            c = middle + np.log1p((q * np.expm1(away - middle)).sum())
            out[i, j] = 4 * np.arcsin(min(1.0, np.sqrt((q * np.expm1((away - c) / 2) ** 2).sum()) / 2))
    return out


def truth(case: Case) -> dict[str, Array]:
    """Every op from its definition, in float64."""
    p, w, v = probabilities(case, case.h), case.weight.astype(np.float64), case.v.astype(np.float64)
    n, d = case.h.shape
    wanted = {
        "vp": np.zeros((n, 2, d)),
        "quadratic": np.zeros(n),
        "mean": np.zeros((d, d)),
        "shared": np.zeros((d, d)),
        "trace": np.zeros(n),
        "diag": np.zeros((n, d)),
        "distances": roots_apart(case, case.h, case.other),
    }
    for i in range(n):
        top = p[i].argmax()
        rest = np.delete(w - w[top], top, axis=0)  # centred where a peaked p is
        q = np.delete(p[i], top)
        m = q @ rest
        metric = (rest * q[:, None]).T @ rest - np.outer(m, m)
        wanted["vp"][i] = v[i] @ metric
        wanted["quadratic"][i] = v[i, 0] @ metric @ v[i, 0]
        wanted["mean"] += metric / n
        wanted["shared"] += case.shares[i].astype(np.float64) * metric
        wanted["trace"][i] = np.trace(metric)
        wanted["diag"][i] = np.diag(metric)
    return wanted


def computed(case: Case, weight: torch.Tensor | None = None) -> dict[str, Array]:
    h, plain, bias = case.tensors()
    w = plain if weight is None else weight
    v = torch.from_numpy(case.v)
    found = {
        "vp": native_fisher.logit_fisher_vp(h, w, bias, v),
        "quadratic": native_fisher.logit_fisher_quadratic(h, w, bias, v[:, 0]),
        "mean": native_fisher.logit_fisher_mean(h, w, bias, None),
        "shared": native_fisher.logit_fisher_mean(h, w, bias, torch.from_numpy(case.shares)),
        "trace": native_fisher.logit_fisher_trace(h, w, bias),
        "diag": native_fisher.logit_fisher_diag(h, w, bias),
        "distances": native_fisher.fisher_rao_distances(h, w, bias, torch.from_numpy(case.other)),
    }
    return {name: value.numpy() for name, value in found.items()}


def error(found: Array, wanted: Array) -> float:
    """The largest error, by the largest value: of each row of h where there are several."""
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    off, size = np.abs(found - wanted), np.abs(wanted)
    if wanted.ndim == 3:
        off, size = off.max((1, 2)), size.max((1, 2))
    return (
        float((off / np.maximum(size, 1e-30)).max()) if wanted.ndim == 3 else float(off.max() / max(size.max(), 1e-30))
    )


def check(case: Case, tolerance: float) -> None:
    found, wanted = computed(case), truth(case)
    for name, values in wanted.items():
        assert error(found[name], values) <= tolerance, name
    for name in ("mean", "shared"):
        assert np.array_equal(found[name], found[name].T)


@pytest.mark.parametrize(("n", "V", "d"), SHAPES)
def test_odd_shapes(n: int, V: int, d: int) -> None:
    if V == 1:  # certain of its one token
        found = computed(Case(n, V, d))
        assert all(not values.any() for values in found.values())
    else:
        check(Case(n, V, d), 4e-6)


@pytest.mark.parametrize("gap", [16.0, 25.0, 60.0])
def test_a_peaked_distribution_keeps_its_digits(gap: float) -> None:
    """One token holds all but 1e-7, 1e-11, 1e-26 of the probability: in turn another one for every row."""
    case = Case(12, 400, 33)
    for i in range(12):
        token, row = 31 * i, case.weight[31 * i].astype(np.float64)
        for _ in range(20):
            found_logits = logits(case, case.h[i : i + 1])[0]
            lead = found_logits[token] - np.delete(found_logits, token).max()
            if lead < gap:
                case.h[i] += ((gap - lead) * row / (row @ row)).astype(np.float32)
    found, wanted = computed(case), truth(case)
    assert probabilities(case, case.h).max(1).min() > 0.999
    for name, values in wanted.items():
        per_row = name in ("vp", "diag", "quadratic", "trace")
        pairs = zip(found[name], values, strict=True) if per_row else [(found[name], values)]
        for got, expected in pairs:  # every row by its own scale; logits carry errors of gap 2^-24 or more
            assert np.abs(got - expected).max() <= 3e-6 * gap * np.abs(expected).max(), name


def test_a_common_offset_of_the_rows_of_weight_changes_nothing() -> None:
    case = Case(9, 700, 40)
    case.weight += np.float32(64.0)
    case.weight -= np.float32(64.0)  # on a grid where the offset is exact
    wanted = truth(case)
    case.weight += np.float32(64.0)
    found = computed(case)
    for name, values in wanted.items():
        assert error(found[name], values) <= 4e-6, name


def test_large_logits() -> None:
    """Of 1e4: float32 logits carry errors of 1e-3, and so do probabilities; nothing overflows."""
    case = Case(20, 500, 32, spread=2e3)
    assert np.abs(logits(case, case.h)).max() > 1e4
    for name, values in computed(case).items():
        assert np.isfinite(values).all(), name
    case = Case(20, 500, 32)
    case.bias *= np.float32(3e3)
    for values in computed(case).values():
        assert np.isfinite(values).all()


def plain(case: Case, dtype: torch.dtype) -> dict[str, Array]:
    """The textbook formulas in torch."""
    h, w, b = (tensor.to(dtype) for tensor in case.tensors())
    v, shares = torch.from_numpy(case.v).to(dtype), torch.from_numpy(case.shares).to(dtype)
    p = torch.softmax(h @ w.T + b, 1)
    q = torch.softmax(torch.from_numpy(case.other).to(dtype) @ w.T + b, 1)
    u = v @ w.T
    centred = p[:, None] * (u - (p[:, None] * u).sum(2, keepdim=True))
    m = p @ w
    found = {
        "vp": centred @ w,
        "quadratic": (p * (u[:, 0] - (p * u[:, 0]).sum(1, keepdim=True)) ** 2).sum(1),
        "mean": w.T @ (p.mean(0)[:, None] * w) - m.T @ m / len(h),
        "shared": w.T @ ((shares[:, None] * p).sum(0)[:, None] * w) - m.T @ (shares[:, None] * m),
        "trace": (p * (w * w).sum(1)).sum(1) - (m * m).sum(1),
        "diag": p @ (w * w) - m * m,
        "distances": 2 * torch.acos((p.sqrt() @ q.sqrt().T).clamp(max=1)),
    }
    return {name: value.numpy() for name, value in found.items()}


@pytest.mark.parametrize(
    ("V", "d", "spread", "offset"),
    [(3000, 96, 1.0, 0.0), (3000, 96, 1.0, 1.0), (1000, 192, 8.0, 0.0), (500, 576, 8.0, 0.0), (500, 96, 30.0, 0.0)],
)
def test_no_worse_than_plain_float32_torch(V: int, d: int, spread: float, offset: float) -> None:
    ours, torchs = dict[str, float](), dict[str, float]()
    for seed in range(3):
        case = Case(40, V, d, seed=seed, spread=spread, offset=offset)
        wanted, found, other = truth(case), computed(case), plain(case, torch.float32)
        for name, values in wanted.items():
            rms = np.sqrt((values**2).mean())
            for errors, got in ((ours, found[name]), (torchs, other[name])):
                errors[name] = errors.get(name, 0.0) + float(np.sqrt(((got - values) ** 2).mean()) / rms)
    for name, size in ours.items():
        assert size <= 1.1 * torchs[name] + 3e-7, (name, size, torchs[name])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_widened_exactly(dtype: torch.dtype) -> None:
    case = Case(11, 333, 37)
    narrow = torch.from_numpy(case.weight).to(dtype)
    narrow[5, 3] = 3e-6  # subnormal in float16
    case.weight = narrow.float().numpy()
    found, wide = computed(case, narrow), computed(case)
    for name, values in wide.items():
        np.testing.assert_array_equal(found[name], values)
    check(case, 4e-6)


def test_rows_of_any_stride() -> None:
    case = Case(11, 333, 37)
    h, weight, bias = case.tensors()
    v, other = torch.from_numpy(case.v), torch.from_numpy(case.other)
    wanted = computed(case)
    loose, wide = torch.zeros(22, 50), torch.zeros(333, 40)
    loose[::2, 5:42] = h
    wide[:, 3:] = weight
    for x in (loose[::2, 5:42], h.T.contiguous().T):
        for w in (wide[:, 3:], weight.T.contiguous().T):
            assert not x.is_contiguous()
            assert not w.is_contiguous()
            far = other.T.contiguous().T
            got = native_fisher.fisher_rao_distances(x, w, bias, far).numpy()
            np.testing.assert_array_equal(got, wanted["distances"])
            got = native_fisher.logit_fisher_vp(x, w, bias, v.transpose(0, 1).contiguous().transpose(0, 1)).numpy()
            np.testing.assert_array_equal(got, wanted["vp"])
            np.testing.assert_array_equal(native_fisher.logit_fisher_mean(x, w, bias, None).numpy(), wanted["mean"])


def test_no_bias_is_a_bias_of_zero() -> None:
    case = Case(11, 333, 37)
    case.bias[:] = 0
    h, weight, _ = case.tensors()
    wanted = computed(case)
    np.testing.assert_array_equal(native_fisher.logit_fisher_trace(h, weight, None).numpy(), wanted["trace"])
    np.testing.assert_array_equal(native_fisher.logit_fisher_mean(h, weight, None, None).numpy(), wanted["mean"])


def test_tokens_of_bias_minus_infinity_do_not_count() -> None:
    """Whole blocks of tokens, the first one too, may be ruled out."""
    case = Case(7, 900, 20)
    ruled_out = np.zeros(900, dtype=bool)
    ruled_out[:300] = ruled_out[500:801] = True
    case.bias[ruled_out] = -np.inf
    found = computed(case)
    case.weight, case.bias = case.weight[~ruled_out], case.bias[~ruled_out]
    for name, values in truth(case).items():
        assert error(found[name], values) <= 4e-6, name


def test_nan_and_infinity_stay_in_their_rows() -> None:
    case = Case(40, 600, 24)
    clean = computed(case)
    for value in (np.nan, np.inf):
        case.h[7, 3] = value
        found = computed(case)
        for name in ("vp", "quadratic", "trace", "diag", "distances"):
            assert np.isnan(found[name][7]).any(), name
            np.testing.assert_array_equal(np.delete(found[name], 7, 0), np.delete(clean[name], 7, 0))
        assert np.isnan(found["mean"]).all()


@pytest.mark.parametrize("step", [1e-1, 1e-2, 1e-4, 1e-6])
def test_close_pairs_are_exact_at_every_scale(step: float) -> None:
    case = Case(40, 700, 24)
    random = np.random.default_rng(5)
    case.h[1:] = case.h[0] + (step * random.standard_normal((39, 24))).astype(np.float32)
    h, weight, bias = case.tensors()
    found = native_fisher.fisher_rao_distances(h, weight, bias, None).numpy()
    wanted = roots_apart(case, case.h, case.h)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-30)
    assert np.array_equal(found, found.T)
    assert not np.diag(found).any()


def test_distances_of_one_set_are_symmetric_with_a_zero_diagonal() -> None:
    case = Case(200, 400, 16)
    case.h[50] = case.h[3]
    case.h[60, 0] = np.nan
    h, weight, bias = case.tensors()
    found = native_fisher.fisher_rao_distances(h, weight, bias, None).numpy()
    cross = native_fisher.fisher_rao_distances(h, weight, bias, h).numpy()
    assert np.array_equal(found, found.T, equal_nan=True)
    assert not np.diag(found).any()
    assert found[50, 3] == 0
    assert np.isnan(np.delete(found[60], 60)).all()
    np.testing.assert_allclose(np.triu(found, 1), np.triu(cross, 1), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rise", [50.0, 200.0, 5e3])
def test_logits_may_rise_after_the_first_block(rise: float) -> None:
    case = Case(30, 900, 24)
    case.bias[850:] += np.float32(rise)
    case.bias[:850] -= np.float32(rise)
    found = computed(case)["distances"]
    assert error(found, truth(case)["distances"]) <= max(4e-6, 1e-7 * rise)


def test_distributions_apart_are_pi_away() -> None:
    weight = torch.tensor([[1.0], [-1.0]])
    h = torch.tensor([[200.0], [-200.0], [0.0]])
    found = native_fisher.fisher_rao_distances(h, weight, None, None)
    torch.testing.assert_close(found[0], torch.tensor([0.0, np.pi, np.pi / 2]), rtol=1e-6, atol=0)


def digest_case() -> dict[str, Array]:
    return computed(Case(150, 1300, 50))


@pytest.mark.usefixtures("torch_threads")
def test_threads_change_nothing() -> None:
    torch.set_num_threads(1)
    wanted = digest_case()
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        for name, values in digest_case().items():
            assert values.tobytes() == wanted[name].tobytes(), name


@pytest.mark.parametrize("cap", SETS)
def test_every_instruction_set(cap: str) -> None:
    code = (
        "import test_native_fisher as t; t.check(t.Case(37, 500, 50), 4e-6); t.check(t.Case(3, 11, 5), 4e-6);"
        "t.test_close_pairs_are_exact_at_every_scale(1e-4); t.test_tokens_of_bias_minus_infinity_do_not_count();"
        "t.test_nan_and_infinity_stay_in_their_rows(); t.test_half_precision_weights_are_widened_exactly(t.torch.float16);"
        "from msma_fast.backends.native import compiled; print(compiled().instruction_set())"
    )
    out = printed(code, MSMA_FAST_CPU=cap)
    assert out == cap or cap != "scalar"


def test_float64_goes_to_the_torch_backend() -> None:
    case = Case(5, 37, 7)
    h, weight, bias = (tensor.double() for tensor in case.tensors())
    wanted = truth(case)
    assert native_fisher.logit_fisher_trace(h, weight, bias).dtype == torch.float64
    np.testing.assert_allclose(native_fisher.logit_fisher_trace(h, weight, bias).numpy(), wanted["trace"], rtol=1e-12)
    np.testing.assert_allclose(
        native_fisher.logit_fisher_vp(h, weight, bias, torch.from_numpy(case.v).double()).numpy(),
        wanted["vp"],
        rtol=1e-9,
    )


def test_the_boundary_says_what_it_wants() -> None:
    module = native.compiled()
    h, weight = np.zeros((3, 4), np.float32), np.zeros((5, 4), np.float32)
    v = np.zeros((3, 1, 4), np.float32)
    for arguments, message in [
        ((h.astype(np.float64), weight, "float32", None, v, 1), r"h: expected a float32 array of shape \(n, 4\)"),
        ((h[:, ::2], weight[:, :2], "float32", None, v, 1), r"h: expected .*contiguous rows"),
        ((h, weight[:, :3], "float32", None, v, 1), r"h: expected a float32 array of shape \(n, 3\)"),
        ((h, weight, "bfloat16", None, v, 1), r"weight: expected a uint16 array"),
        ((h, weight, "int8", None, v, 1), r"format: expected one of float16, bfloat16, float32, got 'int8'"),
        ((h, weight, "float32", np.zeros(4, np.float32), v, 1), r"bias: expected .*\(5,\)"),
        ((h, weight, "float32", None, v[:2], 1), r"v: expected .*\(3, r, 4\)"),
        ((h, weight, "float32", None, v, 0), r"threads: expected at least 1, got 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            module.logit_fisher_vp(*arguments)
    with pytest.raises(ValueError, match=r"shares: expected .*\(3,\)"):
        module.logit_fisher_mean(h, weight, "float32", None, np.zeros(2, np.float32), 1)
    with pytest.raises(ValueError, match=r"other: expected .*\(n, 4\)"):
        module.fisher_rao_distances(h, weight, "float32", None, np.zeros((2, 3), np.float32), 9, 1)
