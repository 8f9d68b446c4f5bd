"""Ways to break triton_kernels/narrow.py."""

TEST = "test_narrow.py"
MUTATIONS = [
    ("negative numbers in order", "tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)", "bits"),
    ("points that do not exist", "(listed >> 32).to(tl.int32) & real", "(listed >> 32).to(tl.int32)"),
    ("lists that are not complete", "count = tl.where(count > limit, 0, count)", "count = tl.minimum(count, limit)"),
    ("a bound that cannot be told", 'known = (tl.abs(low) < float("inf"))', 'known = (low < float("inf"))'),
    ("margins of a word", "near_i * near + far_i", "near_i * near - far_i"),
    ("one neighbour fewer", "enough = below >= k", "enough = below >= k - 1"),
    ("half of the range", "for _ in range(32):", "for _ in range(20):"),
    ("the margin of a query", "+ 2.0 * margin", "+ margin"),
    ("bounds not raised", "top + tl.abs(top) *", "top - tl.abs(top) *"),
    ("no second bound", "filled & ~(low > tau[:, None])", "filled"),
    ("words that may not be dropped", "filled & ~(low > tau[:, None])", "filled & (low <= tau[:, None])"),
    ("words that follow", "tl.cumsum(held, axis=1) - held", "tl.cumsum(held, axis=1)"),
    ("lists longer than a tile", "place += tl.sum(held, axis=1)", "place += 0"),
    ("numbers of rows", "(start_row + rows.to(tl.int64))", "rows.to(tl.int64)"),
]
