"""Ways to break triton_kernels/ksg_exact.py."""

TEST = "test_ksg.py"
MUTATIONS = [
    ("largest bin of a tile", "best = tl.minimum(best, tl.where", "best = tl.maximum(best, tl.where"),
    ("places in a tile's lists", "tl.cumsum(found, axis=1) - found", "tl.cumsum(found, axis=1)"),
    ("the lower half of a bound", "<< 32) | 0xFFFFFFFF).view", "<< 32) | 0).view"),
    ("rows that do not exist", 'value=float("nan")', "value=0.0"),
    ("width of a side", "x = y = max(x, y)", "pass"),
    ("a column of a word", "* WORD.value + bit", "* WORD.value + bit + 1"),
]
