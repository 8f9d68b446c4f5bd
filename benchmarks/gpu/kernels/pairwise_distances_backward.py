"""Gradients of all distances: every form of a sum over the other side."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.variants import Variant
from msma_fast.triton_kernels import pairwise_distances_backward as kernels
from msma_fast.triton_kernels.resources import EXACT

_FORMS = [("difference", "fp32"), ("difference", "fp64"), ("sign", "fp32"), ("sign", "fp64")]
_FORMS += [(form, "fp64") for form in ("largest", "power", "kl first", "kl second", "jensen_shannon")]
_TYPES = {"p_ptr": "*fp64", "out_ptr": "*fp64"} | dict.fromkeys(("n", "m", "d"), "i32")


def variants() -> Iterator[Variant]:
    for form, dtype in _FORMS:
        types = _TYPES | dict.fromkeys(("x_ptr", "y_ptr", "weight_ptr", "second_ptr"), f"*{dtype}")
        tiles, needs = kernels.configurations(form, torch.float32 if dtype == "fp32" else torch.float64)
        for add in (False, True):
            yield Variant(
                "pairwise_distances", f"{form} {dtype} add={add}", kernels.pull_kernel, types, {"FORM": form, "ADD": add},
                tiles, needs, slow=dtype == "fp64" or add,
            )  # fmt: skip
    types = dict.fromkeys(("x_ptr", "y_ptr", "top_ptr"), "*fp64") | {
        "out_ptr": "*i32",
        "n": "i32",
        "m": "i32",
        "d": "i32",
    }
    yield Variant(
        "pairwise_distances", "fp64", kernels.ties_kernel, types, {}, kernels.TIES, kernels.ties_needs, options=EXACT
    )
