"""Ways to break triton_kernels/packed.py."""

TEST = "test_gaussian_kernel_sums.py"
MUTATIONS = [
    ("a sum for a difference", "[:, None] - tl.load(y_ptr + at", "[:, None] + tl.load(y_ptr + at"),
    ("no square", "total += a * a", "total += a"),
    ("last coordinates", "range(0, d, 8)", "range(0, d - 8, 8)"),
    ("one coordinate too few", "tl.static_range(8)", "tl.static_range(7)"),
    ("row in its block", "* d * BLOCK + row % BLOCK", "* d * BLOCK"),
    ("the first block for all", "row // BLOCK, tl.int64", "0 * row, tl.int64"),
    ("last row", "(i < n)[:, None]", "(i < n - 1)[:, None]"),
    ("columns beyond the end", "(j < m)[None, :]", "(j <= m)[None, :]"),
    ("the row itself", "i[:, None] < j[None, :]", "i[:, None] <= j[None, :]"),
    ("rows left over", "if whole < blocks:", "if False:"),
    (
        "whole blocks out of order",
        "unflatten(0, (whole, block)).transpose(1, 2)",
        "unflatten(0, (block, whole)).permute(1, 2, 0)",
    ),
    ("a share too few", "return triton.cdiv(blocks, each), each", "return blocks // each, each"),
]
