"""`make gpu-report`: what machine code says of the GPU kernels; build/gpu-report.json, .html and build/cubins/."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu import bound, cuda, page
from benchmarks.gpu.compiled import ARCHITECTURES, compiled
from benchmarks.gpu.variants import TENSOR_CORE, ops, variants

BUILD = Path("build")
WIDTH = 576  # coordinates, where a figure depends on them


def kernels(everything: bool) -> Iterator[dict[str, Any]]:
    """One record a variant, configuration and architecture, or those of the variants that `make test` compiles; the cubin is
    kept under the record's name."""
    folder = BUILD / "cubins"
    folder.mkdir(parents=True, exist_ok=True)
    for variant in variants():
        if variant.slow and not everything:
            continue
        for architecture in ARCHITECTURES:
            for place, configuration in enumerate(variant.fitting(architecture)):
                found = compiled(variant, configuration, architecture)
                words = "".join(character if character.isalnum() else "_" for character in variant.name)
                cubin = folder / f"{words}.{place}.sm_{architecture}.cubin"
                cubin.write_bytes(found.cubin)
                yield {
                    "op": variant.op,
                    "kernel": variant.name,
                    "language": "triton",
                    "arch": f"sm_{architecture}",
                    "default": place == 0,
                    "d": WIDTH,
                    "blocks": configuration.blocks,
                    "warps": configuration.warps,
                    "registers": found.registers,
                    "spill_bytes": found.spilled,
                    "shared_bytes": found.shared,
                    "occupancy": bound.occupancy(found, configuration, architecture),
                    "tensor_core": TENSOR_CORE[architecture] in found.sass,
                    "instructions_per_entry": bound.per_entry(variant, configuration, found, WIDTH)
                    if variant.tiling
                    else None,
                    "cubin": str(cubin),
                }


def records_of_ops() -> Iterator[dict[str, Any]]:
    for architecture in ARCHITECTURES:
        for op in (*ops(architecture), *(cuda.ops(architecture) if cuda.available() else ())):
            alone, overlapped = op.shares()
            glued, glued_overlapped = op.shares(glue=True) if op.glue else (None, None)
            yield {
                "op": op.op,
                "arch": f"sm_{architecture}",
                "n": op.n,
                "m": op.m,
                "d": op.d,
                "k": op.k,
                "bound_share": alone,
                "bound_share_overlapped": overlapped,
                "bound_share_with_glue": glued,
                "bound_share_overlapped_with_glue": glued_overlapped,
                "glue": op.glue,
                "bound": op.bound,
                "passes": [each._asdict() for each in op.passes],
            }


def main() -> None:
    report = {"kernels": list(kernels("--all" in sys.argv[1:])), "ops": list(records_of_ops())}
    if cuda.available():
        report["kernels"] += cuda.records(BUILD / "cubins")
    else:
        print("csrc/cuda is left out: there is no nvcc, or no c++filt.")
    (BUILD / "gpu-report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (BUILD / "gpu-report.html").write_text(page.html(report), encoding="utf-8")
    print(page.text(report))
    print(f"\n{BUILD}/gpu-report.json, {BUILD}/gpu-report.html, {BUILD}/cubins/")


if __name__ == "__main__":
    main()
