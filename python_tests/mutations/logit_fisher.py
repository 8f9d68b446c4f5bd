"""Ways to break triton_kernels/logit_fisher.py."""

TEST = "test_logit_fisher_kernel.py"
MUTATIONS = [
    ("rows not centred", "- tl.load(center_ptr + k, mask=k < d, other=0.0)[None, :]", ""),
    ("tokens beyond the end", 'tl.where((t < size)[None, :], dot, float("-inf"))', "dot"),
    ("products in one TF32", 'PRECISION = tl.constexpr("tf32x3")', 'PRECISION = tl.constexpr("tf32")'),
    ("no bias", "if BIAS:", "if not BIAS:"),
    ("the top token kept", "tl.where(t[None, :] == top[:, None], 0.0, ", "tl.where(t[None, :] < 0, 0.0, "),
    ("squares of no array", "w *= tl.where(squared, w, 1.0)", "w *= 1.0"),
    ("nothing added up", "tl.dot(q, w, sums,", "tl.dot(q, w, 0.0 * sums,"),
    ("last coordinates of a sum", "for start in range(0, d, WIDE):", "for start in range(0, d - 1, WIDE):"),
    ("last coordinates of a product", "for start in range(0, d, BLOCK_D):", "for start in range(0, d - 1, BLOCK_D):"),
    ("a maximum that does not rise", "raised = tl.maximum(best, largest)", "raised = largest"),
    (
        "the first top token",
        "tl.where(largest > best, token + where, top)",
        "tl.where(tile == first, token + where, top)",
    ),
    ("top of another block", "token + where, top)", "where, top)"),
    (
        "the last share's normaliser",
        "at = tl.cast(share, tl.int64) * n + i\n    tl.store(best_ptr",
        "at = i\n    tl.store(best_ptr",
    ),
    ("no origin", "u -= origin[:, None]", "u = u"),
    ("square of u alone", "square += tl.sum(q * u, axis=1)", "square += tl.sum(u * u, axis=1)"),
    ("S0 of one block", "s0 += tl.sum(q, axis=1)", "s0 = tl.sum(q, axis=1)"),
    ("norms of another token", "tl.load(beside_ptr + token + t, mask", "tl.load(beside_ptr + t, mask"),
    (
        "columns of another block",
        "column = column_ptr + tl.cast(block, tl.int64) * size",
        "column = column_ptr + 0 * size",
    ),
    ("one vector for all", "at = tl.cast(array - 1, tl.int64) * n", "at = tl.cast(0, tl.int64) * n"),
    ("an array of another share", "own = (share * arrays + array) * n", "own = array * n"),
    ("a wrong length", "return self.weight.shape[1] // self.vector()", "return self.weight.shape[1] // 16"),
    ("blocks left out", "return triton.cdiv(tiles, each), each", "return tiles // each, each"),
    ("no limit of memory", "room // kept))", "tiles))"),
    ("shares not weighed", "(total * (best - largest).exp()).sum(0)", "total.sum(0)"),
]
