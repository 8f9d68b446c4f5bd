"""`make gpu-check`, on a machine with a CUDA GPU: tests, planted problems, larger data, timings; into build/gpu-check.json.

The tests are python_tests/triton, with the kernels launched on the GPU. Answers to larger data are compared with the native or
torch backend on the CPU before anything is timed; a wrong one is reported as wrong and has no time. Peers that are not
installed are named as missing. Exit status 1 where a test fails or an answer is wrong, 2 without a GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import msma_fast as mf
from msma_fast.backends import triton as backend
from msma_fast.backends.triton_check import fault, planted

RESULTS = Path("build/gpu-check.json")
TESTS = Path("python_tests/triton")
ROUNDS, K = 9, 15
SIZES = ((8192, 576), (50_000, 576), (20_000, 64), (20_000, 8))
PAIRED = 4096, 64  # of information and distances
CHECKED = 512  # rows whose answer is compared


class Case(NamedTuple):
    """ours and peers take the same tensors on the GPU; right(answer) compares it with the CPU's."""

    name: str
    inputs: tuple[Tensor, ...]
    ours: Callable[..., Any]
    peers: dict[str, Callable[..., Any]]
    right: Callable[[Any], bool]


def torch_knn(x: Tensor) -> Tensor:
    """Blocks of torch.cdist and topk."""
    rows = max(1, (1 << 28) // x.shape[0])
    return torch.cat([torch.cdist(block, x).topk(K + 1, dim=1, largest=False).indices for block in x.split(rows)])


def faiss_knn(x: Tensor) -> Any:
    import faiss
    import faiss.contrib.torch_utils  # tensors as arguments

    return faiss.knn_gpu(faiss.StandardGpuResources(), x, x, K + 1)


def cuvs_knn(x: Tensor) -> Any:
    from cuvs.neighbors import brute_force

    return brute_force.search(brute_force.build(x, metric="sqeuclidean"), x, K + 1)


def flashlib_knn(x: Tensor) -> Any:
    from flashlib import flash_knn

    return flash_knn(x, x, K + 1)


PEERS = {
    "torch": ("torch", torch_knn),
    "faiss-gpu": ("faiss", faiss_knn),
    "cuVS": ("cuvs", cuvs_knn),
    "FlashLib": ("flashlib", flashlib_knn),
}


def peers() -> tuple[dict[str, Callable[..., Any]], list[str]]:
    """(those that can run, those that are not installed)."""
    there = {name: run for name, (module, run) in PEERS.items() if importlib.util.find_spec(module)}
    if "faiss-gpu" in there:
        import faiss

        if not hasattr(faiss, "StandardGpuResources"):
            del there["faiss-gpu"]
    return there, [name for name in PEERS if name not in there]


def cases(device: torch.device, rivals: dict[str, Callable[..., Any]]) -> Iterator[Case]:
    generator = torch.Generator().manual_seed(0)
    for n, d in SIZES:
        x = torch.randn(n, d, generator=generator)
        x[:, 0] += 30
        some = x[:: n // CHECKED][:CHECKED]
        wanted = mf.knn(some, K, x).indices

        def right(found: Any, wanted: Tensor = wanted, n: int = n) -> bool:
            mine = found.indices[:: n // CHECKED][:CHECKED].cpu()
            return torch.equal(mine[:, : K - 1], wanted[:, 1:])  # the query itself comes first there

        yield Case(f"knn {n} x {d}", (x.to(device),), lambda x: mf.knn(x, K), rivals, right)
        reach = mf.knn(some, K, x).distances[:, -1].median()
        counted = mf.radius_count(some, float(reach), x) - 1

        def same(found: Tensor, counted: Tensor = counted, n: int = n) -> bool:
            return torch.equal(found[:: n // CHECKED][:CHECKED].cpu(), counted)

        yield Case(
            f"radius_count {n} x {d}",
            (x.to(device),),
            lambda x, reach=float(reach): mf.radius_count(x, reach),
            {},
            same,
        )
    x, y = torch.randn(2, *PAIRED, generator=generator)
    mi, distances = mf.ksg_mi(x, y, 3, metric="euclidean"), mf.pairwise_distances(x)
    size = "{} x {}".format(*PAIRED)
    yield Case(
        f"ksg_mi {size}", (x.to(device), y.to(device)), lambda x, y: mf.ksg_mi(x, y, 3, metric="euclidean"), {},
        lambda found: abs(float(found) - float(mi)) < 1e-12,
    )  # fmt: skip
    yield Case(
        f"pairwise_distances {size}", (x.to(device),), mf.pairwise_distances, {"torch": lambda x: torch.cdist(x, x)},
        lambda found: torch.allclose(found.cpu(), distances, rtol=2e-6, atol=0.0),
    )  # fmt: skip


def seconds(run: Callable[..., Any], inputs: tuple[Tensor, ...]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run(*inputs)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def raced(case: Case) -> dict[str, Any]:
    """Rounds in which everybody runs once; medians, and the median of the ratios within a round."""
    contenders = {"msma_fast": case.ours, **case.peers}
    failed = {}
    for name, run in list(contenders.items()):
        try:
            for _ in range(2):
                run(*case.inputs)
        except Exception as error:  # a peer's own trouble is a line of the report
            failed[name] = f"{type(error).__name__}: {error}"
            del contenders[name]
    rounds = [{name: seconds(run, case.inputs) for name, run in contenders.items()} for _ in range(ROUNDS)]
    medians = {name: statistics.median(each[name] for each in rounds) for name in contenders}
    ratios = {
        name: statistics.median(each[name] / each["msma_fast"] for each in rounds)
        for name in contenders
        if "msma_fast" in contenders
    }
    return {"seconds": medians, "peer_over_ours": ratios, "failed": failed}


def tested(folder: Path) -> dict[str, Any]:
    """The folder's tests in a process that compiles kernels: how many there were, and the names of those that failed."""
    log = RESULTS.with_name("gpu-tests.xml")
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={log}", str(folder)]
    status = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "0"}).returncode
    cases = list(ElementTree.parse(log).iter("testcase")) if log.exists() else []
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {
        "passed": len(cases) - len(failed) - skipped,
        "skipped": skipped,
        "failed": [f"{case.get('classname')}::{case.get('name')}" for case in failed],
        "exit_status": status,
    }


def main() -> int:
    if not torch.cuda.is_available():
        print("gpu-check: expected a CUDA GPU that this torch can use, found none")
        return 2
    device = torch.device("cuda")
    tests = tested(TESTS)
    faults = "; ".join(filter(None, (fault(backend.operations(), op, device) for op in planted())))
    rivals, missing = peers()
    report: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(device),
        "capability": "sm_{}{}".format(*torch.cuda.get_device_capability(device)),
        "torch": torch.__version__,
        "tests": tests,
        "planted": faults or "right",
        "missing_peers": missing,
        "cases": [],
    }
    wrong = bool(faults) or tests["exit_status"] != 0
    prepared = list(cases(device, rivals))  # answered by the CPU
    with mf.use_backend("triton") if not faults else mf.use_backend("torch"):
        for case in prepared:
            right = case.right(case.ours(*case.inputs))
            wrong |= not right
            record = {"case": case.name, "right": right} | (raced(case) if right else {})
            report["cases"].append(record)
            print(record, flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(
        f"tests: {tests['passed']} passed, {len(tests['failed'])} failed; planted problems: {report['planted']}; {RESULTS}"
    )
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
