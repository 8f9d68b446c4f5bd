"""Ways to break triton_kernels/gaussian_kernel_sums.py."""

TEST = "test_gaussian_kernel_sums.py"
MUTATIONS = [
    ("sign of the exponent", "tl.sum(tl.exp(-tl.load", "tl.sum(tl.exp(tl.load"),
    (
        "every pair is kept",
        "kept(own * ROWS, tile * BLOCK, n, m, SELF, ROWS, BLOCK), square",
        "square == square, square",
    ),
    (
        "blocks left of the diagonal",
        "first = tl.maximum(first, own * ROWS // BLOCK)",
        "first = tl.maximum(first, own * ROWS // BLOCK + 1)",
    ),
    ("one bandwidth for all", "tl.where(widths == b, found", "tl.where(widths == 0, found"),
    (
        "last column block",
        "stop = tl.minimum(first + each, tl.cdiv(m, BLOCK))",
        "stop = tl.minimum(first + each, m // BLOCK)",
    ),
    ("a share overwritten", "at = (own * tl.num_programs(1) + share)", "at = own"),
    ("half a self sum", "* (2 if y is None else 1)", "* 1"),
    ("more bandwidths than fit", "scales.split(WIDTHS)", "[scales[:WIDTHS]]"),
    ("sign of the gradient", "factors = -2 * weights", "factors = 2 * weights"),
    ("half a self gradient", "return 2 * _gradient(x, None", "return _gradient(x, None"),
    ("one bandwidth of a gradient", "pull += tl.load(factor_ptr + b)", "pull = tl.load(factor_ptr + b)"),
    ("last coordinates of a gradient", "(along + t < d)[None, :]", "(along + t < 32)[None, :]"),
    ("nothing added up", "sums = tl.dot(pull, points, sums,", "sums = tl.dot(pull, points, 0.0 * sums,"),
    ("row totals", "total += tl.sum(pull, axis=1)", "total = tl.sum(pull, axis=1)"),
    ("the pull in float32", "tl.dot(pull, points, sums,", "tl.dot(pull.to(tl.float32).to(tl.float64), points, sums,"),
    ("rows not less the mean", "others.to(torch.float64) - middle", "others.to(torch.float64)"),
    ("gradient of y", "_gradient(y, x, middle, scales, factors)", "_gradient(y, x, middle, scales, -factors)"),
]
