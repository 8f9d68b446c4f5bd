"""Ways to break triton_kernels/screen.py."""

TEST = "test_knn.py"
MUTATIONS = [
    ("the query itself", "> window) | (own", ">= window) | (own"),
    ("labels", "(label[:, None] != other[None, :])", "(label[:, None] == other[None, :])"),
    ("points beyond the end", "keep = (cols < m)[None, :]", "keep = (cols <= m)[None, :]"),
    ("half the product", "c[None, :] - 2.0 * dot,", "c[None, :] - 1.0 * dot,"),
]
