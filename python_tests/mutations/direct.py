"""Ways to break triton_kernels/direct.py."""

TEST = "test_direct.py"
MUTATIONS = [
    ("equal rows of a tile", "equal = equal & (x == y)", "equal = equal & (x != y)"),
    ("lane of a tile", "n, m, 6, d, 8, KIND, P)", "n, m, 5, d, 8, KIND, P)"),
    ("NaN lost by the maximum", "size = tl.abs(x - y).to(", "size = tl.maximum(tl.abs(x - y), 0.0).to("),
    ("the query itself", "tl.load(own_ptr + rows) - cols) > window", "tl.load(own_ptr + rows) - cols) >= window"),
    ("labels", "tl.load(label_i_ptr + rows) != tl.load", "tl.load(label_i_ptr + rows) == tl.load"),
    ("second labels", "tl.load(partner_ptr + rows)[:, None] != tl", "tl.load(partner_ptr + rows)[:, None] == tl"),
    ("points beyond the end", "keep = cols < m\n", "keep = cols <= m\n"),
    ("counts of a tile", "tl.sum(inside, axis=1)", "tl.max(inside, axis=1)"),
    ("counts of the last tile", "total += inside\n", "total = inside\n"),
    ("counts of one", "inside_ptr + at, found, mask=found > 0", "inside_ptr + at, found, mask=found > 1"),
    ("largest of a bin", "keep & (keys < best)", "keep & (keys > best)"),
    ("neighbours at the bound", "keep = keep & ~(keys > top)", "keep = keep & (keys < top)"),
    ("overflowing lists", "keep = keep & (place < limit)", "keep = keep & (place <= limit)"),
    ("norm left out", "tl.load(norm_y_ptr + col + j)\n", "tl.load(norm_y_ptr + col + i)\n"),
]
