"""Ways to break triton_kernels/fisher_rao.py."""

TEST = "test_fisher_rao_kernel.py"
MUTATIONS = [
    ("no root", "[:, None]) * 0.5))", "[:, None])))"),
    ("always the first tokens", "token = begin + column", "token = column"),
    ("roots of another block", "tokens * BLOCK + column\n", "tokens * BLOCK\n"),
    ("roots of the next row", "at = at + (i[:, None] * (tokens * BLOCK)", "at = at + (i[:, None] * tokens"),
    ("tiles that cross the diagonal", "column + BLOCK_M <= row", "column <= row - 1"),
    ("the last part alone", "tl.load(out_ptr + at, mask=keep, other=0.0) + dot", "dot"),
    ("half of the steps", "for _ in range(0, steps):", "for _ in range(0, (steps + 1) // 2):"),
    ("rows beyond the end", "keep = (row + i < n)[:, None]", "keep = (row + i >= 0)[:, None]"),
    ("one side for both", "slabs[0], slabs[-1], out", "slabs[0], slabs[0], out"),
    ("parts left out", "range(0, read.tokens, blocks", "range(0, min(read.tokens, 64), blocks"),
    ("the whole vocabulary at once", "blocks = triton.cdiv(min(size, read.tokens)", "blocks = triton.cdiv(read.tokens"),
]
