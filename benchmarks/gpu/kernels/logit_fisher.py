"""The sums of the Fisher metric of a read-out: every form, weights of every dtype, d a multiple of 16 or not."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import logit_fisher as kernels

_FLOATS = ("h_ptr", "center_ptr", "bias_ptr", "log_ptr", "v_ptr", "beside_ptr", "s0_ptr", "scalar_ptr", "column_ptr", "out_ptr")
_FLOATS += ("best_ptr", "total_ptr", "origin_ptr", "mean_ptr", "square_ptr")
TYPES = dict.fromkeys(_FLOATS, "*fp32") | {"top_ptr": "*i32"} | dict.fromkeys(kernels.SIZES, "i32")


def variants() -> Iterator[Variant]:
    for dtype, vector in (("bf16", 16), ("fp32", 16), ("fp16", 16), ("fp32", 1), ("bf16", 1)):
        types = TYPES | {"weight_ptr": f"*{dtype}"}
        flags = {"BIAS": vector == 16, "VECTOR": vector}
        label, slow = f"{dtype} vector={vector}", dtype == "fp16" or (dtype == "bf16" and vector == 1)
        yield Variant(
            "logit_fisher", label, kernels.normalizer_kernel, types, flags,
            kernels.NORMALIZER, kernels.normalizer_needs, tensor_core=True, slow=slow,
        )  # fmt: skip
        yield Variant(
            "logit_fisher", label, kernels.quadratic_kernel, types, flags,
            kernels.QUADRATIC, kernels.quadratic_needs, tensor_core=True, slow=slow,
        )  # fmt: skip
        for form in ("product", "diagonal", "trace", "mean"):
            yield Variant(
                "logit_fisher", f"{form} {label}", kernels.sums_kernel, types, flags | {"FORM": form},
                kernels.SUMS, kernels.sums_needs, tensor_core=True, slow=slow or form in ("trace", "mean") or vector == 1,
            )  # fmt: skip
