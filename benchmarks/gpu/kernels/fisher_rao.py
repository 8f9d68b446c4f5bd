"""Fisher-Rao affinities of a read-out's token distributions."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Tiling, Variant
from msma_fast.triton_kernels import fisher_rao as kernels

_TYPES = dict.fromkeys(("h_ptr", "center_ptr", "bias_ptr", "log_ptr", "out_ptr", "x_ptr", "y_ptr"), "*fp32")
_TYPES |= dict.fromkeys(("n", "m", "size", "width", "begin", "tokens", "steps"), "i32")


def variants() -> Iterator[Variant]:
    for dtype, vector in (("bf16", 16), ("fp32", 16), ("fp16", 16), ("fp32", 1), ("bf16", 1)):
        for bias in (True, False):
            yield Variant(
                "fisher_rao", f"{dtype} vector={vector} bias={bias}", kernels.roots_kernel,
                _TYPES | {"weight_ptr": f"*{dtype}"}, {"BIAS": bias, "VECTOR": vector},
                kernels.configurations(kernels.ROOTS, vector), kernels.roots_needs, tensor_core=True,
                tiling=Tiling(("ROWS", "BLOCK"), depth=1), slow=dtype == "fp16" or vector == 1 or not bias,
            )  # fmt: skip
    for own in (True, False):
        yield Variant(
            "fisher_rao", f"self={own}", kernels.affinity_kernel, _TYPES, {"SELF": own},
            kernels.AFFINITY, kernels.affinity_needs, tensor_core=True,
            tiling=Tiling(step="BLOCK_T", depth=1), slow=own,
        )  # fmt: skip
