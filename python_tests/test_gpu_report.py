"""The GPU report: loops are read rightly, what it says of the headline search, and that its bars can be missed."""

from __future__ import annotations

import pytest

from msma_fast.backends.triton import interpreted

pytest.importorskip("triton")
if interpreted():
    pytest.skip("a process that interprets kernels does not compile them", allow_module_level=True)

import torch

from benchmarks.gpu import bound, cuda, page, sass
from benchmarks.gpu.compiled import compiled
from benchmarks.gpu.kernels import few_coordinates, knn, ksg_few
from benchmarks.gpu.traffic import Traffic
from benchmarks.gpu.variants import variants

# A loop of three instructions within one of seven; one that waits, laid out behind the end, and its way back.
LISTING = """
        /*0000*/                   MOV R1, RZ ;
        /*0010*/              @!P0 EXIT ;
.L_x_0:
        /*0020*/                   LDG.E R2, [R4] ;
.L_x_1:
        /*0030*/                   HMMA.16816.F32.BF16 R8, R4, R6, R8 ;
        /*0040*/                   IADD3 R3, R3, 0x1, RZ ;
        /*0050*/              @!P1 BRA `(.L_x_1) ;
        /*0060*/              @!P3 BRA `(.L_x_2) ;
.L_x_3:
        /*0070*/                   FFMA R2, R2, R2, R2 ;
        /*0080*/               @P2 EXIT ;
        /*0090*/                   BRA `(.L_x_0) ;
.L_x_2:
        /*00a0*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R1], R2 ;
        /*00b0*/              @!P0 BRA `(.L_x_2) ;
        /*00c0*/                   BRA `(.L_x_3) ;
"""


def test_loops_of_a_listing() -> None:
    code = sass.instructions(LISTING)
    found = sass.loops(code)
    assert [(loop.head, loop.depth, len(loop.body)) for loop in found] == [(2, 1, 11), (3, 2, 3), (10, 2, 2)]
    counts = bound.counts(code, warps=4)
    assert counts.issued == (2.0, 8.0, 2.0)  # what waits is passed once, and the matrix instruction is counted apart
    assert counts.products == (0.0, 0.0, 4 * 2.0 * 16 * 8 * 16)


def test_the_headline_search_can_reach_its_bars() -> None:
    """knn of 50,000 rows in 576 dimensions, k = 15, on sm_90; with the candidates counted on real activations."""
    largest = next(knn.ops(90))
    assert (largest.n, largest.d, largest.k) == (50_000, 576, 15)
    alone, overlapped = largest.shares()
    assert 0.55 <= alone < overlapped <= 1
    assert overlapped >= 0.70
    # These are the kernels' shares. The memory of what is around them takes a quarter to a third of the op's.
    glued, glued_overlapped = largest.shares(glue=True)
    assert 0.40 <= glued < glued_overlapped < 0.64
    # Every tile in the first pass, and ten times as many candidates, are not free.
    crowded = knn.op(90, 50_000, 576, 15, candidates=300.0)
    assert crowded.shares()[0] < alone - 0.1


@pytest.mark.skipif(not cuda.available(), reason="nvcc or c++filt is not here")
def test_the_headline_search_with_lists_in_cuda_can_reach_its_bars() -> None:
    for architecture, bar in ((80, 0.70), (90, 0.60)):
        largest = next(cuda.ops(architecture))
        assert (largest.n, largest.d, largest.k) == (50_000, 576, 15)
        alone, overlapped = largest.shares()
        assert bar <= alone < overlapped <= 1
        assert alone > next(knn.ops(architecture)).shares()[0]
    kernels = cuda.functions("collect", 90)
    always, never = (cuda._collect(kernels[cuda.COLLECT], 90, 576, 1.0, votes) for votes in (1.0, 0.0))
    assert 300 < always.issue - never.issue < always.issue / 2  # what a vote that finds nobody saves
    without = kernels[cuda.COLLECT]._replace(sass=kernels[cuda.COLLECT].sass.replace("HMMA", "NOMMA"))
    with pytest.raises(ValueError, match="operations in the loop over coordinates"):
        cuda._collect(without, 90, 576, 1.0, 1.0)


@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_counts_in_few_coordinates_are_near_their_issue_bound(architecture: int) -> None:
    for op in few_coordinates.ops(architecture):
        assert 0.8 <= op.shares()[0] <= 1


