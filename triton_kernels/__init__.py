"""Triton kernels, one file per op; installed as msma_fast.triton_kernels. They import torch and triton only."""
