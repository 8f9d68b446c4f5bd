"""Ways to break triton_kernels/centered_products.py."""

TEST = "test_centered_products.py"
MUTATIONS = [
    ("no root", "value = tl.sqrt(square)", "value = square"),
    ("sign of the exponent", "tl.exp(-scale *", "tl.exp(scale *"),
    ("zero times infinity", "tl.where(apart, square, 1.0)), 1.0)", "square), 0.0)"),
    ("no shift", "value - shift, 0.0)", "value, 0.0)"),
    ("rows beyond the end", "tl.where(keep, value", "tl.where(keep | True, value"),
    ("half-way pairs twice", "& (block >= apart)", "& (block >= 2 * apart)"),
    ("half-way pairs never", "((2 * apart == blocks) &", "((2 * apart == blocks) |"),
    ("the same block", "(block + apart) % blocks", "block"),
    ("every pair once", "times = 2.0", "times = 1.0"),
    ("the diagonal twice", "if apart > 0:", "if apart >= 0:"),
    ("column sums left out", "own.sum(1) + others.sum((1, 3)).flatten(1)", "own.sum(1)"),
    ("columns of another tile", "other * SPLIT + tile % SPLIT", "block * SPLIT + tile % SPLIT"),
    ("norms of one side", "tl.store(out + 2, times * tl.sum(b * b))", "tl.store(out + 2, times * tl.sum(a * b))"),
    ("launches left out", "range(0, distances, together)", "range(0, together, together)"),
]
