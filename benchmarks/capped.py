"""Older instruction sets: the environment that holds us and every peer to one.

numpy and scipy call OpenBLAS, whose kernels are named after processors; torch has its own kernels, MKL and oneDNN.
"""

from __future__ import annotations

from msma_fast.backends import native

_LEVELS = ("scalar", "avx2", "avx512", "amx")
ENVIRONMENT = {
    "avx512": {
        "MSMA_FAST_CPU": "avx512",
        "FAISS_SIMD_LEVEL": "AVX512",
        "OPENBLAS_CORETYPE": "SkylakeX",
        "ATEN_CPU_CAPABILITY": "avx512",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
    },
    "avx2": {
        "MSMA_FAST_CPU": "avx2",
        "FAISS_SIMD_LEVEL": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    },
}


def below() -> list[str]:
    """The levels that are truly older than what is used here; none without the compiled module."""
    if not native.available()[0]:
        return []
    used = _LEVELS.index(native.instruction_set())
    return [level for level in ENVIRONMENT if _LEVELS.index(level) < used]
