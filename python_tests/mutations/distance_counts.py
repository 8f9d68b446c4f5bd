"""Ways to break triton_kernels/distance_counts.py."""

TEST = "test_distance_counts_kernel.py"
MUTATIONS = [
    ("order of the lanes", "elif u == 5:", "elif u == 6:"),
    ("equal rows", "equal = equal & (x == y)", "equal = equal & (x != x)"),
    ("last coordinates", "range(0, d, 8)", "range(0, d - 8, 8)"),
    ("a bound on a distance", "step - 1) <= key", "step - 1) < key"),
    ("search too short", "while step > 0:", "while step > 1:"),
    ("NaN in the first place", "tl.where(key == key, place, limits)", "place"),
    ("window", "i[:, None] > window", "i[:, None] >= window"),
    ("labels", "label[:, None] != other[None, :]", "label[:, None] == other[None, :]"),
    ("pairs that do not count", "tl.where(keep & (place >= 0)", "tl.where((place >= 0)"),
    ("places of a later launch", "& (place < BINS - 1), place", ", place"),
    ("places of an earlier launch", "keep & (place >= 0) &", "keep &"),
    ("the first launch again", "place, limits) - start", "place, limits)"),
    ("the bin of what does not count", "asked = (found > 0) & (bins < BINS - 1)", "asked = found > 0"),
    (
        "blocks right of the diagonal",
        "first = tl.maximum(first, row // BLOCK)",
        "first = tl.maximum(first, row // BLOCK + 1)",
    ),
    ("norm of one side", '[:, None] if KIND == "cosine" else 1.0', '[:, None] * 2.0 if KIND == "cosine" else 1.0'),
    ("padding that is reached", 'float("nan")', 'float("-inf")'),
    ("places of a launch", 'range(0, size + 1, tile["BINS"] - 1)', 'range(0, size + 1, tile["BINS"])'),
]
