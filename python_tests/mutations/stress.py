"""Ways to break triton_kernels/stress.py."""

TEST = "test_stress_kernel.py"
MUTATIONS = [
    ("points beyond the end", "off = tl.where(keep, a - b, 0.0)", "off = a - b"),
    ("a square", "value += off * off", "value += tl.abs(off)"),
    ("the sign of y's weights", "weight = slope(-off, b)", "weight = slope(off, b)"),
    ("a wrong distance", "weight = slope(off, a)", "weight = slope(off, b)"),
    ("the own row", "+ total[:, None] * own", "- total[:, None] * own"),
    ("one tile of columns", "tl.load(at, mask=keep, other=0.0) - product", "0.0 - product"),
    ("half", "2.0 * off", "1.0 * off"),
    ("the last coordinate", "inside = along < d", "inside = along < d - 1"),
]
