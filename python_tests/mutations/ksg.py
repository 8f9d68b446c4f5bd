"""Ways to break triton_kernels/ksg.py."""

TEST = "test_ksg.py"
MUTATIONS = [
    ("rows of the other side of the margin", "edge = 2 if SIGN < 0 else 3", "edge = 3 if SIGN < 0 else 2"),
    ("sign of the margin", "SIGN * tl.load(margin_ptr + rows)", "-SIGN * tl.load(margin_ptr + rows)"),
    ("second term of the margin", "(far_i[:, None] * far + ", "(0.0 * far_i[:, None] * far + "),
    ("half the product", "margin - 2.0 * dot", "margin - 1.0 * dot"),
    ("no common unit", "* factor + base", "+ base"),
    ("unit of the rows", "size + rows) * factor", "size + rows)"),
    ("the first sample alone (bounds)", "upper = larger(upper, tile", "upper = tl.minimum(upper, tile"),
    ("the first sample alone (lists)", "lower = tile_bounds(y", "lower = tile_bounds(x"),
    ("largest bin", "tl.where(upper < best", "tl.where(upper > best"),
    ("second labels", "(partner[:, None] != tl", "(partner[:, None] == tl"),
    ("partners of the first pair", "partner_ptr += tl.cast(pair, tl.int64) * size", "partner_ptr += 0"),
    ("a list beyond its end", "mask=found & (count < limit)", "mask=found"),
    ("one candidate a tile", "while tl.min(place, axis=0) < BLOCK_M", "if tl.min(place, axis=0) < BLOCK_M"),
    ("the last candidate", "code > place[:, None]", "code > place[:, None] + 1"),
    ("the first block of rows", "row, split, pair = begin + tl", "row, split, pair = tl"),
    ("a share of the columns", 'split(pairs.n, tile["BLOCK_M"]', 'split(pairs.n - 64, tile["BLOCK_M"]'),
]
