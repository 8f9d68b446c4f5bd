"""The benchmark suite's own logic: what it times, what it refuses to time, what it counts and what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import information_oracles
import numpy as np
import oracles
import pytest
import torch

from benchmarks import bench_ksg_mi, capped, oracle, race, results
from benchmarks import measure as measuring
from benchmarks.case import OURS, Case, Contender
from benchmarks.memory import peak
from benchmarks.peers import neighbors as peers
from benchmarks.peers import without_self
from msma_fast import bench
from msma_fast.bench import interval

ROOT = Path(__file__).resolve().parents[1]
K = 5


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch: pytest.MonkeyPatch, torch_threads: None) -> None:
    """Times mean nothing here, and a second thread would only spin."""
    torch.set_num_threads(1)
    for module in (bench, race):
        monkeypatch.setattr(module, "settle", lambda: None)


def points(n: int = 120, d: int = 13) -> np.ndarray:
    x = np.random.default_rng(3).standard_normal((n, d)).astype(np.float32)
    x[40:44] = x[40]  # duplicates: a row is not always its own first neighbour
    x[7] *= 50
    return x


def by_definition(x: np.ndarray, metric: str = "euclidean") -> tuple[np.ndarray, np.ndarray]:
    found = oracles.nearest(oracles.canonical_keys(x, x, metric), oracles.admissible(len(x)), K)
    return oracles.to_distance(found.keys, metric).astype(np.float32), found.indices


def drive(run: Callable[..., Any], inputs: tuple[Any, ...], before: Callable[[], None], rounds: int) -> Sequence[float]:
    seconds = []
    for _ in range(rounds):
        before()
        start = time.perf_counter()
        run(*inputs)
        seconds.append(time.perf_counter() - start)
    return seconds


def a_case(ours: Callable[..., Any], *others: Contender, **options: Any) -> Case:
    judge = oracle.judge_with(oracle.KnnJudge, K)
    return Case("knn", "planted", lambda: (points(),), (Contender(OURS, ours), *others), judge, **options)


# ---- medians and intervals ------------------------------------------------------------------------------


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for n in (5, 7, 12):
        draws = rng.standard_exponential((4000, n))
        found = [interval(list(row)) for row in draws]
        inside = np.mean([one.low <= np.log(2) <= one.high for one in found])
        assert found[0].coverage >= 0.9
        assert abs(inside - found[0].coverage) < 0.02


def test_intervals_of_few_rounds_are_the_whole_range() -> None:
    assert interval([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0, 0.75)
    assert interval([4.0]) == (4.0, 4.0, 4.0, 0.0)
    with pytest.raises(ValueError, match="at least one round"):
        interval([])


def test_everybody_runs_once_in_each_round_and_we_run_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "rounds_of", lambda case: 4)
    ran: list[str] = []

    def named(name: str) -> Callable[[np.ndarray], Any]:
        def run(x: np.ndarray) -> Any:
            ran.append(name)
            return by_definition(x)

        return run

    record = measuring.measure(a_case(named("us"), Contender("a", named("a")), Contender("b", named("b"))), drive)
    assert "".join(name[0] for name in ran) == "uab" + "abu" + "bau" + "abu" + "bau"
    assert record["rounds"] == 4
    us, a, b = record["contenders"]
    assert "ratio" not in us
    for peer in (a, b):
        rounds = [peer["seconds"][i] / us["seconds"][i] for i in range(4)]
        assert peer["ratio"]["median"] == np.median(rounds)
        assert (peer["ratio"]["low"], peer["ratio"]["high"]) == (min(rounds), max(rounds))


def test_a_smaller_job_counts_as_often_as_it_says() -> None:
    ours = by_definition(points())
    record = measuring.measure(a_case(lambda x: ours, Contender("scaled", lambda x: ours, repeat=1e6)), drive)
    assert record["contenders"][1]["ratio"]["median"] > 1e4


# ---- the gate and the peers -----------------------------------------------------------------------------


def test_a_wrong_answer_prints_no_number() -> None:
    def wrong(x: np.ndarray) -> Any:
        distances, indices = by_definition(x)
        indices[100, [0, 1]] = indices[100, [1, 0]]
        return distances, indices

    raced: list[str] = []
    case = a_case(wrong, Contender("peer", lambda x: raced.append("peer")))
    with pytest.raises(measuring.RedGate, match=r"no number, .* 2 of 600 neighbours; row 100, place 0"):
        measuring.measure(case, lambda *_: pytest.fail("a wrong answer was timed"))
    assert not raced


def test_a_distance_that_is_not_the_rounded_one_is_wrong() -> None:
    x = points()
    distances, indices = by_definition(x)
    judge = oracle.KnnJudge(x, K)
    assert judge.gate((distances, indices)) is None
    distances[3, 2] = np.nextafter(distances[3, 2], np.float32(np.inf))
    assert judge.gate((distances, indices)) == "1 of 600 distances are not the rounded canonical ones"


def test_wrong_neighbours_of_a_planted_peer_are_counted_and_ties_are_not() -> None:
    x = points()
    judge = oracle.KnnJudge(x, K)
    _, indices = by_definition(x)
    assert judge.fault(indices).value == 0
    tied = indices.copy()
    tied[40, :3] = [43, 42, 41]  # all at distance 0
    assert judge.fault(tied).value == 0
    wrong = indices.copy()
    wrong[0, [1, 2]] = wrong[0, [2, 1]]  # right set, wrong order
    wrong[1, 4] = 7  # far away
    wrong[2, 0] = 2  # the row itself
    wrong[3, 1] = wrong[3, 0]  # twice
    wrong[5, 4] = -1
    found = judge.fault(wrong)
    assert (found.value, found.of) == (6, 600)
    assert found.note.startswith("4 not among the 5 nearest")


def test_missing_and_failing_peers_are_declared() -> None:
    def fails(x: np.ndarray) -> Any:
        raise MemoryError("too large")

    case = a_case(by_definition, Contender("absent", by_definition, needs="no_such_module"), Contender("fails", fails))
    _, absent, failing = measuring.measure(case, drive)["contenders"]
    assert absent == {"name": "absent", "status": "missing", "reason": "no_such_module is not installed"}
    assert failing == {"name": "fails", "status": "failed", "reason": "MemoryError: too large"}


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "chebyshev"])
def test_the_oracle_agrees_with_the_full_definition(metric: str) -> None:
    x = points()
    judge = oracle.KnnJudge(x, K, metric)
    found = oracles.nearest(oracles.canonical_keys(x, x, metric), oracles.admissible(len(x)), K)
    assert np.array_equal(judge.indices, found.indices)
    assert np.array_equal(judge.keys, found.keys)


def test_radius_counts_are_judged_in_float32_at_the_boundary() -> None:
    x = points()
    full = np.sqrt(oracles.canonical_keys(x, x, "euclidean")).astype(np.float32)
    radius = float(full[0, 1])
    right = oracles.radius_counts(full, radius, oracles.admissible(len(x)), closed=True)
    judge = oracle.RadiusJudge(x, radius)
    assert judge.gate(right) is None
    assert judge.gate(oracles.radius_counts(full, radius, oracles.admissible(len(x)), closed=False)) is not None


def test_distances_are_judged_relatively_and_own_distances_apart() -> None:
    x = points()
    exact = np.sqrt(oracles.canonical_keys(x, x, "euclidean"))
    judge = oracle.DistanceJudge(x, None, 1e-6)
    assert judge.gate(exact.astype(np.float32)) is None
    off = exact.copy()
    off[0, 0] = 0.6
    assert "equal points up to 0.6 apart" in str(judge.gate(off))
    assert judge.fault(exact * (1 + 3e-5)).value == pytest.approx(3e-5)


def test_the_definition_of_mutual_information_is_that_of_the_oracles() -> None:
    x, y = bench_ksg_mi.pair(150, 2)
    assert bench_ksg_mi.definition(x, y) == pytest.approx(
        information_oracles.ksg_mi(x, y, bench_ksg_mi.K).mi, abs=1e-12
    )


@pytest.mark.parametrize("shape", ["normal", "lattice", "equal", "shifted"])
def test_the_estimate_of_columns_is_that_of_the_oracles(shape: str) -> None:
    x, y = bench_ksg_mi.pair(150, 1)
    if shape == "lattice":
        x, y = np.round(3 * x), np.round(3 * y) / 3  # ties, and differences that are rounded
    elif shape == "equal":
        x = np.zeros_like(x)
    elif shape == "shifted":
        x, y = x + 1e6, (y - 1e6).astype(np.float32)
    truth = information_oracles.ksg_mi(x, y, K).mi
    assert oracle.ksg_estimate_of_columns(x, y, K) == pytest.approx(truth, abs=1e-12)


PEERS = [
    peers.faiss_knn(K), peers.torch_knn(K), peers.sklearn_knn(K), peers.sklearn_knn(K, "kd_tree"),
    peers.scipy_tree_knn(K), peers.scipy_cdist_knn(K, "euclidean"),
]  # fmt: skip


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peers_answer_the_question_that_is_asked(peer: Contender) -> None:
    """On integer points float32 is exact, so a wrong neighbour would be the adapter's fault."""
    if reason := peer.missing():
        pytest.skip(reason)
    x = np.random.default_rng(0).integers(-9, 10, (150, 6)).astype(np.float32)
    assert oracle.KnnJudge(x, K).fault(peer.answer(peer.run(x))).value == 0


