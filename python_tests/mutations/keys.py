"""Ways to break triton_kernels/keys.py."""

TEST = "test_keys.py"
MUTATIONS = [
    ("sign of the inner product", "result = 0.0 - total", "result = 0.0 + total"),
    ("order of the lanes", "((l0 + l4) + (l2 + l6)) + ((l1", "((l0 + l2) + (l4 + l6)) + ((l1"),
    ("last coordinate", "tl.int32) < d", "tl.int32) < d - 1"),
    ("norm left out", "total / (norm_x * norm_y)", "total / norm_x"),
    ("equal rows", "result = tl.where(equal, 0.0, result)", "result = result"),
    ("one power too few", "tl.static_range(P - 1)", "tl.static_range(P - 2)"),
    ("last row", "row_keep, col_keep = rows < n, cols < m", "row_keep, col_keep = rows < n - 1, cols < m"),
    ("pairs beyond the end", "keep = at < pairs", "keep = at < pairs + 1"),
    ("NaN lost", "propagate_nan=tl.PropagateNan.ALL", "propagate_nan=tl.PropagateNan.NONE"),
]
