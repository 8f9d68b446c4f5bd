"""Triton kernels, one file per op; installed as msma_fast.triton_kernels. This release has none yet."""
