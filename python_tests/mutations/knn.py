"""Ways to break triton_kernels/knn.py."""

TEST = "test_knn.py"
MUTATIONS = [
    ("a lower bound as an upper one", "upper = upper + far_i", "upper = upper - 9 * far_i"),
    ("an upper bound as a lower one", "lower = lower - far_i", "lower = lower + far_i"),
    ("margins of residuals as bounds", "lower = lower - near_i", "lower = lower + near_i"),
    (
        "half the product",
        "lower = tl.load(c_ptr + cols)[None, :] - 2.0 * dot",
        "lower = tl.load(c_ptr + cols)[None, :] - dot",
    ),
    ("largest bin", "& (upper < best)", "& (upper > best)"),
    ("overflowing lists", "hit = hit & (place < limit)", "hit = hit & (place <= limit)"),
    (
        "number of a word",
        "group = start // WORD + tl.arange(0, words)",
        "group = start // WORD + tl.zeros_like(tl.arange(0, words))",
    ),
    ("a bound of the query itself", 'low = tl.where((word & gone) == 0, low, float("-inf"))', "low = low + 0"),
    ("labels", 'cols)[None, :], lower, float("inf"))', "cols)[None, :], lower, lower)"),
    ("shares of the points", "(split + 1) * share), BLOCK_M):", "split * share), BLOCK_M):"),
]
