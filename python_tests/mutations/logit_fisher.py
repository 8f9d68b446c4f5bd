"""Ways to break triton_kernels/logit_fisher.py."""

TEST = "test_logit_fisher_kernel.py"
MUTATIONS = [
    ("rows not centred", "- tl.load(center_ptr + k, mask=k < d, other=0.0)[None, :]", ""),
    ("tokens beyond the end", 'tl.where((t < size)[None, :], dot, float("-inf"))', "dot"),
    ("products in one TF32", 'PRECISION = tl.constexpr("tf32x3")', 'PRECISION = tl.constexpr("tf32")'),
    ("no bias", "if BIAS:", "if not BIAS:"),
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
    ("square of u alone", "square += tl.sum(p * u, axis=1)", "square += tl.sum(u * u, axis=1)"),
    ("a wrong length", "return self.weight.shape[1] // self.vector()", "return self.weight.shape[1] // 16"),
    ("blocks left out", "return triton.cdiv(tiles, each), each", "return tiles // each, each"),
    ("shares not weighed", "(total * (best - largest).exp()).sum(0)", "total.sum(0)"),
]
