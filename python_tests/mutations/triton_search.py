"""Ways to break msma_fast/backends/triton_search.py."""

TEST = "test_knn.py"
MUTATIONS = [
    ("the margin of a query", "top = value + 2.0 * margin", "top = value + 0.0 * margin"),
    (
        "rows with fewer than k points",
        ".clamp_max(torch.finfo(torch.float32).max).to(torch.float32)",
        ".to(torch.float32)",
    ),
    ("no margin in the second bound", "2.0 * _ROUNDED * (x_near", "0.0 * _ROUNDED * (x_near"),
    ("a bound that cannot be told", "~filled | low.isinf()", "~filled"),
    ("no second bound", "filled &= ~(low > tau[:, None])", "filled &= ~(low > top[: end - start, None])"),
    ("a second bound too low", "tau = _raised(_kth(upper, k), margin)", "tau = _raised(_kth(upper, k - 1), margin)"),
    ("the padding listed", "real = column < m ", "real = column >= 0 "),
    ("no order", "(row * m + column).argsort()", "row.argsort(descending=True)"),
    ("full lists", "crowded = count > limit", "crowded = count > 2 * limit"),
    ("queries after the first block", "Candidates(start + row[order]", "Candidates(row[order]"),
]
