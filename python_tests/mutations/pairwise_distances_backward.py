"""Ways to break triton_kernels/pairwise_distances_backward.py."""

TEST = "test_pairwise_distances.py"
MUTATIONS = [
    ("the sign of a difference", "(a > 0).to(a.dtype) - (a < 0)", "(a >= 0).to(a.dtype) - (a < 0)"),
    ("a block forgotten", "if ADD:", "if not ADD:"),
    ("the order of a power", "(p - 1) * (tl.log2", "p * (tl.log2"),
    ("every coordinate the largest", "(tl.abs(a) == second)", "(tl.abs(a) <= second)"),
    ("ties not counted", "count += (", "count = ("),
    ("the one of a logarithm", "tl.log(x / y) + 1", "tl.log(x / y)"),
    ("the sign of the second side", "tl.where(y > 0, -y / x, 0.0)", "tl.where(y > 0, y / x, 0.0)"),
    ("a coordinate at zero", "/ 2, -0.5)", "/ 2, 0.5)"),
    (
        "others' weights",
        "weight_ptr += tl.cast(row, tl.int64) * m * BLOCK_N",
        "weight_ptr += tl.cast(row, tl.int64) * 0",
    ),
]
