"""All distances: direct float32 sums, and canonical keys with the distance of a key."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import pairwise_distances as kernels
from msma_fast.triton_kernels.resources import EXACT

_DIRECT = [("sqeuclidean", True), ("sqeuclidean", False), ("manhattan", False), ("chebyshev", False)]
_CANONICAL = [
    ("sqeuclidean", 0, "root"),
    ("sqeuclidean", 0, "hellinger"),
    ("sqeuclidean", 0, "half root"),
    ("minkowski", 3, "power"),
    ("minkowski", 1, "key"),
    ("chebyshev", 0, "key"),
    ("inner_product", 0, "key"),
    ("cosine", 0, "key"),
    ("mahalanobis", 0, "root"),
    ("kl", 0, "key"),
    ("jensen_shannon", 0, "root"),
    ("power", 1.5, "power"),
]
_QUICK = {"root", "key"}
_TYPES = {"norm_x_ptr": "*fp64", "norm_y_ptr": "*fp64", "tensor_ptr": "*fp64", "n": "i32", "m": "i32", "d": "i32"}


def variants() -> Iterator[Variant]:
    for kind, root in _DIRECT:
        for own in (True, False):
            types = _TYPES | dict.fromkeys(("x_ptr", "y_ptr", "out_ptr"), "*fp32")
            yield Variant(
                "pairwise_distances", f"{kind} root={root} self={own}", kernels.direct_kernel, types,
                {"KIND": kind, "ROOT": root, "SELF": own}, kernels.DIRECT, kernels.direct_needs,
                lacks=("DADD", "DFMA", "DMUL", "F2F"), slow=own and not root,
            )  # fmt: skip
    for kind, p, form in _CANONICAL:
        for dtype, out, own in (("fp32", "fp32", True), ("fp64", "fp64", False)):
            if kind in ("kl", "power") and own:
                own = False
            types = _TYPES | {"x_ptr": f"*{dtype}", "y_ptr": f"*{dtype}", "out_ptr": f"*{out}"}
            # logarithms and the division of float64 are made of fused operations
            lacks = ("DFMA",) if form == "key" and kind not in ("cosine", "kl") else ()
            yield Variant(
                "pairwise_distances", f"{kind} {p} {form} {dtype}", kernels.canonical_kernel, types,
                {"KIND": kind, "P": p, "FORM": form, "SELF": own, "ZERO": own}, kernels.CANONICAL,
                kernels.canonical_needs, options=EXACT, lacks=lacks, slow=dtype == "fp64" or form not in _QUICK,
            )  # fmt: skip
