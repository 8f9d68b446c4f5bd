"""Ways to break triton_kernels/knn.py."""

TEST = "test_knn.py"
MUTATIONS = [
    ("a lower bound as an upper one", "upper = g + margin", "upper = g - margin"),
    ("an upper bound as a lower one", "lower = g - margin", "lower = g + margin"),
    ("overflowing lists", "mask=keep & (place < limit)", "mask=keep"),
    ("place in the list", "tl.cumsum(kept, axis=1) - kept", "tl.cumsum(kept, axis=1)"),
    ("largest bin", "keep & (upper < best)", "keep & (upper > best)"),
]
