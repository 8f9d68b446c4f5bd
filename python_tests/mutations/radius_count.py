"""Ways to break triton_kernels/radius_count.py."""

TEST = "test_radius_count.py"
MUTATIONS = [
    ("a lower bound as an upper one", "sure = words_of(upper < low", "sure = words_of(lower < low"),
    ("an upper bound as a lower one", "words_of(~(lower > high)", "words_of(~(upper > high)"),
    ("pairs counted and listed", "& ~gone & ~sure", "& ~gone"),
    ("excluded pairs counted", "BLOCK_N, WORDS) & ~gone\n", "BLOCK_N, WORDS)\n"),
    ("labels", "label[:, None] == tl.load", "label[:, None] != tl.load"),
    ("ones of a word", "(word >> 16)) & 63", "(word >> 16)) & 31"),
    ("radius of an entry", "t * words + word[None, :]", "word[None, :]"),
    ("overflowing lists", "hit & (place < limit)", "hit & (place <= limit)"),
    ("radius of a comparison", "at = t * tl.cast(n, tl.int64) + rows", "at = 0 * tl.cast(n, tl.int64) + rows"),
    ("counts of the last tile", "total += ones(sure)", "total = ones(sure)"),
    ("counts of one", "inside_ptr + at, found, mask=found > 0", "inside_ptr + at, found, mask=found > 1"),
    ("bit of a pair", "* WORD.value + bit", "* WORD.value + bit + 1"),
    ("lists that are full", "count > limit, 0, count", "count >= limit, 0, count"),
]
