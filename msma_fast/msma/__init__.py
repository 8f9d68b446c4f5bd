"""Multi-Scale Manifold Alignment on top of the engine: the layer analysis behind `msma-fast analyze`."""

from msma_fast.msma.analysis import Settings, analyze
from msma_fast.msma.preview import preview

__all__ = ["Settings", "analyze", "preview"]
