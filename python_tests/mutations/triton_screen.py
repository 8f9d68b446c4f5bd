"""Ways to break msma_fast/backends/triton_screen.py."""

TEST = "test_knn.py"
MUTATIONS = [
    ("labels of queries that do not exist", "padded(who.groups, 0, rows)", "who.groups"),
    ("labels of points that do not exist", "padded(who.point_groups, 0, columns)", "who.point_groups"),
    ("columns of queries that do not exist", "spare = padded(own, 0, rows).shape[0] - own.shape[0]", "spare = 0"),
    ("a block without its padding", "slice(start, end + -(end - start) % ROWS)", "slice(start, end)"),
    ("points that do not exist", 'padded(c, float("inf"))', "padded(c, 0.0)"),
    (
        "margins exchanged",
        "Side(right.b, padded(near, 0.0), padded(far",
        "Side(right.b, padded(far, 0.0), padded(near",
    ),
]
