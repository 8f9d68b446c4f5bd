"""Ways to break msma_fast/backends/triton_radius_count.py."""

TEST = "test_radius_count.py"
MUTATIONS = [
    ("the margin of a query", "reach = screens.row_margin(screen, rows)[:, None] + ", "reach = "),
    ("surely inside too early", "(start - reach, start + reach)", "(start + reach, start + reach)"),
    ("surely outside too early", "(start - reach, start + reach)", "(start - reach, start - reach)"),
    ("edges of another origin", "start = edge - c", "start = edge"),
    ("an infinite threshold", "masked_fill(everything, most)", "masked_fill(everything, -most)"),
    ("a threshold that is NaN", "~(tops > -float", "(tops < -float"),
    ("open thresholds", "near, cols) <= tops", "near, cols) < tops"),
    ("queries after the first block", "near[real] + start", "near[real]"),
    ("the radius of a pair", "(near * radii + which)[hit]", "(near * radii)[hit]"),
    ("the padding listed", "real = cols < y", "real = cols <= y"),
    ("rows whose list is too long", "if rest.numel():", "if False:"),
    ("a longer list", "direct=direct, longest=_LONGEST)", "direct=direct, longest=limit)"),
]
