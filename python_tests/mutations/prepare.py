"""Ways to break triton_kernels/prepare.py."""

TEST = "test_prepare.py"
MUTATIONS = [
    ("truncation", "(bits + 0x7FFF + ((bits >> 16) & 1))", "bits"),
    ("ties away from zero", "0x7FFF + ((bits >> 16) & 1)", "0x8000"),
    ("numbers that underflow in a product", "tl.abs(b) < TINY", "tl.abs(b) < 0.0"),
    ("no shift", "keep, z - tl.load(middle_ptr + cols, mask=cols < d, other=0.0)[None, :], 0.0", "keep, z, 0.0"),
    ("coordinates that do not exist", "return tl.where(keep, z - tl", "return tl.where(keep | True, z - 1 - tl"),
    ("norms", "z = z / norm[:, None]", "z = z / (norm + 1e-3)[:, None]"),
    ("the least of a row", "most = tl.maximum(most, tl.abs(z))", "most = tl.minimum(most, tl.abs(z))"),
    ("negative numbers", "most = tl.maximum(most, tl.abs(z))", "most = tl.maximum(most, z)"),
    ("residuals of the last block alone", "residual += lost * lost", "residual = lost * lost"),
    ("lengths of stored rows", "stored += wide * wide", "stored += z * z"),
    ("lengths of the rows", "square += z * z", "square += wide * wide"),
    ("the scale", "n, d, NORMS) * scale", "n, d, NORMS) * (2 * scale)"),
]
