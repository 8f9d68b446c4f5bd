"""Fisher information of language models."""

from msma_fast.fisher.empirical import empirical

__all__ = ["empirical"]
