"""Ways to break triton_kernels/pairwise_distances.py."""

TEST = "test_pairwise_distances.py"
MUTATIONS = [
    ("one float32 sum", "return total, low + ((high - (total - back)) + (part - back))", "return total, low"),
    ("squares that vanish", "values < (2.0**-47 if ROOT else 2.0**-94)", "values < 0.0"),
    ("squares that overflow", "large = values > (2.0**50", "large = values < (0.0 * 2.0**50"),
    ("scaled back once", "again * back * back", "again * back"),
    ("the last column", "keep = (rows < n) & (cols < m)", "keep = (rows < n) & (cols < m - 1)"),
    ("no mirror image", "if HALF and above:", "if HALF and not above:"),
    (
        "a shared tile of columns",
        "y_ptr += tl.cast(col, tl.int64) * d * BLOCK",
        "y_ptr += tl.cast(row, tl.int64) * d * BLOCK",
    ),
    ("the diagonal", "tl.where(rows[:, None] == cols[None, :], 0.0, values)", "values"),
    ("an infinite ratio", '(ratio == float("inf")) & (y > 0)', "(ratio != ratio) & (y > 0)"),
    (
        "the last row of M",
        "row_of_m = m_ptr + tl.cast(tl.minimum(i, d - 1)",
        "row_of_m = m_ptr + tl.cast(tl.minimum(i, d - 2)",
    ),
    ("half the divergence", "relative_term(y, middle)) / 2", "relative_term(y, middle))"),
    ("hellinger's factor", "tl.sqrt(keys) / 1.4142135623730951", "tl.sqrt(keys)"),
]
