"""One case: gate, faults of the peers, race, record. A red gate raises before anything is timed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks import data, memory
from benchmarks.case import Case, Contender, Judge
from benchmarks.race import YARDSTICK_FLOPS, Race, gemm_equivalents, ratio
from msma_fast.backends import native
from msma_fast.bench import interval

# drive(run, inputs, before_each_round, rounds) -> seconds of each round
Drive = Callable[[Callable[..., Any], tuple[Any, ...], Callable[[], None], int], Sequence[float]]


class RedGate(AssertionError):
    """Our answer is wrong: there is no number to report."""


def rounds_of(case: Case) -> int:
    """Seven rounds give a 98 % interval of the median from the whole range; a slow case has to do with five (94 %)."""
    if data.QUICK:
        return 3
    return 5 if case.slow else 7


def measure(case: Case, drive: Drive) -> dict[str, Any]:
    """The record of a case, JSON-able. Raises RedGate."""
    inputs = case.inputs()
    judge = case.judge(*inputs)
    ours, *peers = case.contenders
    entries = {ours.name: _checked_run(case, ours, inputs, judge)}
    ready = []
    for peer in peers:
        entry = entries[peer.name] = _first_run(case, peer, inputs, judge)
        if entry["status"] == "ok":
            ready.append(peer)
    race = Race(ready, inputs, yardsticks=_yardsticks(case))
    seconds = list(drive(ours.run, inputs, race.others, rounds_of(case)))
    for name, times in {ours.name: seconds, **race.seconds}.items():
        entries[name] |= {"seconds": times, "median": interval(times).median}
        if name != ours.name:
            entries[name]["ratio"] = ratio(times, seconds)._asdict()
    if case.memory:
        for contender in (ours, *ready):
            entries[contender.name]["peak_mib"] = memory.measured(case, contender)
    record: dict[str, Any] = {
        "op": case.op,
        "case": case.name,
        "slow": case.slow,
        "cap": os.environ.get("MSMA_FAST_CPU"),
    }
    record |= {"rounds": len(seconds), "threads": torch.get_num_threads(), "contenders": list(entries.values())}
    if case.flops is not None:
        record["gemm"] = {
            precision: {
                "gflops": YARDSTICK_FLOPS / interval(times).median / 1e9,
                "equivalents": gemm_equivalents(case.flops, seconds, times)._asdict(),
            }
            for precision, times in race.yardsticks.items()
        }
    return record


def _yardsticks(case: Case) -> list[str]:
    """Precisions of torch's matrix products that our rate is compared with. Below AVX-512 our products of eight bits are
    done in sixteen, for which torch has none."""
    if case.flops is None:
        return []
    eight = native.available()[0] and native.instruction_set() in ("avx512", "amx")
    ours = case.precision if eight else "float32"
    return list(dict.fromkeys(["float32", ours]))


def _checked_run(case: Case, ours: Contender, inputs: tuple[Any, ...], judge: Judge) -> dict[str, Any]:
    answer = ours.answer(ours.run(*inputs))
    reason = judge.gate(answer)
    if reason:
        raise RedGate(f"{case.op}, {case.name}: no number, the answer is wrong: {reason}")
    return {"name": ours.name, "status": "ok", "fault": judge.fault(answer).json()}


def _first_run(case: Case, peer: Contender, inputs: tuple[Any, ...], judge: Judge) -> dict[str, Any]:
    """The peer's entry: its faults, or why it has no number. This run also warms it up."""
    missing = peer.missing()
    if missing:
        return {"name": peer.name, "status": "missing", "reason": missing}
    try:
        answer = peer.answer(peer.run(*inputs))
    except Exception as error:  # a peer may fail in its own ways; the others still count
        return {"name": peer.name, "status": "failed", "reason": f"{type(error).__name__}: {error}"[:300]}
    entry: dict[str, Any] = {"name": peer.name, "status": "ok"}
    if case.judged:
        entry["fault"] = judge.fault(answer).json()
    return entry
