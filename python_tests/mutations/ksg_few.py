"""Ways to break triton_kernels/ksg_few.py."""

TEST = "test_ksg.py"
MUTATIONS = [
    ("a coordinate too few", "for c in tl.static_range(1, WIDTH):", "for c in tl.static_range(1, WIDTH - 1):"),
    ("the first sample alone (bounds)", "half = tl.maximum(half, half_key(ys", "half = tl.minimum(half, half_key(ys"),
    ("the first sample alone (lists)", "top, KIND, X) & is_near(ys", "top, KIND, X) | is_near(ys"),
    ("largest bin", "(tl.minimum(best[b], half),)", "(tl.maximum(best[b], half),)"),
    ("the row itself", "keep = tl.abs(rows - j) > window", "keep = tl.abs(rows - j) >= window"),
    ("columns before the row's own", "(row - window) // UNIT * UNIT", "row"),
    ("columns after the row's own", "tl.cdiv(row + BLOCK + window, UNIT)", "tl.cdiv(row, UNIT)"),
    ("labels", "(label != tl.load", "(label == tl.load"),
    ("second labels", "(partner != tl.load", "(partner == tl.load"),
    ("bits of a word", "word | (one << b)", "one << b"),
    ("a list beyond its end", "mask=found & (count < limit)", "mask=found"),
    ("rows of the block", "row, pair = begin + tl", "row, pair = tl"),
]
