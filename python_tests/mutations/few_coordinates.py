"""Ways to break triton_kernels/few_coordinates.py."""

TEST = "test_direct.py"
MUTATIONS = [
    ("strict comparison", "else key <= tops[t]", "else key < tops[t]"),
    ("a coordinate too few", "for c in tl.static_range(1, WIDTH):", "for c in tl.static_range(1, WIDTH - 1):"),
    ("order of the lanes", "lanes[2], lanes[3], lanes[4]", "lanes[4], lanes[3], lanes[2]"),
    ("equal rows", "equal = equal & (xs[c] == ys[c])", "equal = equal & (xs[c] != ys[c])"),
    ("the query itself, few coordinates", "tl.abs(own - j) > window", "tl.abs(own - j) >= window"),
    ("columns after the query's own", "tl.max(own) + window + 1, near)", "tl.max(own) + window, near)"),
    ("columns before the query's own", "tl.min(own) - window, first)", "tl.min(own) - window + 1, first)"),
    ("points counted twice", "last = near\n", "last = last\n"),
    ("second labels, few coordinates", "(partner != tl.load", "(partner == tl.load"),
]
