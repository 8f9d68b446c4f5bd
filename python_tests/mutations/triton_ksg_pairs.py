"""Ways to break msma_fast/backends/triton_ksg_pairs.py."""

TEST = "test_ksg.py"
MUTATIONS = [
    ("the bound of a nearer neighbour", "largest=False).values[..., -1]", "largest=False).values[..., 0]"),
    ("lists that are full", "lost = (number > ", "lost = (number < 0 * "),
    ("units far apart", "| ~able[:, None]", ""),
    ("units exchanged", "[least / units[a], least / units[b]]", "[least / units[b], least / units[a]]"),
    ("margins of rows inwards", "c - (lost + up * c), c + (lost + up * c)", "c + (lost + up * c), c - (lost + up * c)"),
    ("margins of columns inwards", "points.c - points.col, points.c + points.col", "points.c, points.c"),
    ("a distance alone is tied", "within > at + 1", "within > at"),
    ("a closed count", "below(eps)", "eps"),
    ("the side of the last neighbour", "side.cummax(1).values[:, at]", "side[:, at]"),
    ("partners of the first permutation", "pair if self.partners.shape[0] > 1 else 0", "0"),
]