@pytest.mark.parametrize(("architecture", "word"), [(80, "HMMA"), (90, "HGMMA"), (100, "UTCHMMA")])
def test_products_that_are_not_in_the_code_are_noticed(architecture: int, word: str) -> None:
    for collect in (each for each in variants() if each.op == "knn" and not each.slow):
        configuration = collect.fitting(architecture)[0]
        found = compiled(collect, configuration, architecture)
        cycles = bound.passed(collect, configuration, found, architecture, 576, 1, 1).mma
        products = 2.0 * bound.entries(collect, configuration) * 576
        assert cycles == pytest.approx(products / bound.PEAK[architecture], rel=0.01)
        without = found._replace(sass=found.sass.replace(word, "NOMMA"))
        with pytest.raises(ValueError, match="operations a tile"):
            bound.passed(collect, configuration, without, architecture, 576, 1, 1)
        assert 0 < bound.occupancy(found, configuration, architecture) <= 1


def test_a_shape_in_a_register_is_read() -> None:
    listing = """
        /*0000*/                   UMOV UR5, 0x4200490 ;
        /*0010*/                   UMOV UR6, 0x8400490 ;
        /*0020*/                   UTCHMMA gdesc[UR28], gdesc[UR26], tmem[UR30], tmem[UR4], idesc[UR5], !UPT ;
        /*0030*/                   UTCHMMA gdesc[UR28], gdesc[UR26], tmem[UR30], tmem[UR4], idesc[UR6], UPT ;
"""
    words = [each.word for each in bound.shaped(sass.instructions(listing))]
    assert words[2:] == ["UTCHMMA.64x128x16", "UTCHMMA.128x256x16"]
    assert bound.counts(sass.instructions(listing), warps=4).products[0] == 2.0 * 16 * (64 * 128 + 128 * 256)


def test_bytes_that_torch_moves() -> None:
    x = torch.zeros(100, 10)
    with Traffic() as seen:
        one = x.T + 1  # a view moves nothing
        one.mul_(2)
        assert seen.bytes == 2 * 2 * 4000
        x[torch.arange(5)]  # the indices, and what they pick
        assert seen.bytes == 16000 + 2 * 40 + 2 * 200
        x[:1].expand(100, 10) + x[0, 0]
        assert seen.bytes == 16480 + 40 + 4 + 4000
        seen.paused = True
        x * 2
        assert seen.bytes == 20524


def test_the_glue_of_a_search_is_counted() -> None:
    few, many, wide = (knn.glue(50_000, d, 15, found, 256) for d, found in ((64, 20), (64, 200), (576, 20)))
    # Rows are read twice and written in bfloat16, a quarter of those counted here are the sample of the shift; words and
    # bounds of a list that is full are read twice, upper bounds written.
    assert 28 * 544 + 20 * 100 < few < many - 180 * 100
    assert 2 * 4 + 2 < (wide - few) / 512 < 2 * 4 + 2 + 10


def test_mutual_information_in_few_coordinates_is_bound_by_its_keys() -> None:
    """The joint search looks at every pair twice, which leaves half of what one look would take."""
    for op in ksg_few.ops(90):
        assert len(op.passes) == 4
        assert 0.5 <= op.shares()[0] < 1


def test_the_page_names_what_spills() -> None:
    kernel = {
        "kernel": "k[a<b]", "arch": "sm_90", "default": True, "blocks": {"B": 8}, "warps": 4, "registers": 255,
        "spill_bytes": 16, "shared_bytes": 2048, "occupancy": 0.5, "tensor_core": False, "instructions_per_entry": None,
    }  # fmt: skip
    assert "k[a<b]" in page.text({"kernels": [kernel], "ops": []})
    assert "none spills" in page.text({"kernels": [kernel | {"spill_bytes": 0}], "ops": []})
    assert "k[a&lt;b]" in page.html({"kernels": [kernel], "ops": []})


def test_the_page_tells_an_op_with_glue_from_its_kernels() -> None:
    shares = {
        "bound_share": 0.57, "bound_share_overlapped": 0.94, "bound_share_with_glue": 0.27,
        "bound_share_overlapped_with_glue": 0.32,
    }  # fmt: skip
    op = {"op": "knn", "arch": "sm_90", "n": 50000, "d": 576, "k": 15, "bound": "tensor cores"} | shares
    lines = page.text(
        {"kernels": [], "ops": [op, op | dict.fromkeys(shares, None) | {"bound_share": 0.9}]}
    ).splitlines()
    assert lines[0].split()[-8:] == ["without", "overlap", "with", "glue", "with", "overlap", "with", "glue"]
    assert lines[1].split()[-4:] == ["0.57", "0.27", "0.94", "0.32"]
    assert lines[2].split()[-1] == "0.90"
