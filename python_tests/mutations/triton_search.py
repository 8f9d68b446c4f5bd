"""Ways to break msma_fast/backends/triton_search.py."""

TEST = "test_knn.py"
MUTATIONS = [
    ("the margin of a query", "top = value + 2.0 * margin", "top = value + 0.0 * margin"),
    (
        "rows with fewer than k points",
        ".clamp_max(torch.finfo(torch.float32).max).to(torch.float32)",
        ".to(torch.float32)",
    ),
    ("no order", "(row * search.y.values.shape[0] + column).argsort()", "row.argsort(descending=True)"),
    ("full lists", "crowded = lists[2] > limit", "crowded = lists[2] > 2 * limit"),
    ("queries after the first block", "tau, total, m, start)", "tau, total, m, 0)"),
    ("no margin in the second bound", "word, m, k, ALLOWED", "word, m, k, -ALLOWED"),
    ("a second bound too low", "word, m, k, ALLOWED", "word, m, k - 1, ALLOWED"),
    ("the least margins of a word", "amax(1) for each in margins", "amin(1) - 1 for each in margins"),
]