@pytest.mark.parametrize(
    "peer",
    [peers.faiss_count(), peers.torch_count(), peers.sklearn_count(), peers.scipy_tree_count()],
    ids=lambda peer: peer.name,
)
def test_counting_peers_leave_the_row_itself_out(peer: Contender) -> None:
    if reason := peer.missing():
        pytest.skip(reason)
    x = np.random.default_rng(0).integers(-9, 10, (150, 6)).astype(np.float32)
    assert oracle.RadiusJudge(x, 12.5).gate(peer.answer(peer.run(x, 12.5))) is None


def test_a_row_that_does_not_find_itself_loses_its_last_neighbour() -> None:
    indices = np.array([[0, 1, 2], [3, 4, 5]])
    assert without_self((indices * 1.0, indices))[1].tolist() == [[1, 2], [3, 4]]


def test_peak_memory_is_that_of_the_call() -> None:
    found = peak(lambda x: np.ones((len(x) // 128, 2**20)).sum(), (np.zeros((64 * 128, 1)),))
    if found is None:
        pytest.skip("/proc is not here")
    assert 500 < found < 560


def test_every_capped_level_caps_everybody() -> None:
    names = {frozenset(environment) for environment in capped.ENVIRONMENT.values()}
    assert len(names) == 1
    assert all(environment["MSMA_FAST_CPU"] == level for level, environment in capped.ENVIRONMENT.items())


# ---- the command ----------------------------------------------------------------------------------------


def test_the_command_times_what_is_installed_and_declares_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench._PEERS, "another", ("no_such_module", bench._torch))
    lines = bench.bench(n=200, rounds=2).splitlines()
    assert lines[0].startswith("knn, 200 x 576 random points, k = 15")
    assert lines[3].split()[0] == "msma_fast"
    assert all(line.split()[-1] == "0" for line in lines[3:5])
    assert lines[-1].split() == ["another", "not", "installed"]


def test_the_command_does_not_time_a_wrong_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_ours", lambda x: np.tile(np.arange(15), (len(x), 1)))
    with pytest.raises(RuntimeError, match="expected no wrong neighbours"):
        bench.bench(n=40, rounds=1)


PLANTED = """
import numpy as np, pytest
from benchmarks.case import Case, Contender, parameters
from benchmarks.oracle import NumberJudge

def case(name, answer):
    return Case("sum", name, lambda: (np.ones(3),), (Contender("msma_fast", lambda x: answer), Contender("numpy", np.sum)),
                lambda x: NumberJudge(3.0, 1e-9))

@pytest.mark.parametrize("case", parameters([case("right", 3.0), case("wrong", 4.0)]))
def test_sum(case, measure):
    measure(case)
"""


def test_under_pytest_a_red_gate_leaves_no_record(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(PLANTED)
    record, junit = tmp_path / "raw.json", tmp_path / "junit.xml"
    command = [sys.executable, "-m", "pytest", str(tmp_path), "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    command += ["-p", "benchmarks.conftest"]
    command += [f"--rootdir={tmp_path}", f"--benchmark-json={record}", f"--junitxml={junit}"]
    quick = {**os.environ, "MSMA_BENCH_QUICK": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quick, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    found = results.distil([(record, junit)], quick=False)
    json.dumps(found)
    (case,) = found["cases"]
    assert (case["case"], case["rounds"]) == ("right", 3)
    (red,) = found["red"]
    assert red["case"] == "test_sum[wrong]"
    assert "no number, the answer is wrong: expected 3.0" in red["reason"]
    assert "wrong" not in record.read_text()
