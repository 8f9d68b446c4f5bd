"""Ways to break triton_kernels/screen.py."""

TEST = "test_knn.py"
MUTATIONS = [
    ("the query itself", "> (2 * window).to(tl.uint32)", ">= (2 * window).to(tl.uint32)"),
    ("window", "((own + window)[:, None]", "(own[:, None]"),
    ("labels", "(label[:, None] != tl.load(label_ptr + cols)[None, :])", "(label[:, None] == label[:, None])"),
    ("columns after the first block", "        left += BLOCK_D\n", ""),
    ("first point of a tile", "tl.cast(col, tl.int64) * d", "tl.cast(col, tl.int64) * 0"),
    ("a descriptor's columns", "p_ptr.load([col, t])", "p_ptr.load([col, 0])"),
    ("points in a word", "bit[None, None, :], 0)", "1, 0)"),
    ("the query itself, after its bit", "last = first + 2 * window", "last = first + 2 * window - 1"),
    ("the window, before its first bit", "WORD * group[None, :]\n", "WORD * group[None, :] + 1\n"),
]
