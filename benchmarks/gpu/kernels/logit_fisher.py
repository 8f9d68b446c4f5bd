"""The sums of the Fisher metric of a read-out: weights of every dtype, d a multiple of 16 or not."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Tiling, Variant
from msma_fast.triton_kernels import logit_fisher as kernels

_FLOATS = ["h", "center", "bias", "log", "v", "best", "total", "origin", "mean", "square"]
_TYPES = {f"{name}_ptr": "*fp32" for name in _FLOATS} | {"top_ptr": "*i32"} | dict.fromkeys(kernels.SIZES, "i32")
_TILING = Tiling(("ROWS", "BLOCK"))


def variants() -> Iterator[Variant]:
    for dtype, vector in (("bf16", 16), ("fp32", 16), ("fp16", 16), ("fp32", 1), ("bf16", 1)):
        types = _TYPES | {"weight_ptr": f"*{dtype}"}
        flags = {"BIAS": vector == 16, "VECTOR": vector}
        label, slow = f"{dtype} vector={vector}", dtype == "fp16" or (dtype == "bf16" and vector == 1)
        for bias in (True, False):
            yield Variant(
                "logit_fisher", f"{label} bias={bias}", kernels.normalizer_kernel, types, flags | {"BIAS": bias},
                kernels.configurations(kernels.NORMALIZER, vector), kernels.normalizer_needs, tensor_core=True,
                tiling=_TILING, slow=slow or bias != (vector == 16),
            )  # fmt: skip
        yield Variant(
            "logit_fisher", label, kernels.quadratic_kernel, types, flags,
            kernels.configurations(kernels.QUADRATIC, vector), kernels.quadratic_needs, tensor_core=True,
            tiling=_TILING, slow=slow,
        )  # fmt: skip
