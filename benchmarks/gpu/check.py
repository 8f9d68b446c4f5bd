"""`make gpu-check`, on a machine with a CUDA GPU: tests, planted problems, larger data, timings; into build/gpu-check.json.

The tests are python_tests/triton, with the kernels launched on the GPU. Answers to larger data (cases.py) are compared with
the native or torch backend on the CPU before anything is timed; a wrong one, or one that the kernels do not give, is reported
and has no time. Peers that are not installed are named as missing. Exit status 1 where a test fails or an answer is wrong,
2 without a GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import msma_fast as mf
from benchmarks.gpu.cases import Case, K, cases
from msma_fast.backends import triton as backend
from msma_fast.backends.triton_check import fault, planted

RESULTS = Path("build/gpu-check.json")
TESTS = Path("python_tests/triton")
ROUNDS = 9
DEVICE = torch.device("cuda")


def torch_knn(x: Tensor) -> Tensor:
    """Blocks of torch.cdist and topk; as every peer of knn, indices (n, K + 1) with the row itself among them."""
    rows = max(1, (1 << 28) // x.shape[0])
    return torch.cat([torch.cdist(block, x).topk(K + 1, dim=1, largest=False).indices for block in x.split(rows)])


@cache
def faiss_resources() -> Any:
    """Its streams and its scratch memory, made once: no part of a search."""
    import faiss

    return faiss.StandardGpuResources()


def faiss_knn(x: Tensor) -> Any:
    import faiss
    import faiss.contrib.torch_utils  # tensors as arguments

    return faiss.knn_gpu(faiss_resources(), x, x, K + 1)[1]


def cuvs_knn(x: Tensor) -> Any:
    from cuvs.neighbors import brute_force

    return torch.as_tensor(brute_force.search(brute_force.build(x, metric="sqeuclidean"), x, K + 1)[1], device=x.device)


def flashlib_knn(x: Tensor) -> Any:
    from flashlib import flash_knn

    return flash_knn(x, x, K + 1)[1]


PEERS = {
    "torch": ("torch", torch_knn),
    "faiss-gpu": ("faiss", faiss_knn),
    "cuVS": ("cuvs", cuvs_knn),
    "FlashLib": ("flashlib", flashlib_knn),
}


def peers() -> tuple[dict[str, Callable[..., Any]], list[str]]:
    """(those of knn that can run, those that are not installed)."""
    there = {name: run for name, (module, run) in PEERS.items() if importlib.util.find_spec(module)}
    if "faiss-gpu" in there:
        import faiss

        if not hasattr(faiss, "StandardGpuResources"):
            del there["faiss-gpu"]
    return there, [name for name in PEERS if name not in there]


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
    report = {"seconds": medians, "peer_over_ours": ratios, "failed": failed}
    if case.share is not None:
        report["share_right"] = {name: case.share(run(*case.inputs)) for name, run in contenders.items()}
    return report


def answered(case: Case) -> dict[str, Any]:
    """The record of one case: whether the kernels' answer is right, and times where it is."""
    try:
        right = case.right(case.ours(*case.inputs))
    except Exception as error:  # a kernel that does not compile or launch, or a backend that does not serve the device
        return {"case": case.name, "right": False, "error": f"{type(error).__name__}: {error}"}
    return {"case": case.name, "right": right} | (raced(case) if right else {})


def tested(folder: Path) -> dict[str, Any]:
    """The folder's tests in a process that compiles kernels: how many there were, and the names of those that failed."""
    log = RESULTS.with_name("gpu-tests.xml")
    log.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", f"--junit-xml={log}", str(folder)]
    if importlib.util.find_spec("xdist"):  # most of the time is spent compiling
        command += ["-n", str(min(os.cpu_count() or 1, 14))]
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
    RESULTS.parent.mkdir(exist_ok=True)
    tests = tested(TESTS)
    faults = "; ".join(filter(None, (fault(backend.operations(), op, DEVICE) for op in planted())))
    rivals, missing = peers()
    report: dict[str, Any] = {
        "gpu": torch.cuda.get_device_name(DEVICE),
        "capability": "sm_{}{}".format(*torch.cuda.get_device_capability(DEVICE)),
        "torch": torch.__version__,
        "tests": tests,
        "planted": faults or "right",
        "missing_peers": missing,
        "cases": [],
    }
    wrong = bool(faults) or tests["exit_status"] != 0
    prepared = list(cases(DEVICE, rivals))  # answered by the CPU
    with mf.use_backend("triton"):  # or an error: nobody else is timed under this name
        for case in prepared:
            record = answered(case)
            wrong |= not record["right"]
            report["cases"].append(record)
            print(record, flush=True)
            RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(
        f"tests: {tests['passed']} passed, {len(tests['failed'])} failed; planted problems: {report['planted']}; {RESULTS}"
    )
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
