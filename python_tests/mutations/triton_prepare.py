"""Ways to break msma_fast/backends/triton_prepare.py."""

TEST = "test_prepare.py"
MUTATIONS = [
    ("queries beyond the points", "most = torch.maximum(most, prepare.largest(left).amax())", "most = most + 0"),
    ("what the picture loses", "else loss * sums.x2, lost)", "else 0.0, lost)"),
    ("what cosine's picture loses", "loss * scale * scale if cosine", "0.0 if cosine"),
    ("scales exchanged", "((x, left, scale_x), (y, right, scale_y))", "((x, left, scale_y), (y, right, scale_x))"),
    ("the shift of products", "offset = 2.0 *", "offset = 1.0 *"),
    ("what products lose", "points = points._replace(r=points.r + ", "points = points._replace(r=points.r + 0.0 * "),
    ("norms of the sample", "sample = sample / rows.norms[::step, None]", "sample = sample + 0.0"),
    ("residuals squared", "residual.sqrt()", "residual"),
]
